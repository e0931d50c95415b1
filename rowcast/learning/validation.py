"""Hold rows back and judge a model on them.

`holdout` keeps a share of the rows from the model for good. `split` does so for one extra fit, `cv`
(cross-validation) for five, and then both fit the model on all rows. `none` holds nothing back.

Each method is one entry in METHODS: how it validates, and the steps that progress then expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from rowcast.errors import InvalidTable
from rowcast.learning import evaluation, prediction_intervals, preprocessing
from rowcast.learning.explanations import permutation
from rowcast.learning.fitting import (
    LARGE_ROWS,
    Fitted,
    Fitter,
    Plan,
    Rows,
    codes_of,
)
from rowcast.learning.learners import LEARNERS
from rowcast.learning.progress import Step

Method = Literal["holdout", "split", "cv", "none"]

HOLDOUT_SHARE, SPLIT_SHARE, N_FOLDS = 0.1, 0.2, 5
IMPORTANCE_SHARE, MIN_IMPORTANCE_S = 0.1, 0.1
_OTHERWISE = "Use validation=auto or validation=none, or "


class Validated(NamedTuple):
    """The model to keep, and what its validation found; `account` is its manifest's `validation`.

    `intervals` are those of a regression's quantiles.
    """

    final: Fitted
    account: dict[str, Any]
    importances: dict[str, Any] | None = None
    intervals: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Trial:
    """A fit that is judged: what it learned, and the rows held back, raw and preprocessed."""

    fitted: Fitted
    learned: Rows
    held: Rows
    prepared: Any


def method_of(plan: Plan, target: np.ndarray) -> Method:
    """Return how rows are held back for a plan with this target, (n_rows,).

    `auto` means a holdout from 10,000 rows on, else a split. Neither is possible if no class has
    two rows.
    """
    if plan.validation == "cv":
        return "cv"
    if plan.validation == "none" or not _can_be_held_back(plan, target):
        return "none"
    if plan.validation == "holdout" or len(target) >= LARGE_ROWS:
        return "holdout"
    return "split"


def _can_be_held_back(plan: Plan, target: np.ndarray) -> bool:
    # A class of a single row is learned from, so nothing shows how well it is predicted.
    if plan.task == "regression":
        return True
    n_classes = len(set(target.tolist()))
    return n_classes < len(target)


def _holdout(fitter: Fitter, rows: Rows) -> Validated:
    share, stops = SPLIT_SHARE, False
    if len(rows) >= LARGE_ROWS:
        share, stops = HOLDOUT_SHARE, _stops_early(fitter.plan)
    trial = _try(fitter, rows, share, stops=stops)
    account = {
        "method": "holdout",
        **_sizes(rows, trial),
        "model_has_seen_them": False,
        "early_stopping_saw_them": stops,
    }
    return _judge(fitter, trial, trial.fitted, account)


def _split(fitter: Fitter, rows: Rows) -> Validated:
    trial = _try(fitter, rows, SPLIT_SHARE, stops=False)
    final = fitter.fit(rows)
    account = {
        "method": "split",
        **_sizes(rows, trial),
        "model_has_seen_them": True,
        "early_stopping_saw_them": False,
    }
    return _judge(fitter, trial, final, account)


def _cross_validation(fitter: Fitter, rows: Rows) -> Validated:
    fitter.progress.phase("validating")
    judged = _judge_folds(fitter, rows)
    final = fitter.fit(rows)
    fitter.progress.phase("validating")
    account = {
        "method": "cv",
        "n_folds": N_FOLDS,
        "n_rows": len(rows),
        "n_rows_trained": len(rows) - len(rows) // N_FOLDS,
        "model_has_seen_them": True,
        "early_stopping_saw_them": False,
        "scores": _score(rows, judged.predictions, fitter.classes),
        "folds": evaluation.mean_of_folds(judged.scores),
        "baseline": _scalars(_score(rows, judged.baseline, fitter.classes)),
    }
    return Validated(
        final,
        account,
        importances=_importances(fitter, judged.last),
        intervals=_intervals(fitter, rows, judged.predictions),
    )


class _JudgedFolds(NamedTuple):
    """Predictions for all rows, each by the fit that has not seen it, and the last fold's trial."""

    predictions: np.ndarray
    baseline: np.ndarray
    scores: list[dict[str, Any]]
    last: _Trial


