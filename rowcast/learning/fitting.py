"""Fit a learner on rows: usable features, their preprocessing, weights, early stopping."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from rowcast.errors import InvalidTable
from rowcast.learning import fit_monitor, preprocessing
from rowcast.learning.learners import LEARNERS, Task
from rowcast.learning.progress import Progress
from rowcast.learning.spaces import DEFAULT_SEARCH_S, Effort
from rowcast.tables import Feature

# From about this many rows on, scikit-learn's boosting stops early, judged by a tenth of them.
LARGE_ROWS = 10_000


@dataclass(frozen=True)
class Plan:
    """What to fit: a learner with its parameters, for a task, and how to judge it.

    `importance_s` is the most time for importances, in seconds; None limits their work instead, so
    that the same fit gives the same ones. `background` says whether rows are kept with the model.
    `search_s` is the time for effort=thorough, in seconds, and `deadline` when all must be done, by
    time.monotonic.
    """

    learner: str
    task: Task
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    class_weight: Any = None
    validation: Literal["auto", "holdout", "cv", "time", "none"] = "auto"
    importance_s: float | None = None
    background: Literal["keep", "leave_out"] = "keep"
    effort: Effort = "normal"
    search_s: float = DEFAULT_SEARCH_S
    deadline: float | None = None


@dataclass(frozen=True)
class Rows:
    """Rows to learn from or to judge by: a frame (n_rows, n_features), targets and weights.

    `times` (n_rows,), NaN where unknown, or `groups` (n_rows,), a code each, say which rows are
    held back together; see `splitting`.
    """

    frame: Any
    target: np.ndarray
    weights: np.ndarray | None = None
    times: np.ndarray | None = None
    groups: np.ndarray | None = None

    def take(self, places: np.ndarray) -> Rows:
        """Return the rows at these places."""
        return Rows(
            self.frame.iloc[places],
            self.target[places],
            *(
                None if values is None else values[places]
                for values in (self.weights, self.times, self.groups)
            ),
        )

    def without_frame(self) -> Rows:
        """Return what a baseline learns from; it does not keep the frame in memory."""
        return replace(self, frame=None)

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator with the transformer in front of it, None if the frame needs none."""

    transformer: Any | None
    estimator: Any
    features: list[Feature]
    seconds: float = 0.0

    def prepare(self, frame: Any) -> Any:
        """Return the preprocessed columns (n_rows, n_preprocessed) of a frame."""
        frame = frame[[feature.name for feature in self.features]]
        if self.transformer is None:
            return frame
        return self.transformer.transform(frame)

    def predictions(self, prepared: Any, classes: np.ndarray | None) -> np.ndarray:
        """Return probabilities (n_rows, n_classes) of all classes, or values (n_rows,)."""
        if classes is None:
            return np.asarray(self.estimator.predict(prepared), np.float64)
        probabilities = self.estimator.predict_proba(prepared)
        return _aligned(probabilities, self.estimator.classes_, classes)

    def model(self) -> Any:
        """Return transformer and estimator as one estimator."""
        if self.transformer is None:
            return self.estimator
        from sklearn.pipeline import make_pipeline

        return make_pipeline(self.transformer, self.estimator)


@dataclass(frozen=True)
class Prepared:
    """Rows as a learner with some preprocessing sees them.

    `columns` (n_rows, n_preprocessed) are those of the frame that the transformer was fitted on.
    """

    transformer: Any | None
    features: list[Feature]
    columns: Any
    seconds: float


@dataclass(frozen=True)
class Fitter:
    """Fits the learner of a plan on rows of one table, as often as its validation needs.

    `classes` (n_classes,) are the sorted labels of all rows, None for a regression.
    """

    plan: Plan
    features: list[Feature]
    classes: np.ndarray | None
    progress: Progress

    def prepare(self, rows: Rows) -> Prepared:
        """Fit the learner's preprocessing on rows.

        Raises:
            InvalidTable: no column holds enough values.
        """
        began = time.monotonic()
        features = _usable(self.features, rows)
        transformer = preprocessing.transformer(
            LEARNERS[self.plan.learner].preprocessing, features, seed=self.plan.seed
        )
        frame = rows.frame[[feature.name for feature in features]]
        columns = frame if transformer is None else transformer.fit_transform(frame)
        return Prepared(transformer, features, columns, time.monotonic() - began)

    def fit(self, rows: Rows, judge: Rows | None = None) -> Fitted:
        """Fit on these rows; the rows of `judge`, if given, stop the training early.

        Raises:
            InvalidTable: no column holds enough values.
        """
        self.progress.phase("preparing")
        prepared = self.prepare(rows)
        self.progress.phase("fitting")
        return self.fit_prepared(prepared, rows, judge)

    def fit_prepared(
        self, prepared: Prepared, rows: Rows, judge: Rows | None = None
    ) -> Fitted:
        """Fit on rows that were prepared for this learner; see `fit`."""
        began = time.monotonic()
        plan = self.plan
        estimator = LEARNERS[plan.learner].make(
            plan.task, plan.params, seed=plan.seed, class_weight=_own_class_weight(plan)
        )
        fitted = Fitted(prepared.transformer, estimator, prepared.features)
        options = _early_stopping(plan, fitted, rows, judge)
        weights = _weights(plan, rows)
        if weights is not None:
            options["sample_weight"] = weights
        with fit_monitor.watched(estimator, self.progress):
            estimator.fit(prepared.columns, rows.target, **options)
        seconds = prepared.seconds + time.monotonic() - began
        return replace(fitted, seconds=seconds)


