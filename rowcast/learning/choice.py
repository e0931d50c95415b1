"""Choose among candidates by cross-validation, and blend the good ones.

Every candidate is fitted on the same folds, and predicts the rows of each that it has not seen.
From these predictions follow the weights of a blend, and what the leaderboard says. Nothing but
effort=thorough depends on a clock: the same rows and seed give the same choice on a busy machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rowcast.errors import InvalidTable
from rowcast.learning import candidates, comparison, search
from rowcast.learning.candidates import Candidate, Situation
from rowcast.learning.comparison import Tried
from rowcast.learning.fitting import (
    LARGE_ROWS,
    Fitted,
    Fitter,
    Rows,
)
from rowcast.learning.learners import AUTO
from rowcast.learning.progress import SILENT
from rowcast.learning.splitting import Split, folds

# The rows that are enough to choose by, and the folds of them. Of a large table, a single fold of
# more rows is compared, because boosting gains most by them.
MAX_ROWS, MAX_ROWS_OF_LARGE, N_FOLDS = 3_000, 6_000, 3
# A search has more time, but all its folds are in memory.
MAX_ROWS_OF_SEARCH, MAX_CELLS_OF_SEARCH, N_FOLDS_OF_SEARCH = 20_000, 2_000_000, 5
# What is used where nothing can be compared.
_UNCOMPARED = Candidate("forest", "forest")


@dataclass(frozen=True)
class WithoutFold:
    """The blend that is chosen without a fold, fitted, and what it predicts for the fold."""

    fitted: Fitted
    predictions: np.ndarray


@dataclass(frozen=True)
class Choice:
    """The members of a blend with their weights, the largest first, and all that were tried.

    `loss` is that of the blend on rows that its fits have not seen, `search` what the manifest says
    of a search.
    """

    members: Sequence[tuple[Candidate, float]]
    tried: Sequence[Tried]
    splits: Sequence[Split]
    loss_name: str
    why: str
    loss: float = np.inf
    search: dict[str, Any] | None = None

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
        weights = comparison.weights_of(fitter, rows, able, is_other)
        used = [
            (each, weight) for each, weight in zip(able, weights, strict=True) if weight
        ]
        predictions = sum(weight * each.predictions[held] for each, weight in used)
        predictions = predictions / sum(weight for _, weight in used)
        fitted = [each.fitted[number] for each, _ in used]
        whole = blend(fitter, fitted, [weight for _, weight in used])
        return WithoutFold(whole, np.asarray(predictions))

    def of_largest(self, splits: Sequence[Split]) -> Tried | None:
        """Return the fits of the largest member; None if others than these splits compared it."""
        member, _ = self.members[0]
        if self.splits is not splits:
            return None
        return next((each for each in self.tried if each.candidate == member), None)

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
            "size_bytes": tried.size_bytes,
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
        shared = comparison.Shared(self.fitter, rows)
        self.fitter.progress.phase("fitting")
        fitted = [shared.fit(candidate, judge) for candidate, _ in self.choice.members]
        weights = [weight for _, weight in self.choice.members]
        return blend(self.fitter, fitted, weights, time.monotonic() - began)


def choose(fitter: Fitter, rows: Rows) -> BlendFitter:
    """Choose the members of a blend, and their weights, on these rows or a sample of them."""
    is_searched = fitter.plan.effort == "thorough"
    found = candidates_for(fitter, rows)
    if len(found) == 1 and not is_searched:
        return BlendFitter(fitter, _only(fitter, found[0]))
    fitter.progress.phase("comparing")
    sample = _sample(fitter, rows)
    splits = _splits(fitter, sample)
    if not splits:
        return BlendFitter(fitter, _uncompared(fitter, found))
    if is_searched:
        made = _searched(fitter, sample, splits, found, n_rows=len(rows))
        return BlendFitter(fitter, made)
    if len(rows) >= LARGE_ROWS:
        # A comparison must not take longer than the fit.
        splits = splits[:1]
    tried = comparison.try_all(fitter, sample, splits, found, keeps_fits=False)
    return BlendFitter(fitter, of(fitter, sample, tried, splits))


def of(
    fitter: Fitter, rows: Rows, tried: Sequence[Tried], splits: Sequence[Split]
) -> Choice:
    """Return the choice that follows from the predictions for these rows.

    Raises:
        InvalidTable: no candidate could be fitted and judged.
    """
    able = [each for each in tried if not each.failure]
    if not able:
        failures = ", ".join(sorted({each.failure for each in tried}))
        raise InvalidTable(
            f"No learner can be fitted and judged on these rows ({failures}).",
            hint="Numbers whose squares are over 1e308 do that: scale the target, upload the table "
            "again and submit the new id.",
        )
    weights = _weights(fitter, rows, able)
    members = [
        (each.candidate, float(weight))
        for each, weight in zip(able, weights, strict=True)
        if weight
    ]
    members.sort(key=lambda member: -member[1])
    return Choice(
        members,
        tried,
        splits,
        comparison.loss_name(fitter),
        why=_why(fitter, rows, able, weights),
        loss=comparison.blended_loss(fitter, rows, able, list(weights)),
    )


def _weights(fitter: Fitter, rows: Rows, tried: Sequence[Tried]) -> np.ndarray:
    """Return the weights (n_tried,) of a blend, or of the best one where a learner is named."""
    if fitter.plan.learner == AUTO:
        return comparison.weights_of(fitter, rows, tried)
    losses = [each.loss for each in tried]
    return np.asarray(np.eye(len(tried))[int(np.argmin(losses))])


def _why(
    fitter: Fitter, rows: Rows, tried: Sequence[Tried], weights: np.ndarray
) -> str:
    """Return a sentence on why these weights were chosen."""
    if len(tried) == 1:
        return _why_alone(fitter, tried[0].candidate)
    loss = comparison.loss_name(fitter).replace("_", " ")
    found = comparison.blended_loss(fitter, rows, tried, list(weights))
    losses = [comparison.blended_loss(fitter, rows, [each], [1.0]) for each in tried]
    best = int(np.argmin(losses))
    if np.count_nonzero(weights) == 1:
        name = tried[int(np.argmax(weights))].candidate.name
        does = "alone does as well as any mean of the candidates"
        if fitter.plan.learner != AUTO:
            does = "is the best that was tried"
        return (
            f"{name!r} {does}: its {loss} is {found:.4g}, on rows that its fits have not "
            "seen."
        )
    return (
        f"The {loss} of the mean is {found:.4g}, on rows that its members have not seen; that of "
        f"{tried[best].candidate.name!r}, the best single candidate, is {losses[best]:.4g}."
    )


def _searched(
    fitter: Fitter,
    rows: Rows,
    splits: Sequence[Split],
    found: Sequence[Candidate],
    n_rows: int,
) -> Choice:
    """Return the choice of candidates and of trials of a search, or that of candidates alone.

    The trials are left out if the blend with them has no lower loss, or if its fit on `n_rows`
    rows would hardly end in the time of the job.
    """
    plan = fitter.plan
    budget = search.Budget.of(plan.search_s, plan.deadline)
    # What counts for progress is the time.
    quiet = replace(fitter, progress=SILENT)
    parts = [comparison.fold_of(quiet, rows, split) for split in splits]
    tried = comparison.try_all(quiet, rows, splits, found, parts, keeps_fits=False)
    normal = of(fitter, rows, tried, splits)
    able = [each for each in tried if not each.failure]
    situation = situation_of(fitter, n_rows)
    trials = search.of(fitter, situation, len(rows), parts, found).run(able, budget)
    both = [*tried, *trials.best]
    made = of(fitter, rows, both, splits)
    growth = n_rows / len(splits[0][0])
    names = {member.name for member, _ in made.members}
    members = [each for each in both if each.candidate.name in names]
    if made.loss >= normal.loss or not budget.allows_fits(members, growth):
        made = normal
    account = trials.account(budget)
    account.update(
        loss=made.loss_name, loss_at_start=normal.loss, loss_at_end=made.loss
    )
    return replace(made, tried=both, search=account)


def _splits(fitter: Fitter, rows: Rows) -> list[Split]:
    """Return the folds to compare by; none where no fold leaves enough to learn from and judge."""
    if fitter.classes is not None and len(set(rows.target.tolist())) == len(rows):
        return []
    n_folds = N_FOLDS_OF_SEARCH if fitter.plan.effort == "thorough" else N_FOLDS
    with suppress(InvalidTable):
        return list(folds(fitter.plan, rows, n_folds))
    return []


def _only(fitter: Fitter, candidate: Candidate) -> Choice:
    """Return the choice of a candidate that is compared with no other."""
    why = _why_alone(fitter, candidate)
    return Choice([(candidate, 1.0)], [], [], comparison.loss_name(fitter), why)


def _uncompared(fitter: Fitter, found: Sequence[Candidate]) -> Choice:
    """Return the choice where no fold can be made."""
    candidate = _UNCOMPARED if fitter.plan.learner == AUTO else found[0]
    why = "There are too few rows of each class to compare candidates by."
    return replace(_only(fitter, candidate), why=why)


def _why_alone(fitter: Fitter, candidate: Candidate) -> str:
    if fitter.plan.learner != AUTO:
        return "The request names the learner."
    return (
        f"effort=quick fits {candidate.name!r} without a comparison, by the numbers of rows and "
        "classes."
    )


def situation_of(fitter: Fitter, n_rows: int) -> Situation:
    """Return what is known of a number of rows before a fit."""
    n_classes = 0 if fitter.classes is None else len(fitter.classes)
    return Situation(fitter.plan.task, n_rows, len(fitter.features), n_classes)


def candidates_for(fitter: Fitter, rows: Rows) -> Sequence[Candidate]:
    """Return what to try for a fit on these rows: the learner of the plan, or several."""
    plan = fitter.plan
    if plan.learner != AUTO:
        return [Candidate(plan.learner, plan.learner, plan.params)]
    situation = situation_of(fitter, len(rows))
    if plan.effort == "quick":
        return [candidates.quick(situation)]
    return candidates.of(situation)


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
        # The rows of a fit may lack a class.
        voting.le_ = LabelEncoder().fit(fitted[0].estimator.classes_)
        voting.classes_ = voting.le_.classes_
    # `fit` would fit the members again.
    voting.estimators_ = models
    features = max((each.features for each in fitted), key=len)
    return Fitted(None, voting, list(features), seconds)


def _sample(fitter: Fitter, rows: Rows) -> Rows:
    """Return rows to choose by, at least one of each class."""
    most = MAX_ROWS if len(rows) < LARGE_ROWS else MAX_ROWS_OF_LARGE
    if fitter.plan.effort == "thorough":
        n_classes = 0 if fitter.classes is None else len(fitter.classes)
        n_affordable = MAX_CELLS_OF_SEARCH // max(len(fitter.features), n_classes)
        most = max(MAX_ROWS, min(MAX_ROWS_OF_SEARCH, n_affordable))
    if len(rows) <= most:
        return rows
    random = np.random.default_rng(fitter.plan.seed)
    places = random.choice(len(rows), most, replace=False)
    if fitter.classes is not None:
        places = np.concatenate([places, _of_missing_classes(rows.target, places)])
    return rows.take(np.sort(places))


def _of_missing_classes(target: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the first place of each class that has none of these places."""
    import pandas as pd

    codes, labels = pd.factorize(target)
    is_missing = np.bincount(codes[places], minlength=len(labels)) == 0
    if not is_missing.any():
        return np.empty(0, int)
    return np.asarray(np.unique(codes, return_index=True)[1][is_missing])
