"""Tune the parameters of learners by trials, for effort=thorough, until a time is over.

Optuna proposes the parameters by those of earlier trials (Bergstra, Bardenet, Bengio, Kégl,
Algorithms for Hyper-Parameter Optimization, 2011), and begins with what the choice has compared
already. A trial that is worse on its first fold than half of the others is given up. This alone in
a fit depends on the clock.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rowcast.learning import comparison, spaces
from rowcast.learning.candidates import Candidate, Situation
from rowcast.learning.comparison import Fold, Tried
from rowcast.learning.fitting import Fitter
from rowcast.learning.learners import AUTO
from rowcast.learning.spaces import Dimension

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import FrozenTrial, Trial

_LEARNER = "learner"
_PRUNED = "pruned"
# The trials that are kept to be blended, and for the leaderboard: the best ones.
N_KEPT = 5
# Trials and candidates after which the next ones may be given up.
_N_BEFORE_PRUNING = 5
# A search takes at most this share of what is left of the time of a job.
_SHARE_OF_REST = 0.5
# A fit may take this many times as long as expected.
_MARGIN = 3.0
# A forest of all trees takes this many times as long as one for trials.
_ALL_TREES = 2.5


@dataclass(frozen=True)
class Budget:
    """The time of a search, by time.monotonic: from `began` to `ends` at the latest.

    `deadline` is when the job must have ended, None if never.
    """

    began: float
    ends: float
    deadline: float | None

    @classmethod
    def of(cls, seconds: float, deadline: float | None) -> Budget:
        """Return a budget that begins now; half of what is left of the job is for the final fit."""
        began = time.monotonic()
        if deadline is not None:
            seconds = min(seconds, _SHARE_OF_REST * (deadline - began))
        return cls(began, began + max(seconds, 0.0), deadline)

    def has(self, seconds: float) -> bool:
        """Return whether `seconds` are left."""
        return time.monotonic() + seconds < self.ends

    @property
    def seconds(self) -> float:
        """How long the search may take."""
        return self.ends - self.began

    @property
    def share_used(self) -> float:
        """The share of the time that is over."""
        used = time.monotonic() - self.began
        return min(used / self.seconds, 1.0) if self.seconds else 1.0

    def allows_fits(self, tried: Sequence[Tried], growth: float) -> bool:
        """Return whether these can be fitted on `growth` times as many rows before the deadline."""
        if self.deadline is None:
            return True
        expected_s = sum(map(_fit_s, tried)) * growth
        return time.monotonic() + _MARGIN * expected_s < self.deadline


def _fit_s(tried: Tried) -> float:
    """Return the mean seconds of a fit on a fold, with all trees."""
    mean_s = tried.fit_s / max(1, len(tried.fold_losses))
    return mean_s * _ALL_TREES if tried.candidate.trial_params else mean_s


@dataclass
class Found:
    """What a search has found: the best trials, the best first, and how many there were."""

    best: list[Tried] = field(default_factory=list)
    n_trials: int = 0
    n_pruned: int = 0

    def add(self, tried: Tried) -> None:
        """Count a trial, and keep it if it is one of the best."""
        self.n_trials += 1
        self.n_pruned += tried.failure == _PRUNED
        # Nothing but the predictions is needed.
        tried.fitted.clear()
        if tried.failure:
            return
        self.best = sorted([*self.best, tried], key=lambda each: each.loss)[:N_KEPT]

    def account(self, budget: Budget) -> dict[str, Any]:
        """Return what the manifest says of the search, without its losses."""
        return {
            "seconds": round(time.monotonic() - budget.began, 3),
            "n_trials": self.n_trials,
            "n_pruned": self.n_pruned,
            "note": "The model depends on the time given, and on how busy the machine was.",
        }


def of(
    fitter: Fitter,
    situation: Situation,
    n_rows: int,
    folds: Sequence[Fold],
    candidates: Sequence[Candidate],
) -> Search:
    """Return a search in the spaces of the candidates' learners, by folds of `n_rows` rows.

    Where a learner is named, all trials have the parameters of the request.
    """
    is_named = fitter.plan.learner != AUTO
    fixed = fitter.plan.params if is_named else {}
    found = {
        each.learner: spaces.of(each.learner, situation, tuple(fixed))
        for each in candidates
    }
    return Search(
        fitter,
        n_rows,
        folds,
        {learner: space for learner, space in found.items() if space},
        fixed,
        {each.learner: each.trial_params for each in candidates},
    )


@dataclass(frozen=True)
class Search:
    """What is searched: folds of `n_rows` rows to compare by, and a space for each learner.

    `fixed` are the parameters that all trials have, `trial_params` those with which a learner is
    compared.
    """

    fitter: Fitter
    n_rows: int
    folds: Sequence[Fold]
    spaces: Mapping[str, Mapping[str, Dimension]]
    fixed: Mapping[str, Any]
    trial_params: Mapping[str, Mapping[str, Any]]

    def run(self, known: Sequence[Tried], budget: Budget) -> Found:
        """Try parameters until the budget is used, beginning with what is known already."""
        with warnings.catch_warnings():
            # Trials that do not converge are no news.
            warnings.simplefilter("ignore")
            return self._run(known, budget)

    def _run(self, known: Sequence[Tried], budget: Budget) -> Found:
        study = self._study(known)
        slowest_s: dict[str, float] = {}
        for each in known:
            _note_time(slowest_s, each)
        best_loss = min(each.loss for each in known)
        found = Found()
        while budget.has(0.0):
            trial = study.ask()
            candidate = self._candidate(trial, found.n_trials + 1)
            if not budget.has(slowest_s.get(candidate.learner, 0.0)):
                break
            tried = self._try(study, trial, candidate)
            _note_time(slowest_s, tried)
            found.add(tried)
            if not tried.failure:
                best_loss = min(best_loss, tried.loss)
            self.fitter.progress.best(best_loss)
            self.fitter.progress.trials(found.n_trials, budget.share_used)
        return found

    def _study(self, known: Sequence[Tried]) -> Study:
        """Return a study that knows the trials of the choice, as far as it could have made them."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=self.fitter.plan.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_N_BEFORE_PRUNING),
        )
        for each in known:
            if each.candidate.learner in self.spaces:
                study.add_trial(self._as_trial(each))
        return study

    def _as_trial(self, tried: Tried) -> FrozenTrial:
        import optuna

        learner = tried.candidate.learner
        params: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        if len(self.spaces) > 1:
            params[_LEARNER] = learner
            distributions[_LEARNER] = self._learners()
        for name, dimension in self.spaces[learner].items():
            value = tried.candidate.params.get(name, dimension.usual)
            if isinstance(value, int | float):
                key = f"{learner}.{name}"
                params[key] = min(max(value, dimension.least), dimension.most)
                distributions[key] = _distribution(dimension)
        losses = np.cumsum(tried.fold_losses) / np.arange(1, len(tried.fold_losses) + 1)
        return optuna.trial.create_trial(
            value=tried.loss,
            params=params,
            distributions=distributions,
            intermediate_values=dict(enumerate(losses.tolist())),
        )

    def _learners(self) -> CategoricalDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(list(self.spaces))

    def _candidate(self, trial: Trial, number: int) -> Candidate:
        """Return the candidate whose learner and parameters Optuna proposes."""
        learner = next(iter(self.spaces))
        if len(self.spaces) > 1:
            learner = trial.suggest_categorical(_LEARNER, list(self.spaces))
        params = dict(self.fixed)
        for name, dimension in self.spaces[learner].items():
            params[name] = _suggested(trial, f"{learner}.{name}", dimension)
        few = self.trial_params.get(learner, {})
        return Candidate(f"{learner}, trial {number}", learner, params, few)

    def _try(self, study: Study, trial: Trial, candidate: Candidate) -> Tried:
        """Fit a candidate on each fold, unless it is given up before, and tell the study."""
        from optuna.trial import TrialState

        tried = comparison.untried(self.fitter, self.n_rows, candidate)
        for number, fold in enumerate(self.folds, 1):
            comparison.attempt(tried, fold)
            if tried.failure:
                study.tell(trial, state=TrialState.FAIL)
                return tried
            trial.report(tried.loss, number - 1)
            if number < len(self.folds) and trial.should_prune():
                tried.failure = _PRUNED
                study.tell(trial, state=TrialState.PRUNED)
                return tried
        study.tell(trial, tried.loss)
        return tried


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if dimension.is_whole:
        least, most = int(dimension.least), int(dimension.most)
        return IntDistribution(least, most, log=dimension.is_log)
    return FloatDistribution(dimension.least, dimension.most, log=dimension.is_log)


def _suggested(trial: Trial, name: str, dimension: Dimension) -> float:
    if dimension.is_whole:
        least, most = int(dimension.least), int(dimension.most)
        return trial.suggest_int(name, least, most, log=dimension.is_log)
    return trial.suggest_float(
        name, dimension.least, dimension.most, log=dimension.is_log
    )


def _note_time(slowest_s: dict[str, float], tried: Tried) -> None:
    """Note how long all folds of a learner may take."""
    learner = tried.candidate.learner
    slowest_s[learner] = max(slowest_s.get(learner, 0.0), tried.fit_s + tried.predict_s)
