"""How good predictions are, on rows that the model was not trained on.

Everything is ready for JSON: Python's own numbers, and None where a figure is not defined, for JSON
has no NaN. Rows of weight zero count nowhere. What each figure is: docs/models.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

# A matrix of more classes than this is no longer read by people, and fills the manifest.
MAX_SHOWN_CLASSES = 100
CLASSIFICATION_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "roc_auc",
    "log_loss",
    "f1",
    "f1_macro",
)
REGRESSION_METRICS = ("r2", "mae", "rmse")
RESIDUAL_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_N_CALIBRATION_BINS = 10


class _Rows(NamedTuple):
    """Rows to judge; truth and predictions are positions in `labels`."""

    labels: list[Any]
    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray | None


def classification(
    classes: np.ndarray,
    truth: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return how well probabilities of shape (n_rows, n_classes) meet the labels in `truth`,
    (n_rows,).

    `classes`, (n_classes,), names the columns. The most probable class is the predicted one, the
    first of equals. Labels of the truth that are no class have probability 0 and follow the
    classes.
    """
    rows = _rows(classes, truth, probabilities, weights)
    is_shown = len(rows.labels) <= MAX_SHOWN_CLASSES
    per_class = _per_class(rows)
    return {
        **_scalars(rows, per_class),
        "classes": _shown(rows, per_class) if is_shown else None,
        "confusion_matrix": _confusion_matrix(rows) if is_shown else None,
        "calibration": _calibration(rows),
        "left_out": None
        if is_shown
        else "ROC AUC, the figures per class and the confusion matrix are left out: the "
        "target has "
        f"{len(rows.labels)} classes, and they are for at most {MAX_SHOWN_CLASSES}.",
    }


def regression(
    truth: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, Any]:
    """Return how well predictions of shape (n_rows,) meet the truth, in the target's unit (R2 has
    none)."""
    truth, predictions = (
        np.asarray(truth, np.float64),
        np.asarray(predictions, np.float64),
    )
    if weights is not None:
        truth, predictions, weights = (
            values[weights > 0] for values in (truth, predictions, weights)
        )
    # Values that are too large to be squared make a figure None, not a warning.
    with np.errstate(over="ignore", invalid="ignore"):
        is_judged = bool(truth.size) and bool(np.isfinite(truth - predictions).all())
        figures = _errors(truth, predictions, weights) if is_judged else {}
        quantiles = (
            _quantiles(truth - predictions, weights) if is_judged else [None] * 7
        )
    return {
        **{metric: _finite(figures.get(metric)) for metric in REGRESSION_METRICS},
        "residual_quantiles": dict(
            zip(map(str, RESIDUAL_QUANTILES), quantiles, strict=True)
        ),
    }


def mean_of_folds(
    folds: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, float | None]]:
    """Return mean and standard deviation of each scalar metric over the folds where it is known.

    The deviation is that of the folds at hand (numpy's std). None where no fold knows the metric.
    """
    known: dict[str, list[float]] = {}
    for metric in CLASSIFICATION_METRICS + REGRESSION_METRICS:
        if any(metric in fold for fold in folds):
            known[metric] = [
                fold[metric] for fold in folds if fold.get(metric) is not None
            ]
    return {
        metric: {"mean": _finite(np.mean(values)), "std": _finite(np.std(values))}
        if values
        else {"mean": None, "std": None}
        for metric, values in known.items()
    }


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _label(value: Any) -> str | int | float | bool:
    value = value.item() if isinstance(value, np.generic) else value
    is_json = isinstance(value, str | int) or (
        isinstance(value, float) and math.isfinite(value)
    )
    return value if is_json else str(value)


def _rows(
    classes: np.ndarray,
    truth: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None,
) -> _Rows:
    truth, probabilities = np.asarray(truth), np.asarray(probabilities, np.float64)
    if weights is not None:
        truth, probabilities, weights = (
            values[weights > 0] for values in (truth, probabilities, weights)
        )
    codes = positions(np.asarray(classes), truth)
    strangers, found = np.unique(truth[codes < 0], return_inverse=True)
    codes[codes < 0] = len(classes) + found
    # Sums in float32 miss 1 by more than scikit-learn takes.
    sums = probabilities.sum(axis=1, keepdims=True)
    probabilities = np.divide(
        probabilities, sums, out=np.zeros_like(probabilities), where=sums > 0
    )
    probabilities = (
        np.pad(probabilities, ((0, 0), (0, len(strangers))))
        if len(strangers)
        else probabilities
    )
    labels = [_label(value) for value in (*classes, *strangers)]
    return _Rows(labels, codes, probabilities.argmax(axis=1), probabilities, weights)


