"""Standard errors of scores, and the interval of the share of the baseline's loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rowcast.learning import uncertainty
from tests.learning.fits import numbers, trained

N_SAMPLES, N_ROWS = 300, 150
CLASSES = np.array(["no", "yes"], object)


def sample_of_quantities(random: np.random.Generator) -> tuple[Any, ...]:
    predictions = random.normal(size=N_ROWS)
    truth = predictions + random.normal(size=N_ROWS) * (1 + np.abs(predictions))
    return None, truth, predictions, np.zeros(N_ROWS)


def sample_of_classes(random: np.random.Generator) -> tuple[Any, ...]:
    shares = random.uniform(0.05, 0.95, N_ROWS)
    truth = CLASSES[(random.uniform(size=N_ROWS) < shares).astype(int)]
    even = np.full((N_ROWS, 2), 0.5)
    return CLASSES, truth, np.stack([1 - shares, shares], axis=1), even


def scores_of(
    classes: Any, truth: np.ndarray, predictions: np.ndarray
) -> dict[str, float]:
    if classes is not None:
        of_truth = np.where(truth == "yes", predictions[:, 1], predictions[:, 0])
        hits = (predictions[:, 1] > 0.5) == (truth == "yes")
        return {"accuracy": hits.mean(), "log_loss": -np.log(of_truth).mean()}
    squares = np.mean((truth - predictions) ** 2)
    return {
        "mae": np.abs(truth - predictions).mean(),
        "rmse": squares**0.5,
        "r2": 1 - squares / truth.var(),
    }


@pytest.mark.parametrize(
    ("sample", "loss"),
    [(sample_of_quantities, "rmse"), (sample_of_classes, "log_loss")],
    ids=["quantities", "classes"],
)
def test_errors_are_how_far_scores_of_samples_lie_apart(sample: Any, loss: str) -> None:
    random = np.random.default_rng(0)
    scores, found, shares = [], [], []
    for _ in range(N_SAMPLES):
        classes, truth, predictions, baseline = sample(random)
        account = uncertainty.from_rows(classes, truth, predictions, baseline, None)
        assert account is not None
        found.append(account)
        scores.append(scores_of(classes, truth, predictions))
        of_baseline = scores_of(classes, truth, baseline)[loss]
        shares.append(scores[-1][loss] / of_baseline)
    for name in found[0]["standard_errors"]:
        errors = [account["standard_errors"][name] for account in found]
        apart = np.std([each[name] for each in scores])
        assert np.mean(errors) == pytest.approx(apart, rel=0.15)
    intervals = [account["share_of_baseline"] for account in found]
    assert [each["value"] for each in intervals] == pytest.approx(shares)
    truth_of_all = np.mean(shares)
    n_right = sum(each["low"] < truth_of_all < each["high"] for each in intervals)
    assert n_right / N_SAMPLES == pytest.approx(0.95, abs=0.06)


def test_rows_without_weight_change_nothing() -> None:
    random = np.random.default_rng(0)
    _, truth, predictions, baseline = sample_of_quantities(random)
    weights = (np.arange(N_ROWS) < 100).astype(float)
    some = uncertainty.from_rows(None, truth, predictions, baseline, weights)
    parts = (truth[:100], predictions[:100], baseline[:100])
    expected = uncertainty.from_rows(None, *parts, None)
    assert some is not None
    assert expected is not None
    for member in ("standard_errors", "share_of_baseline"):
        assert some[member] == pytest.approx(expected[member])


def test_errors_of_folds_are_those_of_their_mean() -> None:
    accuracies = [0.5, 0.6, 0.7, 0.8, 0.9]
    folds = [{"accuracy": each} for each in accuracies]
    found = uncertainty.from_folds(folds, [0.5, 0.6, 0.7, 0.8, 0.9], 0.7)
    assert found is not None
    error = np.std(accuracies, ddof=1) / 5**0.5
    assert found["standard_errors"]["accuracy"] == pytest.approx(error)
    interval = found["share_of_baseline"]
    assert (interval["low"], interval["high"]) == pytest.approx(
        (0.7 - 2.78 * error, 0.7 + 2.78 * error)
    )


def test_error_follows_from_the_folds_that_define_a_score() -> None:
    folds = [
        {"accuracy": 0.5, "roc_auc": area, "f1": f1}
        for area, f1 in ((0.6, 0.7), (0.8, None), (None, None))
    ]
    found = uncertainty.from_folds(folds, [0.5, 0.6, 0.7], 0.6)
    assert found is not None
    errors = found["standard_errors"]
    assert errors["roc_auc"] == pytest.approx(0.1)
    assert "f1" not in errors


@pytest.mark.parametrize(
    "predictions", [np.full(10, 1e200), np.zeros(10)], ids=["too large", "constant"]
)
def test_what_is_not_defined_is_none(predictions: np.ndarray) -> None:
    found = uncertainty.from_rows(None, np.zeros(10), predictions, np.zeros(10), None)
    assert found is not None
    assert found["share_of_baseline"]["high"] is None
    assert found["standard_errors"]["r2"] is None


@pytest.mark.parametrize(
    ("validation", "source"), [("cv", "folds"), ("holdout", "rows")]
)
def test_scores_of_a_model_carry_their_errors(validation: str, source: str) -> None:
    found, _ = trained(numbers(120), "linear", validation=validation)
    account = found.validation["uncertainty"]
    assert account["source"] == source
    assert 0 < account["standard_errors"]["log_loss"] < 1
    assert account["share_of_baseline"]["high"] < 1
    assert found.verdict is not None
    assert "lower (95% interval: " in found.verdict