def _aligned(
    probabilities: np.ndarray, own: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Return probabilities with a column for each of `classes`, 0 for those not in `own`."""
    if len(own) == len(classes):
        return probabilities
    places = {label: place for place, label in enumerate(classes.tolist())}
    own_places = [places[label] for label in own.tolist()]
    full = np.zeros((len(probabilities), len(classes)))
    full[:, own_places] = probabilities
    return full


def judging_weights(plan: Plan, rows: Rows) -> np.ndarray:
    """Return the weights (n_rows,) to judge by: those of rows, times those of their classes."""
    found = _weights(plan, rows)
    weights = np.ones(len(rows)) if found is None else found
    if plan.class_weight != "balanced":
        return weights
    from sklearn.utils.class_weight import compute_sample_weight

    return np.asarray(
        weights * compute_sample_weight("balanced", codes_of(rows.target))
    )


def label_text(label: Any) -> str:
    """Return a class as text, as in the names of probability columns and in class_weight."""
    if isinstance(label, bool | np.bool_):
        return str(label).lower()
    return str(label)


def codes_of(target: np.ndarray) -> np.ndarray:
    """Return the target with text replaced by numbers, one per distinct value, in sorted order.

    Fixed-width strings would all take the space of the longest one.
    """
    if target.dtype.kind != "O":
        return target
    return np.unique(target.astype(object), return_inverse=True)[1]


def _usable(features: list[Feature], rows: Rows) -> list[Feature]:
    """Return the features that hold enough values in rows with weight.

    Boosting fails on a column of which it sees no value. It looks at nine tenths of over 10,000
    rows (the rest stops it early), and at 200,000 rows at most: both miss 20 values once in a
    billion.

    Raises:
        InvalidTable: none is left.
    """
    frame = rows.frame
    if rows.weights is not None:
        # Boosting ignores rows without weight when it looks for a column's values.
        frame = frame[rows.weights > 0]
    least = 1
    if len(frame) > LARGE_ROWS:
        least = 20 * max(1, len(frame) // 200_000)
    usable = [
        feature
        for feature in features
        if _n_known(feature, frame[feature.name]) >= least
    ]
    if not usable:
        raise InvalidTable("No column holds enough values to learn from.")
    return usable


def _n_known(feature: Feature, values: Any) -> int:
    if feature.kind != "text":
        return int(values.notna().sum())
    # The encoder of text fails if all values are blank.
    text = values.str.strip().fillna("")
    return int((text != "").sum())


def _early_stopping(
    plan: Plan, fitted: Fitted, rows: Rows, judge: Rows | None
) -> dict[str, Any]:
    """Switch early stopping on or off where needed, and return the arguments of `fit` for it."""
    if judge is None:
        is_possible = plan.task == "regression" or _can_stop_early(rows.target)
        if LEARNERS[plan.learner].stops_early and not is_possible:
            fitted.estimator.set_params(early_stopping=False)
        return {}
    fitted.estimator.set_params(early_stopping=True)
    arguments: dict[str, Any] = {
        "X_val": fitted.prepare(judge.frame),
        "y_val": judge.target,
    }
    weights = _weights(plan, judge)
    if weights is not None:
        arguments["sample_weight_val"] = weights
    return arguments


def _can_stop_early(target: np.ndarray) -> bool:
    # scikit-learn's own early stopping holds out a stratified tenth, with every class on both
    # sides.
    _, counts = np.unique(codes_of(target), return_counts=True)
    n_held = len(target) // 10
    return bool(counts.min() > 1 and len(counts) <= n_held)


def _own_class_weight(plan: Plan) -> Any:
    """Return the estimator's own class_weight; weights by name reach it as weights of rows."""
    if isinstance(plan.class_weight, Mapping):
        return None
    return plan.class_weight


def _weights(plan: Plan, rows: Rows) -> np.ndarray | None:
    """Return the weights (n_rows,) to learn with: those of rows, times those of their classes.

    scikit-learn's boosting looks up a class's weight by its position (1.9.1), other estimators by
    its label.
    """
    if not isinstance(plan.class_weight, Mapping):
        return rows.weights
    import pandas as pd

    codes, labels = pd.factorize(rows.target)
    by_class = [
        plan.class_weight.get(label_text(label), 1.0) for label in labels.tolist()
    ]
    factors = np.array(by_class)[codes]
    return factors if rows.weights is None else factors * rows.weights
