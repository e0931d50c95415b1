"""How long predictions take, counted so that a busy machine counts the same as an idle one.

What a job does must not depend on the clock: the same table, options and seed give the same model
and the same account of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

# Nominal seconds, about those of one core of 2024: a call; a row of a boosted tree, of a forest's
# tree, and of a product; a cell that is preprocessed.
CALL_S = 5e-4
_BOOSTED_TREE_S, _FOREST_TREE_S, _PRODUCT_S, _CELL_S = 1e-8, 1e-7, 2e-9, 2e-7


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
