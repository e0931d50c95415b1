"""Choose among candidates by cross-validation, and blend the good ones.

Every candidate is fitted on the same folds, and predicts the rows of each that it has not seen.
From these predictions follow the weights of a blend, and what the leaderboard says. Nothing here
depends on a clock: the same rows and seed give the same choice on a busy machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rowcast.errors import InvalidTable
from rowcast.learning import blending, candidates
from rowcast.learning.candidates import Candidate, Situation
from rowcast.learning.fitting import (
    LARGE_ROWS,
    Fitted,
    Fitter,
    Prepared,
    Rows,
    judging_weights,
)
from rowcast.learning.learners import AUTO, LEARNERS, Preprocessing
from rowcast.learning.progress import SILENT
from rowcast.learning.splitting import Split, folds

# The rows that are enough to choose by, and the folds of them. Of a large table, a single fold of
# more rows is compared, because boosting gains most by them.
MAX_ROWS, MAX_ROWS_OF_LARGE, N_FOLDS = 3_000, 6_000, 3
# What is used where nothing can be compared.
_UNCOMPARED = Candidate("forest", "forest")
# What the leaderboard says of a candidate that cannot be fitted.
FAILURES = (ArithmeticError, ValueError, np.linalg.LinAlgError, MemoryError)


@dataclass
class Tried:
    """A candidate and its fits, one a fold.

    `of_truth` (n_rows,) is what blending needs of its predictions: the probability of the true
    class, or the residual. `predictions` are those of rows that the fits have not seen.
    """

    candidate: Candidate
    of_truth: np.ndarray
    predictions: np.ndarray
    fold_losses: list[float] = field(default_factory=list)
    fit_s: float = 0.0
    predict_s: float = 0.0
    failure: str = ""
    fitted: list[Fitted] = field(default_factory=list)

    def check(self) -> None:
        """Raise ArithmeticError if a prediction is not finite, because no mean of it is."""
        if not np.isfinite(self.fold_losses[-1]):
            raise ArithmeticError("a prediction is not finite")

    @property
    def loss(self) -> float:
        """The mean loss over the folds."""
        return float(np.mean(self.fold_losses)) if self.fold_losses else np.inf


@dataclass(frozen=True)
class WithoutFold:
    """The blend that is chosen without a fold, fitted, and what it predicts for the fold."""

    fitted: Fitted
    predictions: np.ndarray


@dataclass(frozen=True)
class Choice:
    """The members of a blend with their weights, the largest first, and all that were tried."""

    members: Sequence[tuple[Candidate, float]]
    tried: Sequence[Tried]
    splits: Sequence[Split]
    loss_name: str

    def without_fold(self, fitter: Fitter, rows: Rows, number: int) -> WithoutFold:
        """Return the blend that is chosen by all other folds of these rows.

        Fits that predict the other folds have seen rows of this one. That does not help a candidate
        with them, but strictly it is not the same as a choice without them, which would take as
        many fits again for each fold (Tsamardinos, Greasidou, Borboudakis, Bootstrapping the
        Out-of-sample Predictions for Efficient and Accurate Cross-Validation, 2018).
        """
        _, held = self.splits[number]
        able = [each for each in self.tried if not each.failure]
        is_other = np.ones(len(rows), bool)
        is_other[held] = False
        weights = weights_of(fitter, rows, able, is_other)
        used = [
            (each, weight) for each, weight in zip(able, weights, strict=True) if weight
        ]
        predictions = sum(weight * each.predictions[held] for each, weight in used)
        predictions = predictions / sum(weight for _, weight in used)
        fitted = [each.fitted[number] for each, _ in used]
        whole = blend(fitter, fitted, [weight for _, weight in used])
        return WithoutFold(whole, np.asarray(predictions))

    @property
    def _n_predicted(self) -> int:
        return max(1, sum(len(held) for _, held in self.splits))

    def chosen(self) -> list[dict[str, Any]]:
        """Return the members of the blend, the largest weight first, ready for JSON."""
        return [
            {
                "name": member.name,
                "learner": member.learner,
                "params": dict(member.params),
                "weight": weight,
            }
            for member, weight in self.members
        ]

    def leaderboard(self) -> list[dict[str, Any]]:
        """Return what each candidate achieved, the best first, ready for JSON."""
        if len(self.tried) < 2:
            return []
        weights = {member.name: weight for member, weight in self.members}
        ranked = sorted(self.tried, key=lambda each: each.loss)
        return [self._line(each, weights) for each in ranked]

    def _line(self, tried: Tried, weights: dict[str, float]) -> dict[str, Any]:
        n_folds = max(1, len(tried.fold_losses))
        has_losses = bool(tried.fold_losses)
        return {
            "name": tried.candidate.name,
            "learner": tried.candidate.learner,
            "params": dict(tried.candidate.params),
            "loss": self.loss_name,
            "mean": tried.loss if has_losses else None,
            "std": float(np.std(tried.fold_losses)) if has_losses else None,
            "fit_s": round(tried.fit_s / n_folds, 4),
            "predict_us_per_row": round(1e6 * tried.predict_s / self._n_predicted, 2),
            "weight": weights.get(tried.candidate.name, 0.0),
            "failure": tried.failure or None,
        }


@dataclass(frozen=True)
class BlendFitter:
    """Fits the members of a choice on rows, as a `Fitter` fits its learner."""

    fitter: Fitter
    choice: Choice

    def fit(self, rows: Rows, judge: Rows | None = None) -> Fitted:
        """Fit all members; a single one is the model itself, several are a weighted mean."""
        began = time.monotonic()
        self.fitter.progress.phase("preparing")
        shared = _Shared(self.fitter, rows)
        self.fitter.progress.phase("fitting")
        fitted = [shared.fit(candidate, judge) for candidate, _ in self.choice.members]
        weights = [weight for _, weight in self.choice.members]
        return blend(self.fitter, fitted, weights, time.monotonic() - began)


def choose(fitter: Fitter, rows: Rows) -> BlendFitter:
    """Choose the members of a blend, and their weights, on these rows or a sample of them."""
    found = candidates_for(fitter, rows)
    if len(found) == 1:
        return BlendFitter(fitter, _only(fitter, found[0]))
    sample = _sample(fitter, rows)
    splits = _splits(fitter, sample)
    if not splits:
        return BlendFitter(fitter, _only(fitter, _UNCOMPARED))
    if len(rows) >= LARGE_ROWS:
        # A comparison must not take longer than the fit.
        splits = splits[:1]
    tried = try_all(fitter, sample, splits, found)
    return BlendFitter(fitter, of(fitter, sample, tried, splits))


def of(
    fitter: Fitter, rows: Rows, tried: Sequence[Tried], splits: Sequence[Split]
) -> Choice:
    """Return the choice that follows from the predictions for these rows."""
    able = [each for each in tried if not each.failure]
    weights = weights_of(fitter, rows, able)
    members = [
        (each.candidate, float(weight))
        for each, weight in zip(able, weights, strict=True)
        if weight
    ]
    members.sort(key=lambda member: -member[1])
    return Choice(members, tried, splits, _loss_name(fitter))


def _splits(fitter: Fitter, rows: Rows) -> list[Split]:
    """Return the folds to compare by; none where no fold leaves enough to learn from and judge."""
    if fitter.classes is not None and len(set(rows.target.tolist())) == len(rows):
        return []
    with suppress(InvalidTable):
        return list(folds(fitter.plan, rows, N_FOLDS))
    return []


def _only(fitter: Fitter, candidate: Candidate) -> Choice:
    return Choice([(candidate, 1.0)], [], [], _loss_name(fitter))


def _loss_name(fitter: Fitter) -> str:
    return "rmse" if fitter.classes is None else "log_loss"


def weights_of(
    fitter: Fitter,
    rows: Rows,
    tried: Sequence[Tried],
    is_used: np.ndarray | None = None,
) -> np.ndarray:
    """Return the weights (n_tried,) that are best for the predictions of these rows."""
    if len(tried) == 1:
        return np.ones(1)
    of_truth = np.array([each.of_truth for each in tried])
    is_known = ~np.isnan(of_truth).any(axis=0)
    if is_used is not None:
        is_known &= is_used
    row_weights = judging_weights(fitter.plan, rows)
    return blending.weights_of(
        of_truth[:, is_known],
        row_weights[is_known],
        _loss_of(fitter),
        seed=fitter.plan.seed,
    )


def candidates_for(fitter: Fitter, rows: Rows) -> Sequence[Candidate]:
    """Return what to try for a fit on these rows: the learner of the plan, or several."""
    plan = fitter.plan
    if plan.learner != AUTO:
        return [Candidate(plan.learner, plan.learner, plan.params)]
    situation = Situation(
        plan.task,
        len(rows),
        len(fitter.features),
        0 if fitter.classes is None else len(fitter.classes),
    )
    return candidates.of(situation)


def try_all(
    fitter: Fitter,
    rows: Rows,
    splits: Sequence[Split],
    found: Sequence[Candidate],
) -> list[Tried]:
    """Fit every candidate on every fold, and keep what each predicts for the rows held back."""
    shape = (len(rows),) if fitter.classes is None else (len(rows), len(fitter.classes))
    tried = [
        Tried(candidate, np.full(len(rows), np.nan), np.full(shape, np.nan))
        for candidate in found
    ]
    for number, (kept, held) in enumerate(splits):
        with fitter.progress.fold(number, len(splits)):
            fold = _Fold(
                _Shared(fitter, rows.take(kept)), _Held(fitter, rows.take(held)), held
            )
            _try_on_fold(fitter, tried, fold)
    return tried


def _try_on_fold(fitter: Fitter, tried: Sequence[Tried], fold: _Fold) -> None:
    if len(tried) == 1:
        _try(tried[0], fold)
        return
    for n_done, each in enumerate(tried, 1):
        if not each.failure:
            try:
                _try(each, fold)
                each.check()
            except FAILURES as error:
                each.failure = type(error).__name__
        fitter.progress.iterations(n_done, len(tried))


def blend(
    fitter: Fitter,
    fitted: Sequence[Fitted],
    weights: Sequence[float],
    seconds: float = 0.0,
) -> Fitted:
    """Return fitted members as one: scikit-learn's voting estimator of whole pipelines."""
    if len(fitted) == 1:
        return replace(fitted[0], seconds=seconds)
    from sklearn.ensemble import VotingClassifier, VotingRegressor
    from sklearn.preprocessing import LabelEncoder

    models = [each.model() for each in fitted]
    named = [(f"member_{number}", model) for number, model in enumerate(models)]
    if fitter.classes is None:
        voting = VotingRegressor(named, weights=list(weights))
    else:
        voting = VotingClassifier(named, voting="soft", weights=list(weights))
        voting.le_ = LabelEncoder().fit(fitter.classes)
        voting.classes_ = voting.le_.classes_
    # `fit` would fit the members again.
    voting.estimators_ = models
    features = max((each.features for each in fitted), key=len)
    return Fitted(None, voting, list(features), seconds)


