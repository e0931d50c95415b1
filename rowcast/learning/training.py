"""A model and an honest account of it: how well it does on rows that it was not trained on.

How rows are held back is the validation: `holdout` keeps a share of them from the model for good,
`split` does so for one extra fit and then fits the model on all rows, `cv` for five, `none` holds
nothing back.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from rowcast.errors import InvalidRequest, InvalidTable
from rowcast.learning import (
    evaluation,
    fit_monitor,
    prediction_intervals,
    preprocessing,
)
from rowcast.learning.explanations import permutation
from rowcast.learning.learners import LEARNERS, Task
from rowcast.learning.progress import SILENT, Progress, Step
from rowcast.tables import Feature

Way = Literal["holdout", "split", "cv", "none"]

# scikit-learn's boosting stops early by a tenth of the rows from about this size on; so does a
# holdout.
LARGE_ROWS = 10_000
HOLDOUT_SHARE, SPLIT_SHARE, N_FOLDS = 0.1, 0.2, 5
SHARE_FOR_IMPORTANCES, LEAST_FOR_IMPORTANCES_S = 0.1, 0.1


@dataclass(frozen=True)
class Plan:
    """What to fit: a learner with its parameters, for a task, and how to judge it.

    `importance_s` is the time for importances, in seconds; None: a tenth of the fit's, at least 0.1
    s.
    """

    learner: str
    task: Task
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    class_weight: Any = None
    validation: Literal["auto", "holdout", "cv", "none"] = "auto"
    importance_s: float | None = None


@dataclass(frozen=True)
class Rows:
    """Rows to learn from or to judge by: a frame (n_rows, n_features), targets and weights
    (n_rows,)."""

    frame: Any
    target: np.ndarray
    weights: np.ndarray | None = None

    def take(self, places: np.ndarray) -> Rows:
        """Return the rows at these places."""
        weights = None if self.weights is None else self.weights[places]
        return Rows(self.frame.iloc[places], self.target[places], weights)

    def without_frame(self) -> Rows:
        """Return what a baseline learns from, which does not keep a copy of the frame alive."""
        return Rows(None, self.target, self.weights)

    def __len__(self) -> int:
        return len(self.target)


@dataclass
class Trained:
    """A fitted model and what is known of it.

    `features` are those that hold enough values to learn from. `intervals` are what quantiles are
    made of.
    """

    model: Any
    features: list[Feature]
    validation: dict[str, Any]
    importances: dict[str, Any] | None
    intervals: dict[str, Any] | None
    notes: list[str]


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator with the transformer in front of it, None where the frame needs none."""

    transformer: Any | None
    estimator: Any
    features: list[Feature]
    seconds: float = 0.0

    def prepare(self, frame: Any) -> Any:
        """Return the prepared columns (n_rows, n_prepared) of a frame."""
        frame = frame[[feature.name for feature in self.features]]
        return frame if self.transformer is None else self.transformer.transform(frame)

    def model(self) -> Any:
        """Return both as one estimator."""
        if self.transformer is None:
            return self.estimator
        from sklearn.pipeline import make_pipeline

        return make_pipeline(self.transformer, self.estimator)


def train(
    plan: Plan, features: Sequence[Feature], rows: Rows, progress: Progress = SILENT
) -> Trained:
    """Fit a model and judge it.

    Raises:
        InvalidTable: there are too few rows of a class for cross-validation, no column has enough
            values.
        InvalidRequest: parameters do not fit together or to the target.
    """
    _check(plan, rows)
    if plan.task == "regression":
        rows = Rows(rows.frame, rows.target.astype(np.float64), rows.weights)
    course = _Course(plan, list(features), rows, _classes_of(plan, rows), progress)
    with warnings.catch_warnings(record=True) as caught:
        _note_only_convergence()
        way = way_of(plan.validation, len(rows))
        is_judged = way not in ("holdout", "split") or _can_be_split(plan, rows.target)
        way = way if is_judged else "none"
        progress.expect(*_STEPS[way])
        trained = _WAYS[way](course)
    if not is_judged:
        trained.notes.append(
            "No rows were held back to judge the model: no class has two rows."
        )
    if caught:
        trained.notes.append(
            f"The {plan.learner} learner did not converge; raise its parameter max_iter."
        )
    return trained


