"""Estimators and their preparation; knows no HTTP, Redis or store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from rowcast.errors import InvalidTable
from rowcast.tables import Feature

Task = Literal["classification", "regression"]

# With more distinct values than this, whole numbers are taken for quantities, not for labels.
MAX_INFERRED_CLASSES = 20
_NOTHING_TO_LEARN_FROM = "No column besides the target holds values; there is nothing to learn from."


def task_of(values: np.ndarray, asked: str, *, max_classes: int) -> Task:
    """Return the task that a target of shape (n_rows,) is for.

    `auto`: text and booleans are classes. Numbers are classes if all are whole, at most 20 differ, and
    each value occurs twice on average; otherwise they are quantities.

    Raises:
        InvalidTable: the target does not fit the task asked for, or has one class or over `max_classes`.
    """
    is_whole = values.dtype.kind != "f" or bool(np.all(values == np.floor(values)))
    n_distinct = len(set(values)) if values.dtype.kind == "O" else len(np.unique(values))
    looks_like_classes = values.dtype.kind in "Ob" or (
        is_whole and n_distinct <= min(MAX_INFERRED_CLASSES, len(values) // 2)
    )
    if asked == "regression" and values.dtype.kind == "O":
        raise InvalidTable("The target is text, which has no regression; use task=classification.")
    if asked == "regression" or (asked == "auto" and not looks_like_classes):
        return "regression"
    if not is_whole:
        raise InvalidTable("The target holds fractions, which are no classes; use task=regression.")
    if n_distinct < 2:
        raise InvalidTable("The target has the same value in every row; there is nothing to learn.")
    if n_distinct > max_classes:
        raise InvalidTable(f"The target has {n_distinct} classes; at most {max_classes} are taken.")
    return "classification"


def _usable(frame: Any) -> Any:
    """Return the frame without the columns that hold too few values to learn from.

    Boosting fails on a column of which it sees no value, and it looks at nine tenths of over 10,000 rows
    (the rest stops it early) and at 200,000 rows at most: 20 values are missed by both once in a billion.

    Raises:
        InvalidTable: no column is left.
    """
    least = 1 if len(frame) <= 10_000 else 20 * max(1, len(frame) // 200_000)
    kept = frame.loc[:, frame.notna().sum() >= least]
    if kept.shape[1] == 0:
        raise InvalidTable(_NOTHING_TO_LEARN_FROM)
    return kept


def fit(task: Task, features: Sequence[Feature], frame: Any, target: np.ndarray, *, seed: int = 0) -> Any:
    """Fit scikit-learn's histogram gradient boosting on a frame (n_rows, n_features) and a target (n_rows,).

    Tables with text, categories or dates get skrub's TableVectorizer in front; all-numeric ones skip it. The
    model's `feature_names_in_` are the columns that hold enough values to learn from.

    Raises:
        InvalidTable: there are none.
    """
    frame = _usable(frame)
    estimator: Any
    if task == "classification":
        estimator = HistGradientBoostingClassifier(random_state=seed, early_stopping=_may_stop_early(target))
    else:
        estimator = HistGradientBoostingRegressor(random_state=seed)
        target = target.astype(np.float64)
    if any(feature.kind != "numeric" for feature in features if feature.name in frame):
        return _fit_prepared(estimator, frame, target, seed)
    return estimator.fit(frame, target)


def _may_stop_early(target: np.ndarray) -> Literal["auto"] | bool:
    # Early stopping holds out a stratified tenth: every class must have a row on each side.
    counts = np.unique(target, return_counts=True)[1]
    return "auto" if counts.min() > 1 and len(counts) <= len(target) // 10 else False


def _fit_prepared(estimator: Any, frame: Any, target: np.ndarray, seed: int) -> Any:
    # Imported here because it takes 0.6 s and 40 MB, which all-numeric tables do not need.
    from sklearn.pipeline import make_pipeline
    from skrub import StringEncoder, TableVectorizer, ToCategorical

    vectorizer = TableVectorizer(
        low_cardinality=ToCategorical(), high_cardinality=StringEncoder(random_state=seed), n_jobs=1
    )
    prepared = vectorizer.fit_transform(frame)
    if prepared.shape[1] == 0:
        raise InvalidTable(_NOTHING_TO_LEARN_FROM)
    return make_pipeline(vectorizer, estimator.fit(prepared, target))


def predict(model: Any, frame: Any) -> np.ndarray:
    """Return predictions of shape (n_rows,): classes as the target had them, or float64 quantities."""
    if len(frame) == 0:
        return np.array([], dtype=getattr(model, "classes_", np.array([0.0])).dtype)
    values: np.ndarray = model.predict(frame[list(model.feature_names_in_)])
    return values
