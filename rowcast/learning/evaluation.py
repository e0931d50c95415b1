"""Score predictions on rows that the model was not trained on.

All values are ready for JSON: Python's own numbers, and None where a score is not defined, because
JSON has no NaN. Rows of weight zero do not count. docs/models.md defines every score.

A new score is one entry in CLASSIFICATION_SCORES or REGRESSION_SCORES: manifests, baselines and the
means over folds follow from these tables. The first score of each table stands for a model in
listings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

# A matrix of more classes than this is unreadable, and fills the manifest.
MAX_SHOWN_CLASSES = 100
RESIDUAL_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_N_CALIBRATION_BINS = 10

Weights = np.ndarray | None
Scores = dict[str, float | None]


@dataclass(frozen=True)
class ClassRows:
    """Rows with predicted classes; `truth` and `predicted` (n_rows,) are positions in `labels`.

    `probabilities` are of shape (n_rows, n_labels) and sum to one.
    """

    labels: list[Any]
    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    weights: Weights

    @cached_property
    def per_class(self) -> dict[str, np.ndarray]:
        """Precision, recall and F1 of each label, NaN where there is nothing to divide by."""
        from sklearn.metrics import precision_recall_fscore_support

        names = ("precision", "recall", "f1")
        if not len(self.truth):
            undefined = np.full(len(self.labels), np.nan)
            return dict.fromkeys(names, undefined)
        values = precision_recall_fscore_support(
            self.truth,
            self.predicted,
            labels=range(len(self.labels)),
            sample_weight=self.weights,
            zero_division=np.nan,
        )
        return dict(zip(names, values, strict=False))


@dataclass(frozen=True)
class QuantityRows:
    """Rows with predicted quantities: `truth` and `predictions` (n_rows,), all finite."""

    truth: np.ndarray
    predictions: np.ndarray
    weights: Weights


def _accuracy(rows: ClassRows) -> Any:
    from sklearn.metrics import accuracy_score

    return accuracy_score(rows.truth, rows.predicted, sample_weight=rows.weights)


def _balanced_accuracy(rows: ClassRows) -> Any:
    # As scikit-learn's balanced_accuracy_score, which warns of classes without rows.
    return np.nanmean(rows.per_class["recall"])


def _roc_auc(rows: ClassRows) -> Any:
    # scikit-learn's own mean over classes rejects a truth in which a class has no rows.
    from sklearn.metrics import roc_auc_score

    n_classes = len(rows.labels)
    if n_classes > MAX_SHOWN_CLASSES:
        return None
    counts = np.bincount(rows.truth, minlength=n_classes)
    areas = []
    for code in [1] if n_classes == 2 else range(n_classes):
        if 0 < counts[code] < len(rows.truth):
            is_code = rows.truth == code
            of_code = rows.probabilities[:, code]
            areas.append(roc_auc_score(is_code, of_code, sample_weight=rows.weights))
    return np.mean(areas) if areas else None


def _log_loss(rows: ClassRows) -> Any:
    # The probability of the true class suffices. Given that alone, scikit-learn makes no further
    # arrays of shape (n_rows, n_classes), which matters with a thousand classes.
    from sklearn.metrics import log_loss

    each_row = np.arange(len(rows.truth))
    of_truth = rows.probabilities[each_row, rows.truth]
    of_truth = np.minimum(of_truth, 1)
    ones = np.ones(len(of_truth))
    return log_loss(ones, of_truth, labels=[0, 1], sample_weight=rows.weights)


def _f1(rows: ClassRows) -> Any:
    if len(rows.labels) != 2:
        return None
    return rows.per_class["f1"][1]


def _f1_macro(rows: ClassRows) -> Any:
    return np.nanmean(rows.per_class["f1"])


def _r2(rows: QuantityRows) -> Any:
    from sklearn.metrics import r2_score

    if rows.truth.min() == rows.truth.max():
        return None
    return r2_score(rows.truth, rows.predictions, sample_weight=rows.weights)


def _mae(rows: QuantityRows) -> Any:
    from sklearn.metrics import mean_absolute_error

    return mean_absolute_error(rows.truth, rows.predictions, sample_weight=rows.weights)


def _rmse(rows: QuantityRows) -> Any:
    from sklearn.metrics import root_mean_squared_error

    return root_mean_squared_error(
        rows.truth, rows.predictions, sample_weight=rows.weights
    )


# Each score is computed for one row or more; None and NaN say that it is not defined for them.
CLASSIFICATION_SCORES: dict[str, Callable[[ClassRows], Any]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "roc_auc": _roc_auc,
    "log_loss": _log_loss,
    "f1": _f1,
    "f1_macro": _f1_macro,
}
REGRESSION_SCORES: dict[str, Callable[[QuantityRows], Any]] = {
    "r2": _r2,
    "mae": _mae,
    "rmse": _rmse,
}
HEADLINE_SCORES = (
    next(iter(CLASSIFICATION_SCORES)),
    next(iter(REGRESSION_SCORES)),
)


def classification(
    classes: np.ndarray,
    truth: np.ndarray,
    probabilities: np.ndarray,
    weights: Weights = None,
) -> dict[str, Any]:
    """Score probabilities of shape (n_rows, n_classes) against the labels in `truth`, (n_rows,).

    `classes`, (n_classes,), names the columns. The most probable class is the predicted one, the
    first of equals. Labels in `truth` that are not in `classes` have probability 0 and follow the
    classes.
    """
    rows = _class_rows(classes, truth, probabilities, weights)
    is_shown = len(rows.labels) <= MAX_SHOWN_CLASSES
    return {
        **_scores(CLASSIFICATION_SCORES, rows, is_defined=len(rows.truth) > 0),
        "classes": _classes_shown(rows) if is_shown else None,
        "confusion_matrix": _confusion_matrix(rows) if is_shown else None,
        "calibration": _calibration(rows),
        "left_out": None if is_shown else _left_out(rows),
    }


def regression(
    truth: np.ndarray, predictions: np.ndarray, weights: Weights = None
) -> dict[str, Any]:
    """Score predictions (n_rows,) against the truth, in the target's unit; R2 has no unit."""
    truth = np.asarray(truth, np.float64)
    predictions = np.asarray(predictions, np.float64)
    rows = QuantityRows(*_weighted(truth, predictions, weights))
    # Values that are too large to be squared make a score None, not a warning.
    with np.errstate(over="ignore", invalid="ignore"):
        residuals = rows.truth - rows.predictions
        is_defined = bool(len(residuals)) and bool(np.isfinite(residuals).all())
        return {
            **_scores(REGRESSION_SCORES, rows, is_defined=is_defined),
            "residual_quantiles": _quantiles(
                residuals, rows.weights, is_defined=is_defined
            ),
        }


