"""Quantiles of a quantity around its prediction, learned from residuals on rows held back.

Split conformal prediction (Lei et al., Distribution-Free Predictive Inference for Regression,
2018), in groups of rows with predictions of similar size (Mondrian: Vovk, Gammerman, Shafer,
Algorithmic Learning in a Random World, 2005), so that the width can grow with the prediction.
Within a group, a quantile of the residuals is added to the prediction; over many rows, a share q of
the targets lies below quantile q.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MAX_GROUPS = 10
# A group needs this many rows for its outer quantiles to mean something.
ROWS_A_GROUP = 200
N_LEVELS = 201
# The number of parts by which the coverage of intervals is measured.
N_PARTS = 10
_LEVELS = np.linspace(0, 1, N_LEVELS)


def learn(residuals: np.ndarray, predictions: np.ndarray) -> dict[str, Any] | None:
    """Return what `quantiles` needs, ready for JSON; None without rows.

    `residuals` are target - prediction, (n_rows,), of rows that the model has not seen.
    """
    if not len(residuals):
        return None
    edges = _edges(predictions)
    group = _groups(edges, predictions)
    quantiles_by_group = []
    for number in range(len(edges) + 1):
        part = residuals[group == number]
        if not len(part):
            # Groups that share an edge may be empty; they use the residuals of all rows.
            part = residuals
        # With this method, a new row falls below the i-th of n residuals with chance i / (n + 1).
        found = np.quantile(part, _LEVELS, method="weibull")
        quantiles_by_group.append(found.tolist())
    return {
        "n_rows": len(residuals),
        "edges": edges.tolist(),
        "residuals": quantiles_by_group,
    }


def measured_coverage(
    residuals: np.ndarray, predictions: np.ndarray, *, level: float, seed: int
) -> float | None:
    """Return the share of rows whose target lies in the interval that other rows give it.

    The rows are divided into N_PARTS, and each part is judged by what the others teach. None with
    fewer rows than parts.
    """
    n_rows = len(residuals)
    if n_rows < N_PARTS:
        return None
    part_of_row = np.random.default_rng(seed).permutation(n_rows) % N_PARTS
    levels = [(1 - level) / 2, (1 + level) / 2]
    n_covered = 0
    for part in range(N_PARTS):
        is_judged = part_of_row == part
        learned = learn(residuals[~is_judged], predictions[~is_judged]) or {}
        bounds = quantiles(learned, predictions[is_judged], levels)
        truth = predictions[is_judged] + residuals[is_judged]
        n_covered += int(((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).sum())
    return n_covered / n_rows


def quantiles(
    learned: Mapping[str, Any], predictions: np.ndarray, levels: Sequence[float]
) -> np.ndarray:
    """Return quantiles (n_rows, n_levels) for predictions (n_rows,) at `levels` from 0 to 1."""
    offsets_by_group = np.array(
        [np.interp(levels, _LEVELS, residuals) for residuals in learned["residuals"]]
    )
    offsets = offsets_by_group[_groups(learned["edges"], predictions)]
    return np.asarray(predictions[:, None] + offsets)


def _edges(predictions: np.ndarray) -> np.ndarray:
    """Return the predictions at which one group ends and the next begins."""
    n_groups = min(MAX_GROUPS, len(predictions) // ROWS_A_GROUP)
    n_groups = max(n_groups, 1)
    shares = np.arange(1, n_groups) / n_groups
    return np.unique(np.quantile(predictions, shares))


def _groups(edges: np.ndarray | Sequence[float], predictions: np.ndarray) -> Any:
    return np.searchsorted(edges, predictions, side="right")
