"""learner=auto: what it tries, what it chooses, and that its figures are honest."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rowcast.errors import InvalidTable
from rowcast.learning import blending, candidates
from rowcast.learning.candidates import Candidate, Situation
from rowcast.learning.choice import BlendFitter, Choice
from rowcast.learning.fitting import Fitter, Plan, Rows
from rowcast.learning.progress import SILENT, Progress
from rowcast.tables import training_table
from tests.learning.fits import predicted, trained
from tests.support.tables import source_of


def line(n_rows: int = 40) -> pa.Table:
    """Return a table whose target is a line, which trees need many rows to learn."""
    random = np.random.default_rng(0)
    x = random.normal(size=(n_rows, 3))
    y = x @ [3.0, -2.0, 1.0] + random.normal(size=n_rows) / 5
    return pa.table({**{f"x{i}": x[:, i] for i in range(3)}, "y": y})


def steps(n_rows: int = 400) -> pa.Table:
    """Return a table whose classes are a chessboard, which no line can tell apart."""
    random = np.random.default_rng(0)
    a, b = random.uniform(0, 4, size=(2, n_rows))
    is_black = (a.astype(int) + b.astype(int)) % 2 == 1
    return pa.table({"a": a, "b": b, "y": np.where(is_black, "black", "white")})


def line_and_steps(n_rows: int = 300) -> pa.Table:
    """Return a table whose target is the sum of a line and of a chessboard."""
    random = np.random.default_rng(0)
    a, b, c = random.uniform(0, 3, size=(3, n_rows))
    y = 2 * c + (a.astype(int) + b.astype(int)) % 2 + random.normal(size=n_rows) / 4
    return pa.table({"a": a, "b": b, "c": c, "y": y})


def noise(n_rows: int = 300) -> pa.Table:
    random = np.random.default_rng(0)
    return pa.table(
        {"x": random.normal(size=n_rows), "y": random.integers(0, 2, n_rows)}
    )


def without_times(leaderboard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    clocked = ("fit_s", "predict_us_per_row")
    return [
        {name: value for name, value in each.items() if name not in clocked}
        for each in leaderboard
    ]


def test_line_through_few_rows_is_found() -> None:
    sent: list[dict[str, Any]] = []
    # A clock by which each count is due to be sent.
    progress = Progress(sent.append, clock=itertools.count(0.0).__next__)
    found, _ = trained(line(), "auto", validation="auto", progress=progress)
    losses = [each["best_loss"] for each in sent if each["best_loss"] is not None]
    assert losses[-1] == found.choice.leaderboard()[0]["mean"]
    assert found.validation["scores"]["r2"] > 0.95
    assert found.choice.chosen()[0]["learner"] in ("linear", "splines")


def test_chessboard_is_left_to_trees() -> None:
    found, _ = trained(steps(), "auto", validation="auto")
    assert found.validation["scores"]["accuracy"] > 0.8
    trees = ("forest", "extra_trees", "boosting")
    assert {member["learner"] for member in found.choice.chosen()} & set(trees)


@pytest.mark.parametrize("validation", ["auto", "holdout", "none"])
def test_leaderboard_says_what_was_tried_and_chosen(validation: str) -> None:
    found, _ = trained(steps(), "auto", validation=validation)
    board, chosen = found.choice.leaderboard(), found.choice.chosen()
    assert {"baseline", "linear", "splines", "forest", "boosting"} <= {
        each["name"] for each in board
    }
    losses = [each["mean"] for each in board]
    assert losses == sorted(losses)
    assert {each["loss"] for each in board} == {"log_loss"}
    weights = {each["name"]: each["weight"] for each in board if each["weight"]}
    assert weights == {member["name"]: member["weight"] for member in chosen}
    assert sum(weights.values()) == pytest.approx(1, abs=0.003)
    baseline = next(each for each in board if each["name"] == "baseline")
    assert baseline["mean"] == pytest.approx(np.log(2), abs=0.02)
    sizes = {each["name"]: each["size_bytes"] for each in board}
    assert 100 < sizes["baseline"] < sizes["linear"] < sizes["forest"]
    assert "log loss" in found.choice.why


def test_blend_predicts_the_weighted_mean_of_its_members() -> None:
    table = line_and_steps()
    found, _ = trained(table, "auto", validation="none")
    frame = table.drop(["y"]).to_pandas()
    members, weights = found.model.estimators_, found.model.weights
    assert weights == [member["weight"] for member in found.choice.chosen()]
    assert len(members) == len(weights) > 1
    predictions = [model.predict(frame) for model in members]
    np.testing.assert_allclose(
        found.model.predict(frame), weights @ np.array(predictions)
    )


def test_blend_of_rows_without_a_class_predicts_the_others() -> None:
    data = training_table.read(source_of(steps(120)), "y")
    classes = np.array(["all", "black", "white"], object)
    fitter = Fitter(Plan("auto", "classification"), data.features, classes, SILENT)
    members = [Candidate(name, name) for name in ("forest", "extra_trees")]
    made = Choice([(each, 0.5) for each in members], [], [], "log_loss", why="")
    fitted = BlendFitter(fitter, made).fit(Rows(data.frame, data.target))
    model = fitted.model()
    assert model.classes_.tolist() == ["black", "white"]
    assert np.mean(model.predict(data.frame) == data.target) > 0.95
    probabilities = fitted.predictions(fitted.prepare(data.frame), classes)
    assert probabilities.shape == (120, 3)
    assert not probabilities[:, 0].any()


@pytest.mark.parametrize("table", [line(60), steps(120)], ids=["line", "steps"])
def test_choice_and_importances_do_not_depend_on_the_clock(
    table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, _ = trained(table, "auto", validation="auto", importance_s=None)
    # A machine so busy that each look at the clock finds ten minutes gone.
    ticks = itertools.count(0, 600)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    busy, _ = trained(table, "auto", validation="auto", importance_s=None)
    assert without_times(busy.choice.leaderboard()) == without_times(
        quiet.choice.leaderboard()
    )
    assert busy.importances == quiet.importances
    assert busy.importances is not None
    assert None not in [each["mean"] for each in busy.importances["features"]]
    np.testing.assert_array_equal(predicted(busy, table), predicted(quiet, table))


def test_scores_of_noise_are_no_better_than_the_baseline() -> None:
    found, _ = trained(noise(), "auto", validation="auto")
    scores, baseline = found.validation["scores"], found.validation["baseline"]
    assert scores["log_loss"] > baseline["log_loss"] - 0.01
    assert 0.4 < scores["accuracy"] < 0.6


def test_candidates_fit_the_number_of_classes() -> None:
    many = candidates.of(Situation("classification", 3_000, 10, 300))
    assert "boosting" not in [each.learner for each in many]
    few = candidates.of(Situation("classification", 3_000, 10, 40))
    (boosting,) = [each for each in few if each.learner == "boosting"]
    assert boosting.params["max_iter"] * 40 <= 3_000


@pytest.mark.slow
@pytest.mark.parametrize("validation", ["none", "cv"])
def test_target_that_no_candidate_can_be_judged_by_is_refused(validation: str) -> None:
    table = line()
    huge = pa.array(table["y"].to_numpy() * 1e200)
    with pytest.raises(InvalidTable, match="No learner can be fitted") as caught:
        trained(table.set_column(3, "y", huge), "auto", validation=validation)
    assert "scale the target" in caught.value.hint


def test_large_table_is_compared_on_a_sample_without_forests() -> None:
    found, _ = trained(steps(12_000), "auto", validation="auto", importance_s=0)
    tried = {each["learner"] for each in found.choice.leaderboard()}
    assert tried == {"baseline", "linear", "splines", "boosting"}
    assert found.choice.chosen()[0]["learner"] == "boosting"
    assert found.validation["scores"]["accuracy"] > 0.95


def test_weights_of_rows_count_for_the_choice() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=400)
    is_line = np.arange(400) < 200
    # One half of the rows lies on a line; the other, without weight, contradicts it.
    y = np.where(is_line, 2 * x, -2 * x)
    table = pa.table({"x": x, "w": is_line.astype(float), "y": y})
    found, _ = trained(table, "auto", weights="w", validation="auto")
    assert found.validation["scores"]["r2"] > 0.99


def test_balanced_classes_are_chosen_by_the_rare_one_as_well() -> None:
    random = np.random.default_rng(0)
    y = (np.arange(400) % 20 == 0).astype(int)
    table = pa.table({"x": y + random.normal(size=400), "y": y})
    plain, balanced = (
        predicted(trained(table, "auto", class_weight=weight)[0], table).sum()
        for weight in (None, "balanced")
    )
    assert balanced > plain + 20


# Weights of a blend


def test_rows_that_no_sample_draws_still_decide() -> None:
    row_weights = np.zeros(100_000)
    row_weights[7] = 1
    residuals = np.array([np.ones(100_000), np.zeros(100_000)])
    for seed in range(3):
        weights = blending.weights_of(
            residuals, row_weights, blending.squared_error, seed=seed
        )
        assert weights.tolist() == [0, 1]


def test_two_models_that_err_apart_share_the_weight() -> None:
    errors = np.random.default_rng(0).normal(size=(2, 500))
    residuals = np.array([errors[0], errors[1], 5 + errors[0]])
    weights = blending.weights_of(
        residuals, np.ones(500), blending.squared_error, seed=0
    )
    assert weights[:2] == pytest.approx([0.5, 0.5], abs=0.1)
    assert weights[2] == 0


def test_model_that_excludes_what_happens_gets_no_weight_alone() -> None:
    of_truth = np.array([[0.99] * 98 + [0.0] * 2, [0.6] * 100])
    weights = blending.weights_of(of_truth, np.ones(100), blending.log_loss, seed=0)
    assert weights.min() > 0.02


def test_weights_follow_from_rows_with_weight_only() -> None:
    residuals = np.array([[0.0] * 50 + [9.0] * 50, [1.0] * 100])
    row_weights = np.array([1.0] * 50 + [0.0] * 50)
    weights = blending.weights_of(
        residuals, row_weights, blending.squared_error, seed=0
    )
    assert weights.tolist() == [1, 0]
