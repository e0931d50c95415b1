"""Fit candidates on the same folds, and keep what each predicts for rows that it has not seen."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rowcast.learning import blending
from rowcast.learning.candidates import Candidate
from rowcast.learning.fitting import (
    Fitted,
    Fitter,
    Prepared,
    Rows,
    judging_weights,
)
from rowcast.learning.learners import LEARNERS, Preprocessing
from rowcast.learning.progress import SILENT
from rowcast.learning.splitting import Split

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
    size_bytes: int | None = None

    def check(self) -> None:
        """Raise ArithmeticError if a prediction is not finite, because no mean of it is."""
        if not np.isfinite(self.fold_losses[-1]):
            raise ArithmeticError("a prediction is not finite")

    @property
    def loss(self) -> float:
        """The mean loss over the folds."""
        return float(np.mean(self.fold_losses)) if self.fold_losses else np.inf


def try_all(
    fitter: Fitter,
    rows: Rows,
    splits: Sequence[Split],
    found: Sequence[Candidate],
    folds: Sequence[Fold] = (),
    *,
    keeps_fits: bool = True,
) -> list[Tried]:
    """Fit every candidate on every fold, and keep what each predicts for the rows held back.

    `folds` are those of `splits`, if others need them too; else each is forgotten when it is done.
    Without `keeps_fits`, so are the fits, which may be large.
    """
    tried = [untried(fitter, len(rows), candidate) for candidate in found]
    made = folds or (fold_of(fitter, rows, split) for split in splits)
    for number, fold in enumerate(made):
        with fitter.progress.fold(number, len(splits)):
            _try_on_fold(fitter, tried, fold)
        if not keeps_fits:
            for each in tried:
                each.fitted.clear()
    return tried


def fold_of(fitter: Fitter, rows: Rows, split: Split) -> Fold:
    """Return a fold, whose rows are prepared when they are first needed."""
    kept, held = split
    return Fold(Shared(fitter, rows.take(kept)), Held(fitter, rows.take(held)), held)


def untried(fitter: Fitter, n_rows: int, candidate: Candidate) -> Tried:
    """Return a candidate without fits, to be compared on this number of rows."""
    shape = (n_rows,) if fitter.classes is None else (n_rows, len(fitter.classes))
    return Tried(candidate, np.full(n_rows, np.nan), np.full(shape, np.nan))


def _try_on_fold(fitter: Fitter, tried: Sequence[Tried], fold: Fold) -> None:
    if len(tried) == 1:
        try_on(tried[0], fold)
        return
    for n_done, each in enumerate(tried, 1):
        if not each.failure:
            attempt(each, fold)
        fitter.progress.best(min(one.loss for one in tried))
        fitter.progress.iterations(n_done, len(tried))


def attempt(tried: Tried, fold: Fold) -> None:
    """Fit a candidate on a fold and predict the rows held back, or note that it cannot be fitted.

    The size of its first fit is measured.
    """
    try:
        try_on(tried, fold)
        tried.check()
        if tried.size_bytes is None:
            tried.size_bytes = _size_bytes(tried.fitted[0])
    except FAILURES as error:
        tried.failure = type(error).__name__


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
    row_weights = judging_weights(fitter.plan, rows)[is_known]
    if not row_weights.any():
        row_weights = np.ones(len(row_weights))
    return blending.weights_of(
        of_truth[:, is_known],
        row_weights,
        loss_of(fitter),
        seed=fitter.plan.seed,
    )


def blended_loss(
    fitter: Fitter, rows: Rows, tried: Sequence[Tried], weights: Sequence[float]
) -> float:
    """Return the loss of a weighted mean of predictions, as `loss_name` says."""
    of_truth = np.average([each.of_truth for each in tried], axis=0, weights=weights)
    is_known = ~np.isnan(of_truth)
    row_weights = judging_weights(fitter.plan, rows)[is_known]
    if not row_weights.any():
        row_weights = np.ones(len(row_weights))
    found = float(loss_of(fitter)(of_truth[None, is_known], row_weights)[0])
    return found if fitter.classes is not None else found**0.5


def loss_name(fitter: Fitter) -> str:
    """Return the name of the loss that candidates are compared by, as scores have it."""
    return "rmse" if fitter.classes is None else "log_loss"


def loss_of(fitter: Fitter) -> blending.Loss:
    """Return the loss of what blending needs of predictions: see `Tried.of_truth`."""
    if fitter.classes is None:
        return blending.squared_error
    return blending.log_loss


class _Counter:
    """A file that only counts what is written to it."""

    def __init__(self) -> None:
        self.n_bytes = 0

    def write(self, data: Any) -> int:
        written = memoryview(data).nbytes
        self.n_bytes += written
        return written


def _size_bytes(fitted: Fitted) -> int:
    """Return how many bytes a fit would have in a file, without writing or copying it."""
    counter = _Counter()

    def count(buffer: pickle.PickleBuffer) -> None:
        counter.write(buffer.raw())

    parts = (fitted.transformer, fitted.estimator)
    pickle.Pickler(counter, protocol=5, buffer_callback=count).dump(parts)
    return counter.n_bytes


class Shared:
    """Rows prepared once for all candidates with the same preprocessing."""

    def __init__(self, fitter: Fitter, rows: Rows) -> None:
        self._fitter = fitter
        self._rows = rows
        self._prepared: dict[Preprocessing, Prepared] = {}

    def fit(self, candidate: Candidate, judge: Rows | None = None) -> Fitted:
        """Fit a candidate; the rows of `judge`, if given, may stop its training early."""
        fitter = self._fitter
        plan = fitter.plan
        if (candidate.learner, candidate.params) != (plan.learner, plan.params):
            plan = replace(plan, learner=candidate.learner, params=candidate.params)
            # What counts for progress is the candidates.
            fitter = replace(fitter, plan=plan, progress=SILENT)
        learner = LEARNERS[candidate.learner]
        if learner.preprocessing not in self._prepared:
            self._prepared[learner.preprocessing] = fitter.prepare(self._rows)
        prepared = self._prepared[learner.preprocessing]
        stops = judge if learner.stops_early else None
        return fitter.fit_prepared(prepared, self._rows, stops)


class Held:
    """Rows held back, prepared once for all candidates with the same preprocessing."""

    def __init__(self, fitter: Fitter, rows: Rows) -> None:
        self._rows = rows
        self._classes = fitter.classes
        self._loss = loss_of(fitter)
        self._weights = judging_weights(fitter.plan, rows)
        self._prepared: dict[Preprocessing, Any] = {}

    def predictions(self, candidate: Candidate, fitted: Fitted) -> np.ndarray:
        """Return probabilities (n_rows, n_classes) of all classes, or values (n_rows,)."""
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
class Fold:
    """A fold: the rows to learn from, those held back, and the places of these."""

    learned: Shared
    judge: Held
    places: np.ndarray


def try_on(tried: Tried, fold: Fold) -> None:
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
