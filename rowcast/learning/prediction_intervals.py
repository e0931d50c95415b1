"""Quantiles of a quantity around its prediction, from how far off the model was on rows it had not
seen.

Split conformal prediction (Lei et al., Distribution-Free Predictive Inference for Regression,
2018), in groups of rows with predictions of like size (Mondrian: Vovk, Gammerman, Shafer,
Algorithmic Learning in a Random World, 2005), so that the width may grow with the prediction.
Within a group, a quantile of the residuals is added to the prediction; over many rows, a share q of
the targets lies below quantile q.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MAX_GROUPS = 10
# A group needs so many rows for its outer quantiles to mean something.
ROWS_A_GROUP = 200
N_LEVELS = 201


def learned(residuals: np.ndarray, predictions: np.ndarray) -> dict[str, Any] | None:
    """Return what `quantiles` needs, ready for JSON; None without rows.

    `residuals` are target - prediction, (n_rows,), of rows that the model had not seen.
    """
    if not len(residuals):
        return None
    n_groups = max(1, min(MAX_GROUPS, len(residuals) // ROWS_A_GROUP))
    edges = np.unique(np.quantile(predictions, np.arange(1, n_groups) / n_groups))
    group = np.searchsorted(edges, predictions, side="right")
    levels = np.linspace(0, 1, N_LEVELS)
    # Groups that share an edge may be empty; they take the residuals of all rows.
    parts = [residuals[group == number] for number in range(len(edges) + 1)]
    parts = [part if len(part) else residuals for part in parts]
    return {
        "n_rows": len(residuals),
        "edges": edges.tolist(),
        # A new row falls below the i-th of n residuals with a chance of i / (n + 1), as this method
        # counts.
        "residuals": [
            np.quantile(part, levels, method="weibull").tolist() for part in parts
        ],
    }


def quantiles(
    known: Mapping[str, Any], predictions: np.ndarray, levels: Sequence[float]
) -> np.ndarray:
    """Return quantiles of shape (n_rows, n_levels) for predictions (n_rows,); `levels` are from 0
    to 1."""
    group = np.searchsorted(known["edges"], predictions, side="right")
    grid = np.linspace(0, 1, N_LEVELS)
    offsets = np.array(
        [np.interp(levels, grid, residuals) for residuals in known["residuals"]]
    )
    return np.asarray(predictions[:, None] + offsets[group])
