"""Hold rows back and judge a model on them.

`holdout` keeps a share of the rows from the model for good. `split` does so for one extra fit, `cv`
(cross-validation) for five, `time` for one with the last rows, and then these three fit the model
on all rows. `none` holds nothing back. Which rows are held back, `splitting` decides.

Each method is one entry in METHODS: how it validates, and the steps that progress then expects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from rowcast.errors import InvalidTable
from rowcast.learning import (
    choice,
    comparison,
    evaluation,
    learners,
    learning_curve,
    plots,
    prediction_intervals,
    prediction_sets,
    preprocessing,
    search,
    uncertainty,
    verdict,
    work,
)
from rowcast.learning.choice import BlendFitter, Choice, WithoutFold
from rowcast.learning.explanations import permutation
from rowcast.learning.fitting import LARGE_ROWS, Fitted, Fitter, Plan, Rows
from rowcast.learning.progress import Step
from rowcast.learning.splitting import Split, folds, held_back, split

Method = Literal["holdout", "split", "cv", "time", "none"]

HOLDOUT_SHARE, SPLIT_SHARE, N_FOLDS = 0.1, 0.2, 5
# Below this many rows a single split is luck.
SMALL_ROWS = 1_000
# The level of the intervals and sets whose coverage is measured.
COVERAGE_LEVEL = 0.9
IMPORTANCE_SHARE, MIN_IMPORTANCE_S = 0.1, 0.1


class Validated(NamedTuple):
    """The model to keep, and what its validation found; `account` is its manifest's `validation`.

    `intervals` are what the quantiles of a regression follow from, `sets` those of classes.
    `plots` are points of curves.
    """

    final: Fitted
    account: dict[str, Any]
    choice: Choice
    importances: dict[str, Any] | None = None
    intervals: dict[str, Any] | None = None
    sets: dict[str, Any] | None = None
    plots: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Trial:
    """A fit that is judged: what it learned, and the rows held back, raw and preprocessed."""

    fitted: Fitted
    learned: Rows
    held: Rows
    prepared: Any
    learning_curve: dict[str, Any] | None = None


def method_of(plan: Plan, rows: Rows) -> Method:
    """Return how rows are held back for a plan and these rows.

    `auto` means `time` for rows with times; for others cross-validation below 1,000 rows, a holdout
    from 10,000 rows on, else a split. Nothing is held back if no class has two rows.
    """
    if plan.validation == "none" or not _can_be_held_back(plan, rows.target):
        return "none"
    if rows.times is not None:
        return "time"
    if plan.validation == "cv":
        return "cv"
    if plan.validation == "holdout" or len(rows) >= LARGE_ROWS:
        return "holdout"
    if len(rows) < SMALL_ROWS and _has_folds(plan, rows):
        return "cv"
    return "split"


def _has_folds(plan: Plan, rows: Rows) -> bool:
    with suppress(InvalidTable):
        return bool(list(folds(plan, rows, N_FOLDS)))
    return False


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
    chosen, trial = _try(fitter, rows, share, stops=stops)
    account = {
        "method": "holdout",
        **_sizes(rows, trial),
        "model_has_seen_them": False,
        "early_stopping_saw_them": stops,
    }
    return _judge(fitter, trial, Validated(trial.fitted, account, chosen.choice))


def _split(fitter: Fitter, rows: Rows) -> Validated:
    return _extra_fit(fitter, rows, "split", SPLIT_SHARE)


def _in_time(fitter: Fitter, rows: Rows) -> Validated:
    # The last rows tell most of what is to come, so the model learns from them too.
    share = SPLIT_SHARE if len(rows) < LARGE_ROWS else HOLDOUT_SHARE
    return _extra_fit(fitter, rows, "time", share)


def _extra_fit(fitter: Fitter, rows: Rows, method: Method, share: float) -> Validated:
    chosen, trial = _try(fitter, rows, share, stops=False)
    final = chosen.fit(rows)
    account = {
        "method": method,
        **_sizes(rows, trial),
        "model_has_seen_them": True,
        "early_stopping_saw_them": False,
    }
    return _judge(fitter, trial, Validated(final, account, chosen.choice))


def _cross_validation(fitter: Fitter, rows: Rows) -> Validated:
    """Judge by folds: each is predicted by what is chosen, and fitted, without its rows."""
    splits = list(folds(fitter.plan, rows, N_FOLDS))
    if fitter.plan.effort == "thorough":
        chosen, judged = _judge_searches(fitter, rows, splits)
    else:
        chosen, judged = _judge_choice(fitter, rows, splits)
    of_folds = evaluation.mean_of_folds(judged.scores)
    final = chosen.fit(rows)
    fitter.progress.phase("validating")
    held = rows.take(judged.places)
    account = {
        "method": "cv",
        "held_back": held_back(rows),
        "n_folds": len(splits),
        "n_rows": len(held),
        "n_rows_trained": len(rows) - len(rows) // len(splits),
        "model_has_seen_them": True,
        "early_stopping_saw_them": False,
        **scored(fitter, held, judged.predictions, judged.baseline),
        "folds": of_folds,
    }
    share = verdict.share_of_baseline(fitter.plan.task, account)
    account["uncertainty"] = uncertainty.from_folds(judged.scores, judged.shares, share)
    return Validated(
        final,
        account,
        chosen.choice,
        importances=_importances(fitter, judged.last),
        intervals=_intervals(fitter, held, judged.predictions),
        sets=_sets(fitter, held, judged.predictions),
        plots={
            **plots.of(fitter, held, judged.predictions),
            "learning_curve": learning_curve.of(
                fitter, rows, chosen.choice, splits, chosen.choice.of_largest(splits)
            ),
        },
    )


def _judge_choice(
    fitter: Fitter, rows: Rows, splits: Sequence[Split]
) -> tuple[BlendFitter, _JudgedFolds]:
    """Judge the blend that would be chosen without each fold, by the fits that have not seen it."""
    fitter.progress.phase("validating")
    found = choice.candidates_for(fitter, rows)
    tried = comparison.try_all(fitter, rows, splits, found)
    made = choice.of(fitter, rows, tried, splits)
    judged = _judge_folds(
        fitter, rows, splits, lambda number: made.without_fold(fitter, rows, number)
    )
    return BlendFitter(fitter, made), judged


def _judge_searches(
    fitter: Fitter, rows: Rows, splits: Sequence[Split]
) -> tuple[BlendFitter, _JudgedFolds]:
    """Search once without each fold in half of the time, and then for the model in the other half.

    So no fold is judged by parameters that were tuned on its rows. The model comes last, because
    then it is known how much of the job's time is left.
    """
    fitter.progress.phase("validating")
    plan = fitter.plan
    half_s = search.Budget.of(plan.search_s, plan.deadline).seconds / 2
    searcher = _for(fitter, half_s / len(splits))

    def without_fold(number: int) -> WithoutFold:
        kept, held = splits[number]
        learned = rows.take(kept)
        with fitter.progress.fold(number, len(splits)):
            fitted = choice.choose(searcher, learned).fit(learned)
        prepared = fitted.prepare(rows.take(held).frame)
        return WithoutFold(fitted, fitted.predictions(prepared, fitter.classes))

    judged = _judge_folds(fitter, rows, splits, without_fold)
    return choice.choose(_for(fitter, half_s), rows), judged


def _for(fitter: Fitter, search_s: float) -> Fitter:
    return replace(fitter, plan=replace(fitter.plan, search_s=search_s))


class _JudgedFolds(NamedTuple):
    """Predictions for the rows at `places`, by fits that have not seen them, and the last trial."""

    places: np.ndarray
    predictions: np.ndarray
    baseline: np.ndarray
    scores: list[dict[str, Any]]
    shares: list[float]
    last: _Trial


def _judge_folds(
    fitter: Fitter,
    rows: Rows,
    splits: Sequence[Split],
    without_fold: Callable[[int], WithoutFold],
) -> _JudgedFolds:
    predictions, baseline, scores, shares = [], [], [], []
    for number, (kept, held) in enumerate(splits):
        judge = rows.take(held)
        found = without_fold(number)
        predictions.append(found.predictions)
        baseline.append(predict_baseline(fitter, rows.take(kept), len(held)))
        of_fold = scored(fitter, judge, found.predictions, baseline[-1])
        scores.append(of_fold["scores"])
        share = verdict.share_of_baseline(fitter.plan.task, of_fold)
        if share is not None:
            shares.append(share)
    last = _Trial(
        fitted=found.fitted,
        learned=rows.take(kept).without_frame(),
        held=judge,
        prepared=found.fitted.prepare(judge.frame),
    )
    return _JudgedFolds(
        places=np.concatenate([held for _, held in splits]),
        predictions=np.concatenate(predictions),
        baseline=np.concatenate(baseline),
        scores=scores,
        shares=shares,
        last=last,
    )


def _no_validation(fitter: Fitter, rows: Rows) -> Validated:
    chosen = choice.choose(fitter, rows)
    return Validated(chosen.fit(rows), {"method": "none"}, chosen.choice)


class _Method(NamedTuple):
    """How a method validates, and its steps with the time that each takes relative to others."""

    validate: Callable[[Fitter, Rows], Validated]
    steps: tuple[Step, ...]


# The times are those of `progress.STEPS`.
_FIT: tuple[Step, ...] = (("preparing", 2), ("fitting", 65))
_COMPARE: Step = ("comparing", 65)
_JUDGE: Step = ("validating", 15)
_FOLDS: Step = ("validating", N_FOLDS * 65)
METHODS: dict[Method, _Method] = {
    "holdout": _Method(_holdout, (*_FIT, _JUDGE)),
    "split": _Method(_split, (*_FIT, *_FIT, _JUDGE)),
    "time": _Method(_in_time, (*_FIT, *_FIT, _JUDGE)),
    "cv": _Method(_cross_validation, (_FOLDS, *_FIT, _JUDGE)),
    "none": _Method(_no_validation, _FIT),
}


def steps_of(plan: Plan, method: Method) -> tuple[Step, ...]:
    """Return the steps of a fit, with the time that each takes relative to others."""
    steps = METHODS[method].steps
    searching = 65 * plan.search_s
    if plan.effort == "thorough" and method == "cv":
        half = searching / 2
        return (("validating", half), ("comparing", half), *_FIT, _JUDGE)
    if plan.effort == "thorough":
        return (("comparing", searching), *steps)
    is_compared = plan.learner == learners.AUTO and plan.effort == "normal"
    if is_compared and method != "cv":
        return (_COMPARE, *steps)
    return steps


# Judging


def _stops_early(plan: Plan) -> bool:
    is_wanted = plan.params.get("early_stopping", "auto") is not False
    return learners.of(plan.learner).stops_early and is_wanted


def _try(
    fitter: Fitter, rows: Rows, share: float, *, stops: bool
) -> tuple[BlendFitter, _Trial]:
    """Choose and fit without a share of the rows, which stop the training early if `stops`."""
    kept, held = split(fitter.plan, rows, share)
    learned, judge = rows.take(kept), rows.take(held)
    chosen = choice.choose(fitter, learned)
    fitted = chosen.fit(learned, judge if stops else None)
    trial = _Trial(
        fitted=fitted,
        learned=learned.without_frame(),
        held=judge,
        prepared=fitted.prepare(judge.frame),
        learning_curve=learning_curve.of(fitter, rows, chosen.choice, [(kept, held)]),
    )
    return chosen, trial


def _sizes(rows: Rows, trial: _Trial) -> dict[str, Any]:
    return {
        "held_back": held_back(rows),
        "n_rows": len(trial.held),
        "n_rows_trained": len(trial.learned),
    }


def _judge(fitter: Fitter, trial: _Trial, validated: Validated) -> Validated:
    """Complete the account of a model that is judged by a single trial."""
    fitter.progress.phase("validating")
    held, classes = trial.held, fitter.classes
    predictions = trial.fitted.predictions(trial.prepared, classes)
    baseline = predict_baseline(fitter, trial.learned, len(held))
    account = {
        **validated.account,
        **scored(fitter, held, predictions, baseline),
        "uncertainty": uncertainty.from_rows(
            classes, held.target, predictions, baseline, held.weights
        ),
    }
    return validated._replace(
        account=account,
        importances=_importances(fitter, trial),
        intervals=_intervals(fitter, held, predictions),
        sets=_sets(fitter, held, predictions),
        plots={
            **plots.of(fitter, held, predictions),
            "learning_curve": trial.learning_curve,
        },
    )


def scored(
    fitter: Fitter, rows: Rows, predictions: np.ndarray, baseline: np.ndarray
) -> dict[str, Any]:
    """Return what is known of predictions for these rows, and of those of the baseline."""
    classes = fitter.classes
    values = predictions if classes is None else predictions.argmax(axis=1)
    return {
        "scores": _score(rows, predictions, classes),
        "baseline": _scalars(_score(rows, baseline, classes)),
        "n_distinct_predictions": len(np.unique(values)),
    }


def _score(
    rows: Rows, predictions: np.ndarray, classes: np.ndarray | None
) -> dict[str, Any]:
    """Return the scores of predictions for these rows."""
    if classes is None:
        return evaluation.regression(rows.target, predictions, rows.weights)
    return evaluation.classification(classes, rows.target, predictions, rows.weights)


def _scalars(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def predict_baseline(fitter: Fitter, learned: Rows, n_rows: int) -> np.ndarray:
    """Predict `n_rows` rows by the classes' shares in the learned rows, or by their mean."""
    dummy = learners.of("baseline").make(fitter.plan.task, {}, seed=fitter.plan.seed)
    nothing = np.zeros((len(learned), 1))
    dummy.fit(nothing, learned.target, sample_weight=learned.weights)
    nothing = np.zeros((n_rows, 1))
    return Fitted(None, dummy, []).predictions(nothing, fitter.classes)