def positions(classes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return for each label in `truth`, (n_rows,), its position in `classes`; -1 where it is none
    of them."""
    order = np.argsort(classes, kind="stable")
    found = np.searchsorted(classes, truth, sorter=order)
    codes = order[np.minimum(found, len(classes) - 1)]
    codes[classes[codes] != truth] = -1
    return codes


def _per_class(rows: _Rows) -> dict[str, np.ndarray]:
    # A ratio with nothing below the line is NaN: the recall of a class without rows, for example.
    from sklearn.metrics import precision_recall_fscore_support

    names = ("precision", "recall", "f1")
    if not len(rows.truth):
        return {name: np.full(len(rows.labels), np.nan) for name in names}
    figures = precision_recall_fscore_support(
        rows.truth,
        rows.predicted,
        labels=range(len(rows.labels)),
        sample_weight=rows.weights,
        zero_division=np.nan,
    )
    return dict(zip(names, figures, strict=False))


def _scalars(rows: _Rows, per_class: dict[str, np.ndarray]) -> dict[str, float | None]:
    from sklearn.metrics import accuracy_score

    if not len(rows.truth):
        return dict.fromkeys(CLASSIFICATION_METRICS)
    figures = {
        "accuracy": accuracy_score(
            rows.truth, rows.predicted, sample_weight=rows.weights
        ),
        # As scikit-learn's balanced_accuracy_score, which warns of classes without rows.
        "balanced_accuracy": np.nanmean(per_class["recall"]),
        "roc_auc": _roc_auc(rows),
        "log_loss": _log_loss(rows),
        "f1": per_class["f1"][1] if len(rows.labels) == 2 else None,
        "f1_macro": np.nanmean(per_class["f1"]),
    }
    return {metric: _finite(figures[metric]) for metric in CLASSIFICATION_METRICS}


def _roc_auc(rows: _Rows) -> float | None:
    # scikit-learn's own mean over classes refuses a truth in which a class has no rows.
    from sklearn.metrics import roc_auc_score

    n_classes = len(rows.labels)
    counts = np.bincount(rows.truth, minlength=n_classes)
    asked = [1] if n_classes == 2 else range(n_classes)
    judged = [code for code in asked if 0 < counts[code] < len(rows.truth)]
    if not judged or n_classes > MAX_SHOWN_CLASSES:
        return None
    areas = [
        roc_auc_score(
            rows.truth == code, rows.probabilities[:, code], sample_weight=rows.weights
        )
        for code in judged
    ]
    return float(np.mean(areas))


def _log_loss(rows: _Rows) -> float:
    # Only the probability of the true class counts; given that alone, nothing of shape (n_rows,
    # n_classes) is made again, which matters with a thousand classes.
    from sklearn.metrics import log_loss

    true = np.minimum(rows.probabilities[np.arange(len(rows.truth)), rows.truth], 1)
    return float(
        log_loss(np.ones(len(true)), true, labels=[0, 1], sample_weight=rows.weights)
    )


def _shown(rows: _Rows, per_class: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    counts = np.bincount(rows.truth, minlength=len(rows.labels))
    return [
        {
            "label": label,
            **{name: _finite(values[code]) for name, values in per_class.items()},
            "n_rows": int(counts[code]),
        }
        for code, label in enumerate(rows.labels)
    ]


def _confusion_matrix(rows: _Rows) -> dict[str, Any]:
    n_classes = len(rows.labels)
    counts = np.bincount(
        rows.truth * n_classes + rows.predicted, minlength=n_classes**2
    )
    return {
        "labels": rows.labels,
        "counts": counts.reshape(n_classes, n_classes).tolist(),
    }


def _calibration(rows: _Rows) -> list[dict[str, Any]]:
    """Return the reliability diagram's bins: Guo et al., On Calibration of Modern Neural Networks,
    2017."""
    is_binary = len(rows.labels) == 2
    probability = (
        rows.probabilities[:, 1] if is_binary else rows.probabilities.max(axis=1)
    )
    is_hit = rows.truth == (1 if is_binary else rows.predicted)
    weights = np.ones(len(rows.truth)) if rows.weights is None else rows.weights
    edges = np.arange(_N_CALIBRATION_BINS + 1) / _N_CALIBRATION_BINS
    bins = np.searchsorted(edges[1:-1], probability, side="right")
    n_rows, weight, probability, hits = (
        np.bincount(bins, weights=values, minlength=_N_CALIBRATION_BINS)
        for values in (None, weights, weights * probability, weights * is_hit)
    )
    return [
        {
            "from": float(edges[i]),
            "to": float(edges[i + 1]),
            "n_rows": int(n_rows[i]),
            "mean_probability": float(probability[i] / weight[i]),
            "share": float(hits[i] / weight[i]),
        }
        for i in np.flatnonzero(n_rows)
    ]


def _errors(
    truth: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None
) -> dict[str, float | None]:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    is_constant = truth.min() == truth.max()
    return {
        "r2": None
        if is_constant
        else r2_score(truth, predictions, sample_weight=weights),
        "mae": mean_absolute_error(truth, predictions, sample_weight=weights),
        "rmse": root_mean_squared_error(truth, predictions, sample_weight=weights),
    }


def _quantiles(residuals: np.ndarray, weights: np.ndarray | None) -> list[float | None]:
    # numpy interpolates between values only where all weigh the same.
    method: Literal["linear", "inverted_cdf"] = (
        "linear" if weights is None else "inverted_cdf"
    )
    return [
        _finite(q)
        for q in np.quantile(
            residuals, RESIDUAL_QUANTILES, method=method, weights=weights
        )
    ]
