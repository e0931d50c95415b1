"""Rows that are held back, and how a model is judged on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rowcast.learning.splitting import split
from rowcast.learning.training import Plan, Rows
from tests.learning.fits import each_learner, numbers, predicted, trained


@pytest.mark.parametrize(
    ("n_rows", "asked", "said"),
    [
        (200, "auto", ("cv", 200, 160, True, False)),
        (1_000, "auto", ("split", 200, 800, True, False)),
        (9_999, "auto", ("split", 2000, 7_999, True, False)),
        (10_000, "auto", ("holdout", 1000, 9_000, False, True)),
        (200, "holdout", ("holdout", 40, 160, False, False)),
        (10_000, "holdout", ("holdout", 1000, 9_000, False, True)),
        (200, "cv", ("cv", 200, 160, True, False)),
    ],
)
def test_manifest_says_how_rows_were_held_back(
    n_rows: int, asked: str, said: tuple[Any, ...]
) -> None:
    found, _ = trained(numbers(n_rows), validation=asked, importance_s=0)
    names = (
        "method",
        "n_rows",
        "n_rows_trained",
        "model_has_seen_them",
        "early_stopping_saw_them",
    )
    assert tuple(found.validation[name] for name in names) == said


def test_none_holds_nothing_back_and_says_so() -> None:
    found, _ = trained(numbers(200, 2), validation="none")
    assert (found.validation, found.importances, found.intervals) == (
        {"method": "none"},
        None,
        None,
    )


@pytest.mark.parametrize(
    ("learner", "params"),
    [("linear", {}), ("boosting", {"early_stopping": False, "max_iter": 5})],
)
def test_holdout_that_stopped_nothing_is_reported_as_such(
    learner: str, params: dict[str, Any]
) -> None:
    found, _ = trained(
        numbers(10_000), learner, validation="auto", params=params, importance_s=0
    )
    assert found.validation["method"] == "holdout"
    assert found.validation["early_stopping_saw_them"] is False


def test_holdout_stops_the_training_early() -> None:
    x = np.random.default_rng(0).normal(size=10_000)
    found, _ = trained(
        pa.table({"x": x, "y": x > 0}), validation="auto", params={"max_iter": 1000}
    )
    assert found.model.n_iter_ < 500


def test_figures_of_a_split_are_those_of_rows_that_its_fit_had_not_seen() -> None:
    noise = np.random.default_rng(0)
    table = pa.table({"x": noise.normal(size=1200), "y": noise.integers(0, 2, 1200)})
    found, _ = trained(table, "forest", validation="auto", importance_s=0)
    assert np.mean(predicted(found, table) == table["y"].to_numpy()) > 0.95
    assert found.validation["scores"]["accuracy"] < 0.7


def test_cross_validation_says_how_its_folds_differ() -> None:
    found, _ = trained(numbers(200), validation="cv")
    assert found.validation["n_folds"] == 5
    assert found.validation["folds"]["accuracy"]["mean"] == pytest.approx(
        found.validation["scores"]["accuracy"], abs=1e-9
    )


@pytest.mark.slow
@pytest.mark.parametrize("validation", ["auto", "holdout", "cv", "none"])
@each_learner
def test_class_of_one_row_is_accepted(learner: str, validation: str) -> None:
    y = ["a", "b"] * 20 + ["rare"]
    table = pa.table({"x": np.arange(41) % 2 + 0.5, "y": y})
    found, _ = trained(table, learner, validation=validation)
    assert found.model.classes_.tolist() == ["a", "b", "rare"]


@pytest.mark.slow
@pytest.mark.parametrize("validation", ["auto", "holdout", "cv", "none"])
def test_class_of_one_row_in_a_large_table_is_accepted(validation: str) -> None:
    labels = np.arange(10_001) % 2
    labels[0] = 7
    found, _ = trained(
        pa.table({"x": labels / 2, "y": labels}),
        validation=validation,
        task="classification",
        importance_s=0,
    )
    assert predicted(found, pa.table({"x": [0, 0.5]})).tolist() == [0, 1]


@pytest.mark.parametrize("validation", ["auto", "holdout", "cv", "none"])
def test_classes_of_one_row_each_are_accepted(validation: str) -> None:
    table = pa.table({"x": [0.5, 1.5] * 6, "y": [f"label {i}" for i in range(12)]})
    found, _ = trained(table, validation=validation, task="classification")
    assert len(found.model.classes_) == 12
    assert found.validation["method"] == "none"
    is_noted = any("No rows were held back" in note for note in found.notes)
    assert is_noted is (validation != "none")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_model_of_few_rows_of_many_classes_is_judged_by_one_row_at_least(
    seed: int,
) -> None:
    table = pa.table(
        {"x": np.arange(10) / 2, "y": [f"label {i // 2}" for i in range(10)]}
    )
    found, _ = trained(table, validation="auto", seed=seed)
    assert found.validation["n_rows"] > 0
    assert found.validation["scores"]["accuracy"] is not None


@pytest.mark.slow
@each_learner
def test_thousand_classes_are_accepted(learner: str) -> None:
    quick = {
        "boosting": {"max_iter": 1},
        "linear": {"max_iter": 5},
        "forest": {"n_estimators": 2},
        "extra_trees": {"n_estimators": 2},
        "splines": {"max_iter": 5},
    }
    how: dict[str, Any] = {
        "task": "classification",
        "params": quick.get(learner, {}),
        "importance_s": 0,
    }
    found, _ = trained(numbers(3_000, 1000), learner, validation="auto", **how)
    assert len(found.model.classes_) == 1000
    assert found.validation["scores"]["confusion_matrix"] is None


def test_baseline_has_not_seen_the_rows_that_judge_it() -> None:
    y = np.random.default_rng(1).normal(size=10)
    found, _ = trained(
        pa.table({"x": np.arange(10) / 7, "y": y}), "linear", validation="holdout"
    )
    # The mean of the rows that it learned from, m, misses the two held back by (a - m) and (b - m).
    _, held = split(Plan("linear", "regression"), Rows(None, y), 0.2)
    learned = np.delete(y, held)
    assert found.validation["baseline"]["mae"] == pytest.approx(
        np.abs(y[held] - learned.mean()).mean()
    )
