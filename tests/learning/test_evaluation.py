"""The scores of a model: equal to scikit-learn's, and defined where those are not."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from rowcast.learning import evaluation
from tests.support.markdown import rows_of, section_of

RNG = np.random.default_rng(0)
N_ROWS = 500
LABELS: dict[str, np.ndarray] = {
    "strings": np.array(["no", "perhaps", "yes"], dtype=object),
    "fixed width strings": np.array(["a", "b", "c"]),
    "whole numbers": np.array([-1, 0, 7]),
    "fractions": np.array([0.5, 1.0, 2.5]),
    "booleans": np.array([False, True]),
    "two strings": np.array(["no", "yes"], dtype=object),
}


def guesses(n_classes: int, n_rows: int = N_ROWS) -> np.ndarray:
    return RNG.dirichlet(np.ones(n_classes), n_rows).astype(np.float32)


def judged(
    labels: list[Any], truth: list[Any], probabilities: Any, **more: Any
) -> dict[str, Any]:
    figures = evaluation.classification(
        np.array(labels), np.array(truth), np.array(probabilities), **more
    )
    # What JSON cannot hold is refused here.
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    return figures


@pytest.mark.parametrize(
    "weights", [None, RNG.random(N_ROWS) + 0.1], ids=["alike", "weighted"]
)
@pytest.mark.parametrize("classes", LABELS.values(), ids=LABELS)
def test_figures_of_a_classification_are_those_of_scikit_learn(
    classes: np.ndarray, weights: np.ndarray | None
) -> None:
    probabilities = guesses(len(classes))
    codes = RNG.integers(0, len(classes), N_ROWS)
    figures = evaluation.classification(classes, classes[codes], probabilities, weights)
    json.dumps(figures, allow_nan=False)

    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    called: Any = {
        "y_true": codes,
        "y_pred": exact.argmax(axis=1),
        "sample_weight": weights,
    }
    by_rank = exact[:, 1] if len(classes) == 2 else exact
    expected = {
        "accuracy": metrics.accuracy_score(**called),
        "balanced_accuracy": metrics.balanced_accuracy_score(**called),
        "roc_auc": metrics.roc_auc_score(
            codes, by_rank, multi_class="ovr", sample_weight=weights
        ),
        "log_loss": metrics.log_loss(codes, exact, sample_weight=weights),
        "f1": metrics.f1_score(**called) if len(classes) == 2 else None,
        "f1_macro": metrics.f1_score(**called, average="macro"),
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    recalls = [row["recall"] for row in figures["classes"]]
    assert recalls == pytest.approx(list(metrics.recall_score(**called, average=None)))
    counts = metrics.confusion_matrix(codes, exact.argmax(axis=1))
    assert figures["confusion_matrix"] == {
        "labels": classes.tolist(),
        "counts": counts.tolist(),
    }


def test_classes_need_not_be_sorted() -> None:
    probabilities = guesses(3)
    truth = np.array(["a", "b", "c"])[RNG.integers(0, 3, N_ROWS)]
    sorted_figures = evaluation.classification(
        np.array(["a", "b", "c"]), truth, probabilities
    )
    figures = evaluation.classification(
        np.array(["c", "a", "b"]), truth, probabilities[:, [2, 0, 1]]
    )
    for metric in ("accuracy", "roc_auc", "log_loss", "f1_macro"):
        assert figures[metric] == pytest.approx(sorted_figures[metric])


def test_truth_of_one_class_leaves_undefined_figures_out() -> None:
    figures = judged(["a", "b"], ["a", "a"], [[0.9, 0.1], [0.8, 0.2]])
    assert (figures["accuracy"], figures["roc_auc"], figures["f1"]) == (1.0, None, None)
    assert figures["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2)
    assert figures["classes"][1] == {
        "label": "b",
        "precision": None,
        "recall": None,
        "f1": None,
        "n_rows": 0,
    }


def test_area_is_the_mean_over_classes_with_rows_on_both_sides() -> None:
    figures = judged(
        [0, 1, 2], [0, 0, 1], [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.3, 0.6, 0.1]]
    )
    # Class 0: one of two pairs in order; class 1: both; class 2 has no row.
    assert figures["roc_auc"] == pytest.approx((0.5 + 1.0) / 2)


def test_label_that_is_not_a_class_counts_as_a_miss() -> None:
    figures = judged(["a", "b"], ["a", "x"], [[1, 0], [1, 0]])
    assert figures["accuracy"] == 0.5
    assert figures["log_loss"] == pytest.approx(-math.log(np.finfo(float).eps) / 2)
    assert figures["confusion_matrix"] == {
        "labels": ["a", "b", "x"],
        "counts": [[1, 0, 0], [0, 0, 0], [1, 0, 0]],
    }


def test_first_of_equally_probable_classes_is_predicted() -> None:
    figures = judged([0, 1], [0, 1], [[0.5, 0.5], [0.5, 0.5]])
    assert (figures["accuracy"], figures["roc_auc"]) == (0.5, 0.5)


def test_rows_without_weight_count_nowhere() -> None:
    probabilities, truth = guesses(3), RNG.integers(0, 3, N_ROWS)
    weights = (np.arange(N_ROWS) % 2).astype(float)
    weighted = evaluation.classification(np.arange(3), truth, probabilities, weights)
    without = evaluation.classification(np.arange(3), truth[1::2], probabilities[1::2])
    for metric in evaluation.CLASSIFICATION_SCORES:
        assert weighted[metric] == pytest.approx(without[metric]), metric
    for shown in ("classes", "confusion_matrix", "calibration"):
        assert weighted[shown] == without[shown], shown


@pytest.mark.parametrize("n_weightless", [0, 3])
def test_no_rows_give_no_figures(n_weightless: int) -> None:
    nothing = np.zeros(n_weightless)
    figures = evaluation.classification(
        np.arange(2), nothing, guesses(2, n_weightless), nothing
    )
    assert {figures[metric] for metric in evaluation.CLASSIFICATION_SCORES} == {None}
    assert figures["calibration"] == []
    figures = evaluation.regression(nothing, nothing, nothing)
    assert {figures[metric] for metric in evaluation.REGRESSION_SCORES} == {None}
    assert set(figures["residual_quantiles"].values()) == {None}


def test_over_a_hundred_classes_are_not_shown_one_by_one() -> None:
    figures = evaluation.classification(
        np.arange(101), np.arange(101), guesses(101, 101)
    )
    for name in ("classes", "confusion_matrix", "roc_auc"):
        assert figures[name] is None
    assert "101 classes" in figures["left_out"]
    shown = evaluation.classification(np.arange(100), np.arange(100), guesses(100, 100))
    assert shown["left_out"] is None


def test_calibration_of_two_classes_is_that_of_the_second() -> None:
    figures = judged([0, 1], [1, 0, 1], [[0.8, 0.2], [0.72, 0.28], [0.0, 1.0]])
    assert [
        (b["from"], b["to"], b["n_rows"], b["share"]) for b in figures["calibration"]
    ] == [
        (0.2, 0.3, 2, 0.5),
        (0.9, 1.0, 1, 1.0),
    ]
    assert figures["calibration"][0]["mean_probability"] == pytest.approx(0.24)


def test_calibration_of_more_classes_is_that_of_the_predicted_one() -> None:
    figures = judged([0, 1, 2], [0, 1], [[0.7, 0.2, 0.1], [0.0, 0.25, 0.75]])
    (only,) = figures["calibration"]
    assert (only["from"], only["n_rows"], only["share"]) == (0.7, 2, 0.5)


@pytest.mark.parametrize(
    "weights", [None, RNG.random(N_ROWS) + 0.1], ids=["alike", "weighted"]
)
def test_figures_of_a_regression_are_those_of_scikit_learn(
    weights: np.ndarray | None,
) -> None:
    truth = RNG.normal(size=N_ROWS)
    predictions = truth + RNG.normal(size=N_ROWS).astype(np.float32)
    figures = evaluation.regression(truth, predictions, weights)
    assert figures["r2"] == pytest.approx(
        metrics.r2_score(truth, predictions, sample_weight=weights)
    )
    assert figures["mae"] == pytest.approx(
        metrics.mean_absolute_error(truth, predictions, sample_weight=weights)
    )
    assert figures["rmse"] == pytest.approx(
        metrics.root_mean_squared_error(truth, predictions, sample_weight=weights)
    )


def test_residuals_are_truth_minus_prediction() -> None:
    figures = evaluation.regression(np.arange(101), np.zeros(101))
    assert figures["residual_quantiles"] == pytest.approx(
        {
            "0.01": 1,
            "0.05": 5,
            "0.25": 25,
            "0.5": 50,
            "0.75": 75,
            "0.95": 95,
            "0.99": 99,
        }
    )


@pytest.mark.parametrize(
    ("truth", "known"), [([3, 3, 3], {"mae", "rmse"}), ([1e300, 0, 0], {"mae"})]
)
def test_figure_of_a_regression_that_has_no_value_is_none(
    truth: list[float], known: set[str]
) -> None:
    figures = evaluation.regression(np.array(truth), np.array([1.0, 2.0, 3.0]))
    assert {
        metric for metric in evaluation.REGRESSION_SCORES if figures[metric] is not None
    } == known


def test_infinite_prediction_is_not_judged() -> None:
    figures = evaluation.regression(np.array([1.0, 2.0]), np.array([np.inf, 2.0]))
    assert {figures[metric] for metric in evaluation.REGRESSION_SCORES} == {None}


def test_folds_have_a_mean_and_a_deviation_where_known() -> None:
    folds: list[dict[str, Any]] = [
        {"r2": 0.5, "mae": 1.0, "residual_quantiles": {}},
        {"r2": None, "mae": 3.0},
    ]
    assert evaluation.mean_of_folds(folds) == {
        "r2": {"mean": 0.5, "std": 0.0},
        "mae": {"mean": 2.0, "std": 1.0},
    }
    assert evaluation.mean_of_folds([{"f1": None}]) == {
        "f1": {"mean": None, "std": None}
    }


def test_documented_figures_are_the_figures() -> None:
    rows = rows_of(
        section_of("models.md", "Quality"), "figure", "what it is", "`null` when"
    )
    figures = [
        *judged([0, 1], [0], [[1, 0]]),
        *evaluation.regression(np.zeros(1), np.zeros(1)),
    ]
    assert [row[0].strip("`") for row in rows] == figures