class _Shared:
    """Rows prepared once for all candidates with the same preprocessing."""

    def __init__(self, fitter: Fitter, rows: Rows) -> None:
        self._fitter = fitter
        self._rows = rows
        self._prepared: dict[Preprocessing, Prepared] = {}

    def fit(self, candidate: Candidate, judge: Rows | None = None) -> Fitted:
        fitter = self._fitter
        if candidate.learner != fitter.plan.learner:
            plan = replace(
                fitter.plan, learner=candidate.learner, params=candidate.params
            )
            # What counts for progress is the candidates.
            fitter = replace(fitter, plan=plan, progress=SILENT)
        learner = LEARNERS[candidate.learner]
        if learner.preprocessing not in self._prepared:
            self._prepared[learner.preprocessing] = fitter.prepare(self._rows)
        prepared = self._prepared[learner.preprocessing]
        stops = judge if learner.stops_early else None
        return fitter.fit_prepared(prepared, self._rows, stops)


class _Held:
    """Rows held back, prepared once for all candidates with the same preprocessing."""

    def __init__(self, fitter: Fitter, rows: Rows) -> None:
        self._rows = rows
        self._classes = fitter.classes
        self._loss = _loss_of(fitter)
        self._weights = judging_weights(fitter.plan, rows)
        self._prepared: dict[Preprocessing, Any] = {}

    def predictions(self, candidate: Candidate, fitted: Fitted) -> np.ndarray:
        preprocessing = LEARNERS[candidate.learner].preprocessing
        if preprocessing not in self._prepared:
            self._prepared[preprocessing] = fitted.prepare(self._rows.frame)
        return fitted.predictions(self._prepared[preprocessing], self._classes)

    def of_truth(self, predictions: np.ndarray) -> np.ndarray:
        """Return the probabilities of the true classes, or the residuals."""
        if self._classes is None:
            return np.asarray(self._rows.target - predictions)
        places = {label: place for place, label in enumerate(self._classes.tolist())}
        codes = [places[label] for label in self._rows.target.tolist()]
        return np.asarray(predictions[np.arange(len(codes)), codes])

    def loss(self, of_truth: np.ndarray) -> float:
        """Return the log loss, or the root mean squared error."""
        weights = self._weights
        if not weights.any():
            weights = np.ones(len(self._rows))
        found = float(self._loss(of_truth[None], weights)[0])
        return found if self._classes is not None else found**0.5