def _judge_folds(fitter: Fitter, rows: Rows) -> _JudgedFolds:
    classes = fitter.classes
    shape = (len(rows),) if classes is None else (len(rows), len(classes))
    predictions = np.empty(shape)
    baseline = np.empty(shape)
    scores = []
    for number, (kept, held) in enumerate(folds(fitter.plan, rows)):
        with fitter.progress.fold(number, N_FOLDS):
            trial = _fit_without(fitter, rows, kept, held)
            predictions[held] = _predict(trial.fitted, trial.prepared, classes)
            baseline[held] = _predict_baseline(fitter, trial)
            scores.append(_score(trial.held, predictions[held], classes))
    return _JudgedFolds(predictions, baseline, scores, trial)


def _no_validation(fitter: Fitter, rows: Rows) -> Validated:
    return Validated(fitter.fit(rows), {"method": "none"})


class _Method(NamedTuple):
    """How a method validates, and its steps with the time that each takes relative to others."""

    validate: Callable[[Fitter, Rows], Validated]
    steps: tuple[Step, ...]


# The times are those of `progress.STEPS`.
_FIT: tuple[Step, ...] = (("preparing", 2), ("fitting", 65))
_JUDGE: Step = ("validating", 15)
_FOLDS: Step = ("validating", N_FOLDS * 65)
METHODS: dict[Method, _Method] = {
    "holdout": _Method(_holdout, (*_FIT, _JUDGE)),
    "split": _Method(_split, (*_FIT, *_FIT, _JUDGE)),
    "cv": _Method(_cross_validation, (_FOLDS, *_FIT, _JUDGE)),
    "none": _Method(_no_validation, _FIT),
}


# Holding rows back