def _intervals(
    fitter: Fitter, rows: Rows, predictions: np.ndarray
) -> dict[str, Any] | None:
    if fitter.classes is not None:
        return None
    residuals = rows.target - predictions
    learned = prediction_intervals.learn(residuals, predictions)
    if learned is None:
        return None
    share = prediction_intervals.measured_coverage(
        residuals, predictions, level=COVERAGE_LEVEL, seed=fitter.plan.seed
    )
    return {**learned, "coverage": {"level": COVERAGE_LEVEL, "share": share}}


def _sets(fitter: Fitter, rows: Rows, predictions: np.ndarray) -> dict[str, Any] | None:
    if fitter.classes is None:
        return None
    codes = evaluation.positions(fitter.classes, rows.target)
    of_truth = predictions[np.arange(len(codes)), codes]
    learned = prediction_sets.learn(of_truth)
    if learned is None:
        return None
    measured = prediction_sets.measured(
        predictions, codes, level=COVERAGE_LEVEL, seed=fitter.plan.seed
    )
    return {**learned, "coverage": measured and {"level": COVERAGE_LEVEL, **measured}}


def _importances(fitter: Fitter, trial: _Trial) -> dict[str, Any] | None:
    """Return the importances, within a number of predictions or, if it is given, within a time."""
    plan, classes = fitter.plan, fitter.classes
    fitted, held = trial.fitted, trial.held
    if plan.importance_s == 0 or learners.of(plan.learner).preprocessing == "none":
        return None
    if classes is None:
        loss = permutation.rmse(held.target, held.weights)
    else:
        loss = permutation.log_loss(classes, held.target, held.weights)
    n_columns = trial.prepared.shape[1]
    predict = work.Counted(
        lambda prepared: fitted.predictions(prepared, classes),
        work.row_s(fitted.estimator, n_columns),
    )
    is_timed = plan.importance_s is not None
    return permutation.importances(
        predict,
        trial.prepared,
        preprocessing.columns_by_feature(fitted.transformer, fitted.features),
        loss,
        budget_s=plan.importance_s or _nominal_budget_s(fitter, trial),
        seed=plan.seed,
        clock=time.monotonic if is_timed else predict.clock,
    )


def _nominal_budget_s(fitter: Fitter, trial: _Trial) -> float:
    """Return a share of the nominal seconds of the fit."""
    n_cells = len(trial.learned) * len(trial.fitted.features)
    fit_s = n_cells * learners.of(fitter.plan.learner).cost.fit_cell_s
    return max(MIN_IMPORTANCE_S, IMPORTANCE_SHARE * fit_s)