def way_of(asked: Literal["auto", "holdout", "cv", "none"], n_rows: int) -> Way:
    """Return how rows are held back; `auto` takes a holdout for 10,000 rows or more, else a
    split."""
    if asked == "auto":
        return "holdout" if n_rows >= LARGE_ROWS else "split"
    return asked


def _note_only_convergence() -> None:
    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore")
    warnings.simplefilter("always", ConvergenceWarning)


def _check(plan: Plan, rows: Rows) -> None:
    """Refuse what only the target's values show."""
    loss = plan.params.get("loss")
    problems = []
    if (loss == "quantile") != (plan.params.get("quantile") is not None):
        problems.append("loss=quantile and the parameter quantile need each other.")
    if loss == "gamma" and not (rows.target > 0).all():
        problems.append("loss=gamma needs targets over 0.")
    if loss == "poisson" and not ((rows.target >= 0).all() and rows.target.sum() > 0):
        problems.append("loss=poisson needs targets of 0 or more, at least one over 0.")
    if isinstance(plan.class_weight, Mapping):
        labels = {label_text(label) for label in set(rows.target.tolist())}
        problems += [
            f"class_weight names {name!r}, which is no class."
            for name in plan.class_weight
            if name not in labels
        ]
        if not any(plan.class_weight.get(label, 1) for label in labels):
            problems.append("class_weight gives no class a weight over 0.")
    if problems:
        raise InvalidRequest(" ".join(problems), errors=problems)


def label_text(label: Any) -> str:
    """Return a class as text, as columns of probabilities and class_weight name it."""
    return str(label).lower() if isinstance(label, bool | np.bool_) else str(label)


# The ways


@dataclass(frozen=True)
class _Course:
    """What one training goes by; `classes` (n_classes,) are sorted, None for a regression."""

    plan: Plan
    features: list[Feature]
    rows: Rows
    classes: np.ndarray | None
    progress: Progress


@dataclass(frozen=True)
class _Trial:
    """A fitted estimator, what it has learned to predict, and other rows, as they are and prepared
    for it."""

    fitted: Fitted
    learned: Rows
    held: Rows
    prepared: Any


class _Errors(NamedTuple):
    """Predictions for rows that the model had not seen, beside the truth."""

    truth: np.ndarray
    predictions: np.ndarray


def _train_with_holdout(course: _Course) -> Trained:
    is_large = len(course.rows) >= LARGE_ROWS
    stops = is_large and _stops_early(course.plan)
    trial = _fit_and_hold(
        course, HOLDOUT_SHARE if is_large else SPLIT_SHARE, stops=stops
    )
    return _judged(course, "holdout", trial.fitted, trial, stopped=stops)


def _stops_early(plan: Plan) -> bool:
    return (
        LEARNERS[plan.learner].stops_early
        and plan.params.get("early_stopping", "auto") is not False
    )


def _train_with_split(course: _Course) -> Trained:
    trial = _fit_and_hold(course, SPLIT_SHARE, stops=False)
    final = _fit(course, course.rows)
    return _judged(course, "split", final, trial, stopped=False)


def _fit_and_hold(course: _Course, share: float, *, stops: bool) -> _Trial:
    kept, places = split(course.rows.target, share, course.plan)
    learned, held = course.rows.take(kept), course.rows.take(places)
    fitted = _fit(course, learned, held if stops else None)
    return _Trial(fitted, learned.without_frame(), held, fitted.prepare(held.frame))


def _judged(
    course: _Course, way: Way, final: Fitted, trial: _Trial, *, stopped: bool
) -> Trained:
    course.progress.phase("validating")
    held = trial.held
    predictions = _predictions(trial.fitted, trial.prepared, course.classes)
    baseline = _baseline(course, trial.learned, held)
    validation = {
        "method": way,
        "n_rows": len(held),
        "n_rows_trained": len(course.rows) - len(held),
        "model_has_seen_them": way == "split",
        "early_stopping_saw_them": stopped,
        "scores": score(held, predictions, course.classes),
        "baseline": _scalars(score(held, baseline, course.classes)),
    }
    return _account(course, final, trial, validation, _Errors(held.target, predictions))


