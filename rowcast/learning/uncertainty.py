"""How far scores may be off, because they come from a limited number of rows.

From single rows: each main score is a ratio of two sums over rows, whose standard error follows by
linearization (Cochran, Sampling Techniques, 1977, chapter 6), and that of a function of it by its
derivative. From folds: the standard deviation over K folds, divided by the root of K. Folds share
most rows that they learn from, so they are not independent, and no estimate of this error is
without bias (Bengio, Grandvalet, No Unbiased Estimator of the Variance of K-Fold Cross-Validation,
2004): it tends to be too small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rowcast.learning import evaluation

# The level of the interval of the share of the baseline's loss, and how many standard errors it
# reaches to each side: by Student's t for a number of folds, else by the normal distribution.
LEVEL = 0.95
_STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
_NORMAL = 1.96
_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)


def from_rows(
    classes: np.ndarray | None,
    truth: np.ndarray,
    predictions: np.ndarray,
    baseline: np.ndarray,
    weights: np.ndarray | None,
) -> dict[str, Any] | None:
    """Return the uncertainty of scores by the losses of single rows, ready for JSON.

    `predictions` and `baseline` are probabilities (n_rows, n_classes), or values (n_rows,) without
    `classes`. None with fewer than two rows of weight, or if a loss is not finite.
    """
    weights = np.ones(len(truth)) if weights is None else weights
    if np.count_nonzero(weights) < 2:
        return None
    errors = {}
    # Values that are too large to be squared have no uncertainty.
    with np.errstate(over="ignore", invalid="ignore"):
        if classes is None:
            losses, of_baseline = (truth - predictions) ** 2, (truth - baseline) ** 2
            deviations = (truth - np.average(truth, weights=weights)) ** 2
            errors["r2"] = _ratio(losses, deviations, weights)[1]
            errors["mae"] = _mean(np.abs(truth - predictions), weights)[1]
            errors["rmse"] = _of_root(*_mean(losses, weights))
        else:
            losses = _log_losses(classes, truth, predictions)
            of_baseline = _log_losses(classes, truth, baseline)
            hits = classes[predictions.argmax(axis=1)] == truth
            errors["accuracy"] = _mean(hits.astype(float), weights)[1]
            errors["log_loss"] = _mean(losses, weights)[1]
        share, error = _ratio(losses, of_baseline, weights)
    if classes is None:
        share, error = math.sqrt(share), _of_root(share, error)
    return _account("rows", errors, share, error, _NORMAL)


def _log_losses(
    classes: np.ndarray, truth: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """Return the log loss of each row (n_rows,)."""
    codes = evaluation.positions(classes, truth)
    of_truth = probabilities[np.arange(len(codes)), codes] / probabilities.sum(axis=1)
    return np.asarray(-np.log(np.clip(of_truth, _LEAST_PROBABILITY, 1)))


def from_folds(
    folds: Sequence[Mapping[str, Any]],
    shares: Sequence[float],
    share: float | None,
) -> dict[str, Any] | None:
    """Return the uncertainty of scores by those of folds, ready for JSON.

    `folds` are the scores of each fold, `shares` each fold's loss as a share of the baseline's, and
    `share` that of all rows. None with fewer than two folds. A score has no error unless two folds
    define it.
    """
    n_folds = len(shares)
    if n_folds < 2 or share is None:
        return None
    errors = {}
    for name, found in evaluation.mean_of_folds(folds).items():
        n_defined = sum(fold.get(name) is not None for fold in folds)
        if found["std"] is not None and n_defined > 1:
            errors[name] = _of_mean(found["std"], n_defined)
    error = _of_mean(float(np.std(shares)), n_folds)
    return _account("folds", errors, share, error, _STUDENT.get(n_folds, _NORMAL))


def _of_mean(deviation: float, n_folds: int) -> float:
    """Return the standard error of a mean over folds, by the deviation of these folds themselves.

    It is the sample's deviation over the root of their number.
    """
    return deviation / math.sqrt(n_folds - 1)


def _mean(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    return _ratio(values, np.ones(len(values)), weights)


def _ratio(
    numerators: np.ndarray, denominators: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """Return a ratio of weighted sums over rows, and its standard error; NaN if it has none."""
    total = weights @ denominators
    if not total:
        return math.nan, math.nan
    ratio = weights @ numerators / total
    n_rows = np.count_nonzero(weights)
    influences = weights * (numerators - ratio * denominators)
    error = math.sqrt(influences @ influences * n_rows / (n_rows - 1)) / total
    return float(ratio), float(error)


def _of_root(value: float, error: float) -> float:
    """Return the standard error of the root of a value, 0 for a value of 0."""
    return error / (2 * math.sqrt(value)) if value else 0.0


def _account(
    source: str,
    errors: Mapping[str, float | None],
    share: float,
    error: float,
    n_errors: float,
) -> dict[str, Any]:
    return {
        "source": source,
        "standard_errors": {name: _finite(value) for name, value in errors.items()},
        "share_of_baseline": {
            "value": _finite(share),
            "low": _finite(max(0.0, share - n_errors * error)),
            "high": _finite(share + n_errors * error),
            "level": LEVEL,
        },
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
