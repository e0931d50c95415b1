"""Rows that are held back together: later ones, and whole groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rowcast.errors import InvalidTable
from rowcast.learning.splitting import folds, split
from rowcast.learning.training import Plan, Rows
from tests.learning.fits import predicted, trained

REGRESSION, CLASSES = Plan("linear", "regression"), Plan("linear", "classification")


def in_time(times: list[float], target: Any = None) -> Rows:
    target = np.arange(len(times)) if target is None else np.array(target)
    return Rows(None, target, times=np.array(times, float))


def in_groups(groups: list[int], target: Any = None) -> Rows:
    target = np.arange(len(groups)) if target is None else np.array(target)
    return Rows(None, target, groups=np.array(groups))


def test_last_rows_are_held_back_wherever_they_stand() -> None:
    kept, held = split(REGRESSION, in_time([5, 1, 4, 2, 3, 9, 8, 7, 6, 0]), 0.2)
    assert held.tolist() == [5, 6]
    assert len(kept) == 8


@pytest.mark.parametrize(
    ("times", "n_held"), [([1, 2, 3, 4, 5, 6, 7, 8, 8, 8], 3), ([1] + [2] * 9, 9)]
)
def test_rows_of_the_same_time_stay_together(times: list[float], n_held: int) -> None:
    _, held = split(REGRESSION, in_time(times), 0.2)
    assert held.tolist() == list(range(10 - n_held, 10))


def test_rows_without_a_time_count_as_the_earliest() -> None:
    nan = float("nan")
    kept, held = split(REGRESSION, in_time([3, 4, nan, 1, 2, nan, 5, 6, 7, 8]), 0.2)
    assert {2, 5} <= set(kept.tolist())
    assert held.tolist() == [8, 9]


def test_no_fold_judges_earlier_rows_by_later_ones() -> None:
    times = np.random.default_rng(0).permutation(60) // 2
    found = list(folds(REGRESSION, in_time(times.tolist()), 3))
    assert len(found) == 3
    assert all(times[kept].max() < times[held].min() for kept, held in found)
    assert times[found[0][1]].max() == times.max()


@pytest.mark.parametrize("plan", [REGRESSION, CLASSES], ids=["numbers", "classes"])
def test_groups_are_held_back_whole_and_once(plan: Plan) -> None:
    groups = np.random.default_rng(0).integers(0, 12, 100)
    rows = in_groups(groups.tolist(), np.arange(100) % 2)
    found = list(folds(plan, rows, 5))
    assert len(found) == 5
    for kept, held in found:
        assert not set(groups[kept]) & set(groups[held])
    assert sorted(np.concatenate([held for _, held in found])) == list(range(100))
    kept, held = split(plan, rows, 0.2)
    assert not set(groups[kept]) & set(groups[held])


def test_two_groups_make_two_folds() -> None:
    assert len(list(folds(REGRESSION, in_groups([0, 1] * 10), 5))) == 2


def test_share_of_rows_is_held_back_although_one_group_has_most_of_them() -> None:
    rows = in_groups([0] * 60 + [1 + place % 9 for place in range(40)])
    _, held = split(REGRESSION, rows, 0.2)
    assert len(held) <= 20
    assert 0 not in held


@pytest.mark.parametrize("rows", [in_time([3] * 20), in_groups([3] * 20)])
def test_rows_of_a_single_time_or_group_are_divided_at_random(rows: Rows) -> None:
    found = list(folds(REGRESSION, rows, 3))
    assert sorted(np.concatenate([held for _, held in found])) == list(range(20))


def test_class_that_comes_up_later_is_not_judged() -> None:
    rows = in_time(list(range(10)), list("ababababac"))
    kept, held = split(CLASSES, rows, 0.2)
    assert (len(kept), held.tolist()) == (8, [8])


@pytest.mark.parametrize(
    "rows",
    [
        in_time(list(range(10)), list("aaaaaaaabb")),
        in_groups([0] * 5 + [1] * 5, list("aaaaabbbbb")),
    ],
    ids=["times", "groups"],
)
def test_single_class_to_learn_from_is_refused(rows: Rows) -> None:
    with pytest.raises(InvalidTable, match="hold a single class") as caught:
        split(CLASSES, rows, 0.2)
    assert "time_column or group_column" in caught.value.hint


# Models


def drifting(n_rows: int = 200) -> pa.Table:
    """Return a table whose target jumps about where the last fifth of it begins."""
    day = np.arange(n_rows)
    noise = np.random.default_rng(0).normal(size=n_rows)
    return pa.table({"day": day / 2, "x": noise, "y": noise + 9 * (day > 155)})


def repeated(n_groups: int = 30) -> pa.Table:
    """Return a table with a level for each group, which `height` tells apart."""
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(n_groups), 6)
    levels, heights = random.normal(size=(2, n_groups))
    return pa.table({"who": group, "height": heights[group], "y": levels[group]})


@pytest.mark.parametrize("validation", ["auto", "time"])
def test_later_rows_judge_a_model_that_then_learns_from_them(validation: str) -> None:
    random, _ = trained(drifting(), "forest", validation="auto")
    found, _ = trained(drifting(), "forest", validation=validation, time_column="day")
    account = found.validation
    assert (account["method"], account["held_back"]) == ("time", "later rows")
    assert (account["n_rows"], account["n_rows_trained"]) == (40, 160)
    assert account["model_has_seen_them"] is True
    assert account["scores"]["rmse"] > 3 * random.validation["scores"]["rmse"]
    assert found.verdict is not None
    assert "on 40 later rows" in found.verdict


def test_choice_follows_the_order_of_time() -> None:
    table = drifting(60)
    found, _ = trained(table, "auto", validation="none", time_column="day")
    assert {tuple(np.sort(held)[[0, -1]]) for _, held in found.choice.splits} == {
        (30, 39),
        (40, 49),
        (50, 59),
    }


@pytest.mark.parametrize("validation", ["auto", "holdout"])
def test_new_groups_judge_a_model(validation: str) -> None:
    random, _ = trained(repeated(), "forest", validation=validation)
    found, data = trained(
        repeated(), "forest", validation=validation, group_column="who"
    )
    assert [feature.name for feature in data.features] == ["height"]
    assert found.validation["held_back"] == "whole groups"
    assert random.validation["scores"]["r2"] > 0.9
    assert found.validation["scores"]["r2"] < 0.5


def test_choice_does_not_know_the_groups_that_it_judges() -> None:
    found, _ = trained(repeated(12), "auto", validation="auto", group_column="who")
    who = repeated(12)["who"].to_numpy()
    for kept, held in found.choice.splits:
        assert not set(who[kept]) & set(who[held])
    assert found.verdict is not None
    assert "no better than the baseline" in found.verdict


@pytest.mark.parametrize("column", ["time_column", "group_column"])
def test_two_times_or_groups_are_enough_for_a_choice(column: str) -> None:
    x = np.random.default_rng(0).normal(size=60)
    table = pa.table({"when": np.arange(60) // 40, "x": x, "y": 2 * x})
    validation = "time" if column == "time_column" else "holdout"
    how: dict[str, Any] = {"validation": validation, column: "when"}
    found, _ = trained(table, "auto", **how)
    assert found.validation["scores"]["r2"] > 0.9


def test_rows_that_are_judged_may_have_no_weight_in_a_choice() -> None:
    x = np.random.default_rng(0).normal(size=60)
    weights = (np.arange(60) < 24).astype(float)
    table = pa.table({"day": np.arange(60) / 2, "w": weights, "x": x, "y": 2 * x})
    found, _ = trained(table, "auto", weights="w", time_column="day", validation="auto")
    assert {member["learner"] for member in found.choice.chosen()} != {"baseline"}
    assert np.allclose(predicted(found, table), 2 * x, atol=0.5)


def test_column_that_only_fewer_rows_can_use_has_no_effect() -> None:
    n_rows = 10_500
    noise = np.random.default_rng(0).normal(size=n_rows) / 100
    is_known = np.zeros(n_rows, bool)
    is_known[9_000::100] = True
    rare = pa.array(np.where(is_known, 1.0, np.nan), from_pandas=True)
    table = pa.table(
        {"day": np.arange(n_rows) / 2, "rare": rare, "y": noise + 9.0 * is_known}
    )
    found, _ = trained(table, "linear", time_column="day", validation="auto")
    assert [feature.name for feature in found.features] == ["day"]
    assert found.importances is not None
    assert found.importances["features"][0]["name"] == "rare"