def split(
    plan: Plan, target: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the rows to learn from and of those held back, a `share` of all.

    Classes keep their shares if each has enough rows; a class of one row is learned from.
    """
    from sklearn.model_selection import train_test_split

    places = np.arange(len(target))
    if plan.task == "regression":
        kept, held = train_test_split(places, test_size=share, random_state=plan.seed)
        return kept, held
    return _split_classes(plan, target, share)


def _split_classes(
    plan: Plan, target: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import train_test_split

    places = np.arange(len(target))
    _, codes, counts = np.unique(
        codes_of(target),
        return_inverse=True,
        return_counts=True,
    )
    is_single = counts[codes] < 2
    others = places[~is_single]
    n_held = int(len(others) * share)
    strata = codes[others] if len(counts) <= n_held else None
    kept, held = train_test_split(
        others,
        test_size=share,
        random_state=plan.seed,
        stratify=strata,
    )
    is_known = np.isin(codes[held], codes[kept])
    if not is_known.any():
        # All rows of these classes were drawn. One stays; another of its class is learned from.
        is_known[0] = True
    learned = np.concatenate([kept, held[~is_known], places[is_single]])
    return learned, held[is_known]


def folds(plan: Plan, rows: Rows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each fold the places of the rows to learn from and of those held back.

    Raises:
        InvalidTable: a fold leaves a single class, or no row with weight, to learn from.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    codes = codes_of(rows.target)
    splitter = KFold
    if plan.task == "classification":
        _, counts = np.unique(codes, return_counts=True)
        if min(counts) >= N_FOLDS:
            splitter = StratifiedKFold
    splits = splitter(N_FOLDS, shuffle=True, random_state=plan.seed)
    for kept, held in splits.split(np.zeros(len(rows)), codes):
        _check_fold(plan, rows, kept)
        yield kept, held


def _check_fold(plan: Plan, rows: Rows, kept: np.ndarray) -> None:
    if plan.task == "classification":
        n_classes = len(set(rows.target[kept].tolist()))
        if n_classes < 2:
            raise InvalidTable(
                "Cross-validation leaves a single class to learn from: a class has too few rows.",
                hint=f"{_OTHERWISE}upload more rows of the rarer classes.",
            )
    if rows.weights is not None and not rows.weights[kept].any():
        raise InvalidTable(
            "Cross-validation leaves no row of weight to learn from: too few rows have a "
            "weight over 0.",
            hint=f"{_OTHERWISE}give more rows a weight.",
        )


# Judging


def _stops_early(plan: Plan) -> bool:
    is_wanted = plan.params.get("early_stopping", "auto") is not False
    return LEARNERS[plan.learner].stops_early and is_wanted


def _try(fitter: Fitter, rows: Rows, share: float, *, stops: bool) -> _Trial:
    kept, held = split(fitter.plan, rows.target, share)
    return _fit_without(fitter, rows, kept, held, stops=stops)


def _fit_without(
    fitter: Fitter,
    rows: Rows,
    kept: np.ndarray,
    held: np.ndarray,
    *,
    stops: bool = False,
) -> _Trial:
    """Fit on the rows at `kept`; those at `held` stop the training early if `stops`."""
    learned = rows.take(kept)
    judge = rows.take(held)
    fitted = fitter.fit(learned, judge if stops else None)
    return _Trial(
        fitted=fitted,
        learned=learned.without_frame(),
        held=judge,
        prepared=fitted.prepare(judge.frame),
    )


def _sizes(rows: Rows, trial: _Trial) -> dict[str, int]:
    n_held = len(trial.held)
    return {
        "n_rows": n_held,
        "n_rows_trained": len(rows) - n_held,
    }


def _judge(
    fitter: Fitter, trial: _Trial, final: Fitted, account: dict[str, Any]
) -> Validated:
    """Complete the account of a model that is judged by a single trial."""
    fitter.progress.phase("validating")
    held, classes = trial.held, fitter.classes
    predictions = _predict(trial.fitted, trial.prepared, classes)
    baseline = _predict_baseline(fitter, trial)
    account["scores"] = _score(held, predictions, classes)
    account["baseline"] = _scalars(_score(held, baseline, classes))
    return Validated(
        final,
        account,
        importances=_importances(fitter, trial),
        intervals=_intervals(fitter, held, predictions),
    )


def _predict(fitted: Fitted, prepared: Any, classes: np.ndarray | None) -> np.ndarray:
    """Return probabilities (n_rows, n_classes) of all classes, or values (n_rows,)."""
    estimator = fitted.estimator
    if classes is None:
        return np.asarray(estimator.predict(prepared), np.float64)
    return _aligned(estimator.predict_proba(prepared), estimator.classes_, classes)


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


def _score(
    rows: Rows, predictions: np.ndarray, classes: np.ndarray | None
) -> dict[str, Any]:
    """Return the scores of predictions for these rows."""
    if classes is None:
        return evaluation.regression(rows.target, predictions, rows.weights)
    return evaluation.classification(classes, rows.target, predictions, rows.weights)


def _scalars(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def _predict_baseline(fitter: Fitter, trial: _Trial) -> np.ndarray:
    """Return the classes' shares in the rows that a trial learned from, or their mean."""
    plan, learned = fitter.plan, trial.learned
    dummy = LEARNERS["baseline"].make(plan.task, {}, seed=plan.seed)
    nothing = np.zeros((len(learned), 1))
    dummy.fit(nothing, learned.target, sample_weight=learned.weights)
    nothing = np.zeros((len(trial.held), 1))
    return _predict(Fitted(None, dummy, []), nothing, fitter.classes)


def _intervals(
    fitter: Fitter, rows: Rows, predictions: np.ndarray
) -> dict[str, Any] | None:
    if fitter.classes is not None:
        return None
    return prediction_intervals.learn(rows.target - predictions, predictions)


def _importances(fitter: Fitter, trial: _Trial) -> dict[str, Any] | None:
    plan, classes = fitter.plan, fitter.classes
    fitted, held = trial.fitted, trial.held
    if plan.importance_s == 0 or LEARNERS[plan.learner].preprocessing == "none":
        return None
    budget_s = plan.importance_s
    if budget_s is None:
        budget_s = max(MIN_IMPORTANCE_S, IMPORTANCE_SHARE * fitted.seconds)
    if classes is None:
        loss = permutation.rmse(held.target, held.weights)
    else:
        loss = permutation.log_loss(classes, held.target, held.weights)
    return permutation.importances(
        lambda prepared: _predict(fitted, prepared, classes),
        trial.prepared,
        preprocessing.columns_by_feature(fitted.transformer, fitted.features),
        loss,
        budget_s=budget_s,
        seed=plan.seed,
    )
