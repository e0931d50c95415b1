"""What plots of a model need, in few bytes: points, bins and a sample of the rows held back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rowcast.learning import evaluation, thresholds
from rowcast.learning.fitting import Fitter, Rows, label_text

MAX_BINS, MAX_SAMPLE = 50, 500
# Bins span this much of the residuals, so that a single one does not make all bins wide.
_CENTRAL = (0.005, 0.995)


def of(fitter: Fitter, held: Rows, predictions: np.ndarray) -> dict[str, Any]:
    """Return the plots of predictions for rows held back: probabilities of classes, or values."""
    if fitter.classes is None:
        found = _residuals(held, predictions, fitter.plan.seed)
        return {"residuals": found}
    labels = [label_text(label) for label in fitter.classes.tolist()]
    codes = evaluation.positions(fitter.classes, held.target)
    return {
        "positive_class": labels[1] if len(labels) == 2 else None,
        "curves": thresholds.curves(labels, codes, predictions, held.weights),
    }


def _residuals(rows: Rows, predictions: np.ndarray, seed: int) -> dict[str, Any] | None:
    """Return a histogram of truth - prediction, and a random sample of both; None without rows.

    Rows of weight zero do not count.
    """
    truth = rows.target
    if rows.weights is not None:
        truth, predictions = truth[rows.weights > 0], predictions[rows.weights > 0]
    with np.errstate(over="ignore", invalid="ignore"):
        residuals = truth - predictions
    if not len(residuals) or not np.isfinite(residuals).all():
        return None
    return {
        "n_rows": len(residuals),
        "histogram": _histogram(residuals),
        "sample": _sample(truth, predictions, seed),
    }


def _histogram(residuals: np.ndarray) -> dict[str, Any]:
    n_bins = min(MAX_BINS, math.ceil(len(residuals) ** 0.5))
    least, most = np.quantile(residuals, _CENTRAL)
    if n_bins < 2 or not np.isfinite(most - least) or most <= least:
        least, most, n_bins = residuals.min(), residuals.max(), 1
    edges = np.linspace(least, most, n_bins + 1)
    counts, _ = np.histogram(residuals, edges)
    return {
        "edges": [_short(edge) for edge in edges.tolist()],
        "counts": counts.tolist(),
        "n_below": int((residuals < least).sum()),
        "n_above": int((residuals > most).sum()),
    }


def _sample(
    truth: np.ndarray, predictions: np.ndarray, seed: int
) -> dict[str, list[float]]:
    places = np.arange(len(truth))
    if len(truth) > MAX_SAMPLE:
        random = np.random.default_rng(seed)
        places = random.choice(len(truth), MAX_SAMPLE, replace=False)
    return {
        "truth": [_short(value) for value in truth[places].tolist()],
        "prediction": [_short(value) for value in predictions[places].tolist()],
    }


def _short(value: float) -> float:
    """Return a number of six digits, which is enough for a plot."""
    return float(f"{value:.6g}")
