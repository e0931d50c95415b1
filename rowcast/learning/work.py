"""How long fits and predictions take, counted so that a busy machine counts as an idle one does.

What a job does must not depend on the clock: the same table, options and seed give the same model
and the same account of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rowcast.learning.learners import LEARNERS

# Nominal seconds, about those of one core of 2024: a call; a row of a boosted tree, of a forest's
# tree, and of a product; a cell that is preprocessed.
CALL_S = 5e-4
_BOOSTED_TREE_S, _FOREST_TREE_S, _PRODUCT_S, _CELL_S = 1e-8, 1e-7, 2e-9, 2e-7
# Of a fit on a few rows.
_FIT_S = 0.03


class Counted:
    """A prediction whose calls move a nominal clock."""

    def __init__(self, predict: Callable[[Any], np.ndarray], row_s: float) -> None:
        """Count `row_s` seconds a row, and CALL_S a call."""
        self._predict = predict
        self._row_s = row_s
        self._seconds = 0.0

    def __call__(self, prepared: Any) -> np.ndarray:
        """Return the predictions."""
        self._seconds += CALL_S + len(prepared) * self._row_s
        return self._predict(prepared)

    def clock(self) -> float:
        """Return the nominal seconds of all calls so far."""
        return self._seconds


def fit_s(
    learner: str, params: Mapping[str, Any], n_cells: float, n_classes: int
) -> float:
    """Return the nominal seconds of a fit on `n_cells`; `n_classes` is 0 for a regression."""
    cost = LEARNERS[learner].cost
    name, usual = cost.iterations or ("", 1)
    effort: float = params.get(name, usual) / usual * max(1, n_classes - 1)
    return (_FIT_S + n_cells * cost.fit_cell_s) * effort


def row_s(model: Any, n_columns: int) -> float:
    """Return the nominal seconds that a fitted model takes for a row of `n_columns`."""
    if hasattr(model, "named_estimators"):
        return sum(row_s(member, n_columns) for member in model.estimators_)
    if hasattr(model, "steps"):
        return n_columns * _CELL_S + row_s(model.steps[-1][1], n_columns)
    if hasattr(model, "n_trees_per_iteration_"):
        return float(model.n_iter_ * model.n_trees_per_iteration_ * _BOOSTED_TREE_S)
    if hasattr(model, "estimators_"):
        return len(model.estimators_) * _FOREST_TREE_S
    n_products = n_columns * len(getattr(model, "classes_", (0,)))
    return n_products * _PRODUCT_S