def _account(
    course: _Course,
    final: Fitted,
    trial: _Trial,
    validation: dict[str, Any],
    errors: _Errors,
) -> Trained:
    importances = _importances(course, trial)
    known = None
    if course.classes is None:
        known = prediction_intervals.learned(
            errors.truth - errors.predictions, errors.predictions
        )
    notes = [] if final is trial.fitted else _notes(final)
    return Trained(final.model(), final.features, validation, importances, known, notes)


def _train_with_cv(course: _Course) -> Trained:
    plan, rows, classes = course.plan, course.rows, course.classes
    shape = (len(rows),) if classes is None else (len(rows), len(classes))
    predictions, baseline, folds = np.empty(shape), np.empty(shape), []
    course.progress.phase("validating")
    for number, (kept, places) in enumerate(_folds(plan, rows)):
        with course.progress.fold(number, N_FOLDS):
            held, learned = rows.take(places), rows.take(kept)
            fitted = _fit(course, learned)
            trial = _Trial(
                fitted, learned.without_frame(), held, fitted.prepare(held.frame)
            )
            predictions[places] = _predictions(fitted, trial.prepared, classes)
            baseline[places] = _baseline(course, learned, held)
            folds.append(score(held, predictions[places], classes))
    final = _fit(course, rows)
    course.progress.phase("validating")
    validation = {
        "method": "cv",
        "n_folds": N_FOLDS,
        "n_rows": len(rows),
        "n_rows_trained": len(rows) - len(rows) // N_FOLDS,
        "model_has_seen_them": True,
        "early_stopping_saw_them": False,
        "scores": score(rows, predictions, classes),
        "folds": evaluation.mean_of_folds(folds),
        "baseline": _scalars(score(rows, baseline, classes)),
    }
    return _account(course, final, trial, validation, _Errors(rows.target, predictions))


def _notes(fitted: Fitted) -> list[str]:
    if not getattr(fitted.estimator, "do_early_stopping_", False):
        return []
    return [
        "The learner held back a tenth of the rows by itself, to stop the training early."
    ]


def _train_alone(course: _Course) -> Trained:
    fitted = _fit(course, course.rows)
    return Trained(
        fitted.model(), fitted.features, {"method": "none"}, None, None, _notes(fitted)
    )


_WAYS: dict[Way, Callable[[_Course], Trained]] = {
    "holdout": _train_with_holdout,
    "split": _train_with_split,
    "cv": _train_with_cv,
    "none": _train_alone,
}

# What is ahead in each way, with the share of time that it takes beside the others of
# `progress.COURSES`.
_FIT: tuple[Step, ...] = (("preparing", 2), ("fitting", 65))
_JUDGE: Step = ("validating", 15)
_STEPS: dict[Way, tuple[Step, ...]] = {
    "holdout": (*_FIT, _JUDGE),
    "split": (*_FIT, *_FIT, _JUDGE),
    "cv": (("validating", N_FOLDS * 65), *_FIT, _JUDGE),
    "none": _FIT,
}


# Holding back


