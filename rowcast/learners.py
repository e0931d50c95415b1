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


def task_of(values: np.ndarray, asked: str, *, max_classes: int) -> Task:
    """Return the task that a target of shape (n_rows,) is for.

    `auto`: text and booleans are classes. Numbers are classes if all are whole, at most 20 differ, and
    each value occurs twice on average; otherwise they are quantities.

    Raises:
        InvalidTable: the target does not fit the task asked for, or has one class or over `max_classes`.
    """
    is_whole = values.dtype.kind != "f" or bool(np.all(values == np.floor(values)))
    n_distinct = len(np.unique(values.astype(str) if values.dtype.kind == "O" else values))
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


def fit(task: Task, features: Sequence[Feature], frame: Any, target: np.ndarray, *, seed: int = 0) -> Any:
    """Fit scikit-learn's histogram gradient boosting on a frame (n_rows, n_features) and a target (n_rows,).

    Tables with text, categories or dates get skrub's TableVectorizer in front; all-numeric ones skip it.
    """
    estimator: Any
    if task == "classification":
        estimator = HistGradientBoostingClassifier(random_state=seed, early_stopping=_may_stop_early(target))
    else:
        estimator = HistGradientBoostingRegressor(random_state=seed)
        target = target.astype(np.float64)
    if any(feature.kind != "numeric" for feature in features):
        estimator = _prepared(estimator, seed)
    return estimator.fit(frame, target)


def _may_stop_early(target: np.ndarray) -> Literal["auto"] | bool:
    # Early stopping holds out a stratified tenth, which a class of one row cannot be split for.
    rarest = np.unique(target, return_counts=True)[1].min()
    return "auto" if rarest > 1 else False


def _prepared(estimator: Any, seed: int) -> Any:
    # Imported here because it takes 0.6 s and 40 MB, which all-numeric tables do not need.
    from sklearn.pipeline import make_pipeline
    from skrub import StringEncoder, TableVectorizer, ToCategorical

    vectorizer = TableVectorizer(
        low_cardinality=ToCategorical(), high_cardinality=StringEncoder(random_state=seed), n_jobs=1
    )
    return make_pipeline(vectorizer, estimator)


def predict(model: Any, frame: Any) -> np.ndarray:
    """Return predictions of shape (n_rows,): classes as the target had them, or float64 quantities."""
    if len(frame) == 0:
        return np.array([], dtype=getattr(model, "classes_", np.array([0.0])).dtype)
    values: np.ndarray = model.predict(frame)
    return values
