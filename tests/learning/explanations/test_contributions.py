"""Contributions are Shapley values, whatever the columns are, and add up."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rowcast.learning import choice
from rowcast.learning.explanations import contributions
from rowcast.learning.fitting import Fitter, Plan, Rows
from rowcast.learning.learners import Task
from rowcast.learning.progress import SILENT
from rowcast.tables import training_table
from tests.learning.fits import (
    MIXED,
    N_ROWS,
    QUICK,
    dumped,
    each_task,
    frame_for,
    table_of,
    trained,
)
from tests.support.tables import source_of

# A number, a category, a text and a date, each with missing values.
FOUR = MIXED[:4]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N_ROWS, 9))
# Products make the order matter in which columns come.
PRODUCTS = pa.table(
    {
        **{f"x{place}": X[:, place] for place in range(9)},
        "y": X[:, 0] * X[:, 1] + X[:, 2] * X[:, 3] * X[:, 4] + X[:, 5],
    }
)


def model_and_frame(
    table: pa.Table, learner: str, n_rows: int, **how: Any
) -> tuple[Any, Any]:
    found, _ = trained(table, learner, **how)
    return found.model, frame_for(found.features, table)[:n_rows]


def classes_of(model: Any, frame: Any) -> np.ndarray | None:
    if not hasattr(model, "classes_"):
        return None
    return np.asarray(model.predict_proba(frame).argmax(axis=1))


def values_of(model: Any, frame: Any, code: int | None) -> np.ndarray:
    if code is None:
        return np.asarray(model.predict(frame))
    return np.asarray(model.predict_proba(frame)[:, code])


def shapley(model: Any, row: Any, code: int | None) -> np.ndarray:
    """Return the Shapley values of a row (a frame of one row), by their definition."""
    background = contributions.background(model, row)
    names = list(row.columns)
    repeated = pd.concat([row] * len(background), ignore_index=True)
    value = {}
    for size in range(len(names) + 1):
        for own in combinations(names, size):
            mixed = background.assign(**{name: repeated[name] for name in own})
            value[frozenset(own)] = values_of(model, mixed, code).mean()
    found = []
    for name in names:
        others = [own for own in value if name not in own]
        gains = [
            (value[own | {name}] - value[own])
            / (len(names) * math.comb(len(names) - 1, len(own)))
            for own in others
        ]
        found.append(sum(gains))
    return np.array(found)


def assert_are_shapley_values(model: Any, frame: Any) -> None:
    codes = classes_of(model, frame)
    found = contributions.explain(model, frame, codes)
    for place in range(len(frame)):
        code = None if codes is None else int(codes[place])
        row = frame[place : place + 1]
        np.testing.assert_allclose(
            found.contributions[place], shapley(model, row, code), atol=1e-9
        )


@each_task
@pytest.mark.parametrize("learner", ["boosting", "forest", "linear"])
def test_contributions_are_shapley_values_of_raw_columns(
    learner: str, task: Task
) -> None:
    table = table_of(*FOUR, task=task).slice(0, 40)
    assert_are_shapley_values(*model_and_frame(table, learner, 2))


@each_task
def test_contributions_to_a_blend_are_those_to_its_mean(task: Task) -> None:
    data = training_table.read(source_of(table_of(*FOUR, task=task).slice(0, 40)), "y")
    rows = Rows(data.frame, data.target)
    classes = None if task == "regression" else np.unique(data.target)
    fitters = [
        Fitter(
            Plan(learner, task, QUICK.get(learner, {})), data.features, classes, SILENT
        )
        for learner in ("linear", "boosting", "forest", "baseline")
    ]
    fitted = [fitter.fit(rows) for fitter in fitters]
    model = choice.blend(fitters[0], fitted, [0.5, 0.2, 0.2, 0.3]).model()
    names = list(data.frame.columns)
    contributions.keep_background(model, data.frame, names, data.target, seed=0)
    assert_are_shapley_values(model, data.frame[:2])


def test_sampled_contributions_are_as_near_as_their_error_says() -> None:
    model, frame = model_and_frame(PRODUCTS, "boosting", 20)
    account = contributions.account(model, frame, None)
    found = contributions.explain(model, frame, None)
    assert account["method"] == "sampled"
    exact = shapley(model, frame[:1], None)
    error = np.sqrt(((found.contributions[0] - exact) ** 2).mean())
    assert 0 < error < 3 * account["standard_error"] < 0.2 * np.abs(exact).max()


@each_task
def test_contributions_of_every_row_add_up(task: Task) -> None:
    names = (*MIXED, "durations", "categories", "decimals")
    model, frame = model_and_frame(table_of(*names, task=task), "linear", 60)
    codes = classes_of(model, frame)
    found = contributions.explain(model, frame, codes)
    whole = found.base + found.contributions.sum(axis=1)
    background = contributions.background(model, frame)
    for code in [None] if codes is None else [0, 1]:
        is_of_class = np.full(len(frame), True) if codes is None else codes == code
        predicted = values_of(model, frame[is_of_class], code)
        np.testing.assert_allclose(whole[is_of_class], predicted, atol=1e-9)
        base = values_of(model, background, code).mean()
        np.testing.assert_allclose(found.base[is_of_class], base, atol=1e-9)


def test_a_row_is_explained_the_same_way_beside_any_others() -> None:
    model, frame = model_and_frame(PRODUCTS, "forest", 30)
    together = contributions.explain(model, frame, None).contributions
    alone = contributions.explain(model, frame[7:8], None).contributions
    np.testing.assert_allclose(together[7:8], alone, atol=1e-12)


def test_background_is_small_seeded_and_near_the_mean_of_the_target() -> None:
    found, _ = trained(PRODUCTS, "linear")
    background = contributions.background(found.model, PRODUCTS.to_pandas())
    assert len(background) == found.n_background == contributions.N_BACKGROUND <= 50
    assert background.isin(X.ravel()).all(axis=None)
    assert dumped(trained(PRODUCTS, "linear")[0]) == dumped(found)
    assert dumped(trained(PRODUCTS, "linear", seed=1)[0]) != dumped(found)
    ones = pa.table({"x": X[:, 0], "y": [0] * (N_ROWS - 75) + [1] * 75})
    frame = ones.to_pandas()
    kept = contributions.background(trained(ones, "baseline")[0].model, frame)
    assert frame.set_index("x").y[kept.x].mean() == 0.25


def test_background_that_is_left_out_leaves_no_row_in_the_model() -> None:
    found, _ = trained(PRODUCTS, "linear", background="leave_out")
    assert found.n_background == 0
    assert not hasattr(found.model, "background_rows_")


def test_long_texts_shorten_the_background_and_huge_ones_prevent_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contributions, "_MAX_CHARACTERS", 2_000)
    for n_characters, n_kept in ((60, 32), (250, 8), (3_000, 0)):
        text = [str(place) * n_characters for place in range(10, 50)]
        frame = pd.DataFrame({"text": pd.Series(text, dtype="str").str[:n_characters]})
        model = type("Model", (), {})()
        target = np.arange(40)
        kept = contributions.keep_background(model, frame, ["text"], target, seed=0)
        assert kept == n_kept