def split(
    target: np.ndarray, share: float, plan: Plan
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the rows to learn from and of those held back, a `share` of all.

    Classes keep their shares where each has rows enough; a class of one row is learned from.
    """
    from sklearn.model_selection import train_test_split

    places = np.arange(len(target))
    if plan.task == "regression":
        kept, held = train_test_split(places, test_size=share, random_state=plan.seed)
        return kept, held
    classes, codes, counts = np.unique(
        _codes(target), return_inverse=True, return_counts=True
    )
    alone = counts[codes] < 2
    able = places[~alone]
    is_stratified = len(able) and len(classes) <= int(len(able) * share)
    kept, held = train_test_split(
        able,
        test_size=share,
        random_state=plan.seed,
        stratify=codes[able] if is_stratified else None,
    )
    is_known = np.isin(codes[held], codes[kept])
    if not is_known.any():
        # All rows of these classes were drawn. One stays, and another of its class is learned from.
        is_known[0] = True
    return np.concatenate([kept, held[~is_known], places[alone]]), held[is_known]


def _can_be_split(plan: Plan, target: np.ndarray) -> bool:
    # A class of one row is learned from, so that nobody could tell how well it is predicted.
    return plan.task == "regression" or len(set(target.tolist())) < len(target)


def _folds(plan: Plan, rows: Rows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    least = (
        min(np.unique(_codes(rows.target), return_counts=True)[1])
        if plan.task == "classification"
        else 0
    )
    kind = StratifiedKFold if least >= N_FOLDS else KFold
    for kept, held in kind(N_FOLDS, shuffle=True, random_state=plan.seed).split(
        np.zeros(len(rows)), _codes(rows.target)
    ):
        if plan.task == "classification" and len(set(rows.target[kept].tolist())) < 2:
            raise InvalidTable(
                "Cross-validation leaves a single class to learn from: a class has too few rows.",
                hint="Use validation=auto or validation=none, or upload more rows of the rarer "
                "classes.",
            )
        if rows.weights is not None and not rows.weights[kept].any():
            raise InvalidTable(
                "Cross-validation leaves no row of weight to learn from: too few rows have a "
                "weight over 0.",
                hint="Use validation=auto or validation=none, or give more rows a weight.",
            )
        yield kept, held


def _codes(target: np.ndarray) -> np.ndarray:
    """Return the target with text as fixed-width strings would be: as numbers, one for each
    value."""
    return (
        np.unique(target.astype(object), return_inverse=True)[1]
        if target.dtype.kind == "O"
        else target
    )


# Fitting


def _fit(course: _Course, rows: Rows, judge: Rows | None = None) -> Fitted:
    """Fit on these rows; those of `judge` stop the training early."""
    course.progress.phase("preparing")
    began, plan = time.monotonic(), course.plan
    learner = LEARNERS[plan.learner]
    # Boosting does not look at rows without weight when it looks for a column's values.
    has_weight = slice(None) if rows.weights is None else rows.weights > 0
    features = _usable(course.features, rows.frame[has_weight])
    frame = rows.frame[[feature.name for feature in features]]
    transformer = preprocessing.transformer(
        learner.preparation, features, seed=plan.seed
    )
    prepared = frame if transformer is None else transformer.fit_transform(frame)
    estimator = learner.make(
        plan.task, plan.params, seed=plan.seed, class_weight=_own_class_weight(plan)
    )
    fitted = Fitted(transformer, estimator, features)
    extra: dict[str, Any] = {}
    if judge is not None:
        estimator.set_params(early_stopping=True)
        extra = {"X_val": fitted.prepare(judge.frame), "y_val": judge.target}
        if (weights := _weights(plan, judge)) is not None:
            extra["sample_weight_val"] = weights
    elif (
        learner.stops_early
        and plan.task == "classification"
        and not _can_stop_early(rows.target)
    ):
        estimator.set_params(early_stopping=False)
    if (weights := _weights(plan, rows)) is not None:
        extra["sample_weight"] = weights
    course.progress.phase("fitting")
    with fit_monitor.watched(estimator, course.progress):
        estimator.fit(prepared, rows.target, **extra)
    return Fitted(transformer, estimator, features, time.monotonic() - began)


def _usable(features: list[Feature], frame: Any) -> list[Feature]:
    """Return the features that hold enough values here.

    Boosting fails on a column of which it sees no value, and it looks at nine tenths of over 10,000
    rows (the rest stops it early) and at 200,000 rows at most: 20 values are missed by both once in
    a billion.

    Raises:
        InvalidTable: none is left.
    """
    least = 1 if len(frame) <= LARGE_ROWS else 20 * max(1, len(frame) // 200_000)
    kept = [
        feature
        for feature in features
        if _n_known(feature, frame[feature.name]) >= least
    ]
    if not kept:
        raise InvalidTable("No column holds enough values to learn from.")
    return kept


def _n_known(feature: Feature, values: Any) -> int:
    if feature.kind != "text":
        return int(values.notna().sum())
    # The encoder of text fails where all is blank.
    return int((values.str.strip().fillna("") != "").sum())


def _can_stop_early(target: np.ndarray) -> bool:
    # scikit-learn's own early stopping holds out a stratified tenth: every class must be on both
    # sides.
    counts = np.unique(_codes(target), return_counts=True)[1]
    return bool(counts.min() > 1 and len(counts) <= len(target) // 10)


def _own_class_weight(plan: Plan) -> Any:
    """Return what the estimator itself does about classes; weights by name are weights of rows to
    it."""
    return None if isinstance(plan.class_weight, Mapping) else plan.class_weight


def _weights(plan: Plan, rows: Rows) -> np.ndarray | None:
    """Return the weights (n_rows,) to learn with: those of rows, times those of their classes.

    scikit-learn's boosting looks up a class's weight under its position (1.9.1), where others want
    its label.
    """
    if not isinstance(plan.class_weight, Mapping):
        return rows.weights
    import pandas as pd

    codes, labels = pd.factorize(rows.target)
    factors = np.array(
        [plan.class_weight.get(label_text(label), 1.0) for label in labels.tolist()]
    )
    return factors[codes] if rows.weights is None else factors[codes] * rows.weights


# Judging


def _classes_of(plan: Plan, rows: Rows) -> np.ndarray | None:
    if plan.task == "regression":
        return None
    target = rows.target
    return (
        np.array(sorted(set(target)), object)
        if target.dtype.kind == "O"
        else np.unique(target)
    )


def _predictions(
    fitted: Fitted, prepared: Any, classes: np.ndarray | None
) -> np.ndarray:
    """Return probabilities (n_rows, n_classes) of all classes, or values (n_rows,)."""
    if classes is None:
        return np.asarray(fitted.estimator.predict(prepared), np.float64)
    return aligned(
        fitted.estimator.predict_proba(prepared), fitted.estimator.classes_, classes
    )


def aligned(
    probabilities: np.ndarray, own: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Return probabilities with a column for each of `classes`, 0 where the estimator does not know
    it."""
    if len(own) == len(classes):
        return probabilities
    places = {label: place for place, label in enumerate(classes.tolist())}
    full = np.zeros((len(probabilities), len(classes)))
    full[:, [places[label] for label in own.tolist()]] = probabilities
    return full


def score(
    rows: Rows, predictions: np.ndarray, classes: np.ndarray | None
) -> dict[str, Any]:
    """Return the figures of predictions for these rows."""
    if classes is None:
        return evaluation.regression(rows.target, predictions, rows.weights)
    return evaluation.classification(classes, rows.target, predictions, rows.weights)


def _scalars(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if isinstance(value, float)}


def _baseline(course: _Course, rows: Rows, held: Rows) -> np.ndarray:
    """Return what a model says that looks at no feature: the classes' shares, or the mean."""
    dummy = LEARNERS["baseline"].make(course.plan.task, {}, seed=course.plan.seed)
    dummy.fit(np.zeros((len(rows), 1)), rows.target, sample_weight=rows.weights)
    return _predictions(
        Fitted(None, dummy, []), np.zeros((len(held), 1)), course.classes
    )


def _importances(course: _Course, trial: _Trial) -> dict[str, Any] | None:
    plan, held = course.plan, trial.held
    if plan.importance_s == 0 or LEARNERS[plan.learner].preparation == "none":
        return None
    budget_s = plan.importance_s
    if budget_s is None:
        budget_s = max(
            LEAST_FOR_IMPORTANCES_S, SHARE_FOR_IMPORTANCES * trial.fitted.seconds
        )
    loss = (
        permutation.rmse(held.target, held.weights)
        if course.classes is None
        else permutation.log_loss(course.classes, held.target, held.weights)
    )
    return permutation.permutation(
        lambda prepared: _predictions(trial.fitted, prepared, course.classes),
        trial.prepared,
        preprocessing.columns_of(trial.fitted.transformer, trial.fitted.features),
        loss,
        budget_s=budget_s,
        seed=plan.seed,
    )
