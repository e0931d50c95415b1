"""effort=thorough and effort=quick: what they try, when they end, and that scores stay honest."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rowcast.errors import InvalidRequest
from rowcast.learning import candidates, choice, spaces
from rowcast.learning.candidates import Situation
from rowcast.learning.fitting import Plan, Rows
from rowcast.learning.learners import LEARNERS, TASKS, Task
from rowcast.learning.progress import Progress
from rowcast.learning.splitting import split
from rowcast.learning.training import Trained
from tests.learning.fits import trained
from tests.learning.test_choice import line, noise, steps


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each look at the clock take a second, so that a search has as many trials each time."""
    ticks = itertools.count(1.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))


def searched(table: pa.Table, learner: str = "auto", **how: Any) -> Trained:
    plan = {"params": {}, "validation": "none", "search_s": 300.0, **how}
    return trained(table, learner, effort="thorough", **plan)[0]


def account_of(found: Trained) -> dict[str, Any]:
    assert found.choice.search is not None
    return found.choice.search


@pytest.mark.usefixtures("ticking")
def test_search_is_never_worse_on_the_folds_than_the_choice() -> None:
    found = searched(noise(60))
    account = account_of(found)
    assert account["n_trials"] > account["n_pruned"] > 0
    assert account["loss_at_end"] <= account["loss_at_start"]
    names = [each["name"] for each in found.choice.leaderboard()]
    assert {"baseline", "linear", "forest"} < set(names)
    assert any("trial" in name for name in names)


@pytest.mark.usefixtures("ticking")
def test_named_learner_is_tuned_alone_and_keeps_what_is_given() -> None:
    found = searched(line(), "linear", params={"tol": 1e-3})
    account = account_of(found)
    assert account["loss_at_end"] < 0.9 * account["loss_at_start"]
    (member,) = found.choice.chosen()
    assert member["learner"] == "linear"
    assert member["params"]["tol"] == found.model[-1].tol == 1e-3
    assert member["params"]["alpha"] == found.model[-1].alpha < 0.1
    assert {each["learner"] for each in found.choice.leaderboard()} == {"linear"}


@pytest.mark.parametrize("seed", range(3))
def test_class_that_a_sample_would_miss_is_compared(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAX_ROWS", "MAX_ROWS_OF_SEARCH"):
        monkeypatch.setattr(choice, name, 50)
    label = np.where(np.arange(400) < 2, "rare", "usual")
    table = pa.table({"x": np.random.default_rng(0).normal(size=400), "y": label})
    deadline = time.monotonic() - 1
    found = searched(table, "linear", seed=seed, deadline=deadline)
    assert found.model.classes_.tolist() == ["rare", "usual"]


def test_search_ends_before_the_job_has_to() -> None:
    deadline = time.monotonic() - 1
    found = searched(line(), "linear", deadline=deadline)
    assert account_of(found)["n_trials"] == 0
    assert found.choice.chosen()[0]["params"] == {}


@pytest.mark.usefixtures("ticking")
def test_trials_that_could_not_be_fitted_in_time_are_left_out() -> None:
    plenty = searched(line(), "linear", deadline=2_000.0)
    assert account_of(plenty)["loss_at_end"] < account_of(plenty)["loss_at_start"]
    scarce = searched(line(), "linear", deadline=time.monotonic() + 61, search_s=60.0)
    assert scarce.choice.chosen()[0]["params"] == {}


def test_held_rows_have_no_part_in_a_search(ticking: None) -> None:
    del ticking
    table = line(60)
    target = table["y"].to_numpy()
    plan = Plan("linear", "regression", validation="holdout")
    _, held = split(plan, Rows(None, target), 0.2)
    other = target.copy()
    other[held] += 1e6
    changed = table.set_column(table.num_columns - 1, "y", pa.array(other))
    chosen = [
        searched(each, "linear", validation="holdout").choice.chosen()
        for each in (table, changed)
    ]
    assert chosen[0] == chosen[1]


@pytest.mark.usefixtures("ticking")
def test_each_fold_is_judged_by_a_search_without_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[set[int]] = []
    choose = choice.choose

    def noting(fitter: Any, rows: Any) -> Any:
        seen.append(set(rows.frame.index))
        return choose(fitter, rows)

    monkeypatch.setattr(choice, "choose", noting)
    sent: list[dict[str, Any]] = []
    # A clock by which each count is due to be sent.
    progress = Progress(sent.append, clock=itertools.count(0.0).__next__)
    found = searched(line(), "linear", validation="cv", progress=progress)
    *others, everything = seen
    held = [everything - learned for learned in others]
    assert sorted(itertools.chain(*held)) == sorted(everything) == list(range(40))
    assert found.validation["n_rows"] == 40
    assert found.validation["scores"]["r2"] > 0.95
    phases = [phase for phase, _ in itertools.groupby(each["phase"] for each in sent)]
    assert phases == ["validating", "comparing", "preparing", "fitting", "validating"]
    trials = [each for each in sent if each["phase"] == "comparing"]
    assert trials[-1]["iterations_done"] > 0
    assert trials[-1]["iterations_total"] is None
    assert trials[-1]["best_loss"] < 0.3


@pytest.mark.parametrize("learner", spaces.SPACES)
@pytest.mark.parametrize("task", TASKS)
def test_bounds_of_a_space_are_valid_parameters(learner: str, task: Task) -> None:
    params = LEARNERS[learner].params
    space = spaces.of(learner, Situation(task, 500, 5, 3))
    assert space
    for name, dimension in space.items():
        kind = int if dimension.is_whole else float
        for value in (dimension.least, dimension.most):
            assert params[name].problem(kind(value)) == ""
            assert task in params[name].tasks


@pytest.mark.parametrize(
    ("learner", "params", "said"),
    [
        ("baseline", {}, "The learner baseline has no parameter"),
        ("splines", {"C": 1}, "all that effort=thorough tunes of splines: C"),
    ],
)
def test_learner_with_nothing_to_tune_is_refused(
    learner: str, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        spaces.check(learner, params, effort="thorough", task="classification")
    spaces.check(learner, params, effort="normal", task="classification")


@pytest.mark.parametrize(
    ("n_rows", "n_classes", "learner"),
    [(60, 2, "linear"), (500, 2, "boosting"), (5_000, 60, "linear")],
)
def test_quick_fit_is_of_one_learner(n_rows: int, n_classes: int, learner: str) -> None:
    found = candidates.quick(Situation("classification", n_rows, 5, n_classes))
    assert found.learner == learner


@pytest.mark.parametrize("validation", ["cv", "holdout"])
def test_quick_fit_compares_nothing(validation: str) -> None:
    found, _ = trained(steps(150), "auto", validation=validation, effort="quick")
    assert found.choice.leaderboard() == []
    (member,) = found.choice.chosen()
    assert member["learner"] == "boosting"
    assert found.model.max_leaf_nodes == member["params"]["max_leaf_nodes"] == 8
    assert "effort=quick" in found.choice.why
    assert np.isfinite(found.validation["scores"]["log_loss"])