@dataclass(frozen=True)
class _Fold:
    """A fold: the rows to learn from, those held back, and the places of these."""

    learned: _Shared
    judge: _Held
    places: np.ndarray


def _try(tried: Tried, fold: _Fold) -> None:
    """Fit a candidate on a fold, and predict the rows held back."""
    fitted = fold.learned.fit(tried.candidate.for_trials())
    began = time.monotonic()
    predictions = fold.judge.predictions(tried.candidate, fitted)
    tried.predict_s += time.monotonic() - began
    tried.fit_s += fitted.seconds
    tried.fitted.append(fitted)
    tried.predictions[fold.places] = predictions
    of_truth = fold.judge.of_truth(predictions)
    tried.of_truth[fold.places] = of_truth
    tried.fold_losses.append(fold.judge.loss(of_truth))


def _loss_of(fitter: Fitter) -> blending.Loss:
    if fitter.classes is None:
        return blending.squared_error
    return blending.log_loss


def _sample(fitter: Fitter, rows: Rows) -> Rows:
    """Return rows to choose by."""
    most = MAX_ROWS if len(rows) < LARGE_ROWS else MAX_ROWS_OF_LARGE
    if len(rows) <= most:
        return rows
    random = np.random.default_rng(fitter.plan.seed)
    places = random.choice(len(rows), most, replace=False)
    return rows.take(np.sort(places))