def mean_of_folds(folds: Sequence[Mapping[str, Any]]) -> dict[str, Scores]:
    """Return mean and standard deviation of each score over the folds that define it.

    The deviation is that of these folds themselves (numpy's std). Both are None if no fold defines
    the score.
    """
    found: dict[str, Scores] = {}
    for score in (*CLASSIFICATION_SCORES, *REGRESSION_SCORES):
        in_folds = [fold[score] for fold in folds if score in fold]
        if not in_folds:
            continue
        values = [value for value in in_folds if value is not None]
        found[score] = {"mean": None, "std": None}
        if values:
            found[score]["mean"] = _finite(np.mean(values))
            found[score]["std"] = _finite(np.std(values))
    return found


def positions(classes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the position in `classes` of each label in `truth`, (n_rows,); -1 for other labels."""
    order = np.argsort(classes, kind="stable")
    found = np.searchsorted(classes, truth, sorter=order)
    found = np.minimum(found, len(classes) - 1)
    codes = order[found]
    codes[classes[codes] != truth] = -1
    return codes


def _scores(
    table: Mapping[str, Callable[[Any], Any]], rows: Any, *, is_defined: bool
) -> Scores:
    scores: Scores = dict.fromkeys(table)
    if is_defined:
        for name, score in table.items():
            scores[name] = _finite(score(rows))
    return scores


def _finite(value: Any) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(value)


def _weighted(
    truth: np.ndarray, predictions: np.ndarray, weights: Weights
) -> tuple[np.ndarray, np.ndarray, Weights]:
    """Return what belongs to rows of weight over zero."""
    if weights is None:
        return truth, predictions, None
    has_weight = weights > 0
    return truth[has_weight], predictions[has_weight], weights[has_weight]


def _class_rows(
    classes: np.ndarray,
    truth: np.ndarray,
    probabilities: np.ndarray,
    weights: Weights,
) -> ClassRows:
    truth = np.asarray(truth)
    probabilities = np.asarray(probabilities, np.float64)
    truth, probabilities, weights = _weighted(truth, probabilities, weights)
    codes = positions(np.asarray(classes), truth)
    unknown, found = np.unique(truth[codes < 0], return_inverse=True)
    codes[codes < 0] = len(classes) + found
    # Sums in float32 miss 1 by more than scikit-learn tolerates.
    sums = probabilities.sum(axis=1, keepdims=True)
    probabilities = np.divide(
        probabilities, sums, out=np.zeros_like(probabilities), where=sums > 0
    )
    if len(unknown):
        added_columns = (0, len(unknown))
        probabilities = np.pad(probabilities, ((0, 0), added_columns))
    return ClassRows(
        labels=[_label(value) for value in (*classes, *unknown)],
        truth=codes,
        predicted=probabilities.argmax(axis=1),
        probabilities=probabilities,
        weights=weights,
    )


def _label(value: Any) -> str | int | float | bool:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


def _classes_shown(rows: ClassRows) -> list[dict[str, Any]]:
    counts = np.bincount(rows.truth, minlength=len(rows.labels))
    return [
        {
            "label": label,
            "precision": _finite(rows.per_class["precision"][code]),
            "recall": _finite(rows.per_class["recall"][code]),
            "f1": _finite(rows.per_class["f1"][code]),
            "n_rows": int(counts[code]),
        }
        for code, label in enumerate(rows.labels)
    ]


def _confusion_matrix(rows: ClassRows) -> dict[str, Any]:
    n_classes = len(rows.labels)
    cells = rows.truth * n_classes + rows.predicted
    counts = np.bincount(cells, minlength=n_classes**2)
    return {
        "labels": rows.labels,
        "counts": counts.reshape(n_classes, n_classes).tolist(),
    }


def _calibration(rows: ClassRows) -> list[dict[str, Any]]:
    """Return the bins of the reliability diagram that hold rows.

    Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    if len(rows.labels) == 2:
        probability = rows.probabilities[:, 1]
        is_hit = rows.truth == 1
    else:
        probability = rows.probabilities.max(axis=1)
        is_hit = rows.truth == rows.predicted
    weights = rows.weights
    if weights is None:
        weights = np.ones(len(rows.truth))
    edges = np.arange(_N_CALIBRATION_BINS + 1) / _N_CALIBRATION_BINS
    bins = np.searchsorted(edges[1:-1], probability, side="right")

    def totals(values: Weights) -> np.ndarray:
        return np.bincount(bins, weights=values, minlength=_N_CALIBRATION_BINS)

    n_rows = totals(None)
    weight = totals(weights)
    probabilities = totals(weights * probability)
    hits = totals(weights * is_hit)
    return [
        {
            "from": float(edges[i]),
            "to": float(edges[i + 1]),
            "n_rows": int(n_rows[i]),
            "mean_probability": float(probabilities[i] / weight[i]),
            "share": float(hits[i] / weight[i]),
        }
        for i in np.flatnonzero(n_rows)
    ]


def _left_out(rows: ClassRows) -> str:
    return (
        f"The target has {len(rows.labels)} classes: ROC AUC, the figures per class and "
        f"the confusion matrix are left out above {MAX_SHOWN_CLASSES}."
    )


def _quantiles(residuals: np.ndarray, weights: Weights, *, is_defined: bool) -> Scores:
    """Return the residuals' quantiles by their levels."""
    quantiles: Scores = dict.fromkeys(map(str, RESIDUAL_QUANTILES))
    if not is_defined:
        return quantiles
    # numpy interpolates between values only if all have the same weight.
    method: Literal["linear", "inverted_cdf"] = "linear"
    if weights is not None:
        method = "inverted_cdf"
    found = np.quantile(residuals, RESIDUAL_QUANTILES, method=method, weights=weights)
    for level, value in zip(RESIDUAL_QUANTILES, found, strict=True):
        quantiles[str(level)] = _finite(value)
    return quantiles
