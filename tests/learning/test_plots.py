"""Points, bins and samples for plots: what they show, and how many bytes they take."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rowcast.learning import learning_curve, plots
from rowcast.learning.candidates import Candidate
from rowcast.learning.choice import Choice
from rowcast.learning.fitting import Fitter, Plan, Rows
from rowcast.learning.progress import SILENT
from rowcast.learning.splitting import folds
from rowcast.tables import training_table
from tests.learning.fits import trained
from tests.support.tables import source_of

RNG = np.random.default_rng(0)
REGRESSION = Fitter(Plan("auto", "regression"), [], None, SILENT)


def residuals_of(
    n_rows: int, weights: np.ndarray | None = None
) -> tuple[Any, np.ndarray, np.ndarray]:
    truth = RNG.standard_t(2, n_rows) * 1_234_567
    predictions = truth - RNG.standard_t(2, n_rows)
    found = plots.of(REGRESSION, Rows(None, truth, weights), predictions)
    return found["residuals"], truth, predictions


@pytest.mark.parametrize("n_rows", [1, 2, 30, 20_000])
def test_bins_and_ends_hold_each_residual_once(n_rows: int) -> None:
    found, truth, predictions = residuals_of(n_rows)
    bins = found["histogram"]
    counted = sum(bins["counts"]) + bins["n_below"] + bins["n_above"]
    assert (found["n_rows"], counted) == (n_rows, n_rows)
    assert len(bins["counts"]) == len(bins["edges"]) - 1 <= 50
    middle = np.median(truth - predictions)
    assert bins["edges"][0] - 1e-4 <= middle <= bins["edges"][-1] + 1e-4


def test_sample_holds_rows_of_weight_with_their_predictions() -> None:
    weights = np.array([0.0, 1.0] * 600)
    found, truth, predictions = residuals_of(1_200, weights)
    sample = found["sample"]
    assert len(sample["truth"]) == len(sample["prediction"]) == 500
    drawn = set(zip(sample["truth"], sample["prediction"], strict=True))
    short = [
        (float(f"{a:.6g}"), float(f"{b:.6g}"))
        for a, b in zip(truth, predictions, strict=True)
    ]
    assert drawn <= set(short[1::2])


def test_sample_depends_on_the_seed_alone() -> None:
    truth, predictions = RNG.normal(size=(2, 3_000))
    one, two = (plots.of(REGRESSION, Rows(None, truth), predictions) for _ in range(2))
    assert one == two


def test_infinite_predictions_have_no_residuals() -> None:
    found = plots.of(REGRESSION, Rows(None, np.ones(3)), np.array([1.0, np.inf, 2]))
    assert found == {"residuals": None}


def bytes_of(table: pa.Table, learner: str, **how: Any) -> int:
    found, _ = trained(table, learner, validation="auto", importance_s=0, **how)
    return len(json.dumps([found.sets, found.plots], allow_nan=False))


@pytest.mark.parametrize("n_classes", [0, 2, 10, 100])
def test_all_together_stay_below_40_kb(n_classes: int) -> None:
    x = RNG.normal(size=4_000)
    y = 1e9 * x + RNG.normal(size=4_000)
    if n_classes:
        y = (RNG.permutation(4_000) % n_classes).astype(str)
    assert bytes_of(pa.table({"x": x, "y": y}), "linear") < 40_000


# The learning curve


def curve_of(
    table: pa.Table, learner: str = "linear", asked: str = "auto", n_folds: int = 5
) -> dict[str, Any]:
    """Return the learning curve of a learner that was chosen for a table."""
    data = training_table.read(source_of(table), "y")
    is_text = data.target.dtype.kind == "O"
    plan = Plan(asked, "classification" if is_text else "regression")
    classes = np.unique(data.target.astype(str)).astype(object) if is_text else None
    rows = Rows(data.frame, data.target)
    made = Choice([(Candidate(learner, learner), 1.0)], [], [], "log_loss", "")
    splits = list(folds(plan, rows, n_folds))
    fitter = Fitter(plan, data.features, classes, SILENT)
    return learning_curve.of(fitter, rows, made, splits)


def wide(n_rows: int, n_columns: int = 20) -> pa.Table:
    """Return a line through so many columns that few rows do not tell it."""
    x = np.random.default_rng(0).normal(size=(n_rows, n_columns))
    y = x.sum(axis=1) + np.random.default_rng(1).normal(size=n_rows)
    columns = {f"x{place}": x[:, place] for place in range(n_columns)}
    return pa.table({**columns, "y": y})


def test_curve_falls_where_more_rows_help_and_a_note_says_so() -> None:
    curve = curve_of(wide(120))
    losses = [point["mean"] for point in curve["points"]]
    assert losses == sorted(losses, reverse=True)
    assert [point["n_rows"] for point in curve["points"]] == [24, 48, 96]
    assert curve["more_rows_help"] is True
    (said,) = learning_curve.notes(curve)
    assert "96 rows are learned from instead of 48" in said
    assert curve == curve_of(wide(120))


def test_more_rows_do_not_help_where_nothing_is_to_be_learned() -> None:
    words = RNG.permutation(["a", "b", "c"] * 100).tolist()
    curve = curve_of(pa.table({"x": RNG.normal(size=300), "y": words}))
    assert len(curve["points"]) == 3
    assert curve["more_rows_help"] is False
    assert list(learning_curve.notes(curve)) == []


@pytest.mark.parametrize(
    ("table", "how", "said"),
    [
        (wide(120), {"asked": "linear"}, "Only a choice among learners"),
        (wide(40, 2), {}, "A quarter of 32 rows is too few"),
        (wide(3_000), {"learner": "forest"}, "nominal seconds, over 0.2"),
        (
            pa.table(
                {"x": RNG.normal(size=60), "y": [f"c{i % 30}" for i in range(60)]}
            ),
            {"n_folds": 2},
            "A quarter of 30 rows is too few",
        ),
    ],
)
def test_reason_for_no_curve_is_said(
    table: pa.Table, how: dict[str, Any], said: str
) -> None:
    curve = curve_of(table, **how)
    assert said in curve["left_out"]
    assert (curve["points"], curve["more_rows_help"]) == ([], None)


def test_best_of_several_learners_has_a_curve_in_cross_validation() -> None:
    found, _ = trained(wide(100, 3), "auto", validation="cv", importance_s=0)
    curve = (found.plots or {})["learning_curve"]
    best = found.choice.chosen()[0]["name"]
    line = next(each for each in found.choice.leaderboard() if each["name"] == best)
    assert curve["name"] == best
    assert [point["share"] for point in curve["points"]] == [0.25, 0.5, 1.0]
    if curve["n_splits"] == 5:
        assert curve["points"][-1]["mean"] == pytest.approx(line["mean"])
