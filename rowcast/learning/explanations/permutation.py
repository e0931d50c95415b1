"""How much worse a model gets when a feature's values are shuffled, within a time budget.

Permutation importance: Breiman, Random Forests, 2001; Fisher, Rudin, Dominici, All Models are
Wrong, but Many are Useful, 2019. Shuffled copies of a sample are predicted many at once, for a
prediction of few rows is mostly overhead. What the figures say, and what not: docs/models.md.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rowcast.learning.evaluation import positions

MAX_ROUNDS = 5
# The least sample that says anything, and the most: beyond it the error of the shuffle is larger.
MIN_ROWS = 100
MAX_ROWS = 51_200
# What may be stacked for one prediction: 16 MB of float64, and this share of the budget.
_MAX_CELLS = 2_000_000
_SHARE_OF_A_CALL = 0.2
_MAX_PROBED_ROWS = 6_400

Predict = Callable[[Any], np.ndarray]
Clock = Callable[[], float]


class Loss(NamedTuple):
    """A loss to be called as `of(predictions, rows)`: the positions of the rows that were
    predicted."""

    name: str
    of: Callable[[np.ndarray, np.ndarray], float]


def log_loss(
    classes: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> Loss:
    """Return the log loss, in nats, of probabilities of shape (n_rows, n_classes) for a truth
    (n_rows,).

    The same figure as `scores.classification` gives, in a hundredth of the time.
    """
    codes = positions(np.asarray(classes), np.asarray(truth))
    least = np.finfo(np.float64).eps

    def of(probabilities: np.ndarray, rows: np.ndarray) -> float:
        true = probabilities[np.arange(len(rows)), codes[rows]].astype(np.float64)
        true[codes[rows] < 0] = 0
        return _mean(-np.log(np.clip(true, least, 1 - least)), rows, weights)

    return Loss("log_loss", of)


def rmse(truth: np.ndarray, weights: np.ndarray | None = None) -> Loss:
    """Return the root mean squared error, in the target's unit, of predictions for a truth
    (n_rows,)."""
    truth = np.asarray(truth, np.float64)

    def of(predictions: np.ndarray, rows: np.ndarray) -> float:
        with np.errstate(over="ignore"):
            return float(
                np.sqrt(_mean((predictions - truth[rows]) ** 2, rows, weights))
            )

    return Loss("rmse", of)


def _mean(losses: np.ndarray, rows: np.ndarray, weights: np.ndarray | None) -> float:
    if weights is None:
        return float(losses.mean())
    total = float(weights[rows].sum())
    return float(losses @ weights[rows]) / total if total else np.nan


def permutation(
    predict: Predict,
    frame: Any,
    groups: Mapping[str, Sequence[int]],
    loss: Loss,
    *,
    budget_s: float,
    seed: int,
    clock: Clock = time.monotonic,
) -> dict[str, Any]:
    """Return by how much the loss grows when a feature's values are shuffled among rows, for each
    feature.

    `frame` holds prepared features, (n_rows, n_prepared), as a DataFrame or an array; `groups`
    gives for each of the user's features the positions of the columns that come from it, which are
    shuffled together: the same as shuffling the raw column, since rows are prepared one by one.
    `predict` takes rows of the frame.

    First it measures predictions and settles on a sample of rows with which one round over all
    features fits into the budget: all rows or a power of two times 100, so that timing seldom
    changes it. There are at most five rounds, and no prediction starts after `budget_s` on the
    clock. A feature that no round reached has None; one that no column comes from has 0.
    """
    watch = _Watch(clock, clock(), budget_s)
    order = np.random.default_rng(seed).permutation(len(frame))[:MAX_ROWS]
    moving = (
        [name for name, columns in groups.items() if len(columns)] if len(order) else []
    )
    probe = _probe(predict, frame, order, len(moving), watch) if moving else _NO_PROBE
    rows = order[: _n_sampled(len(order), len(moving), probe, watch)]
    trial = _Trial(predict, loss, rows, _take(frame, rows), groups, seed)
    increases = _increases(trial, moving, probe, watch)
    n_repeats = min(map(len, increases.values()), default=0)
    return {
        "loss": loss.name,
        "n_rows": len(rows),
        "n_repeats": n_repeats,
        "budget_s": budget_s,
        "seconds": watch.spent_s(),
        "was_cut": bool(moving) and (len(rows) < len(order) or n_repeats < MAX_ROUNDS),
        "features": _ranked(
            {
                name: increases.get(name, [] if len(groups[name]) else [0.0])
                for name in groups
            }
        ),
    }


class _Watch(NamedTuple):
    """How much of the budget is spent, in seconds on the clock."""

    clock: Clock
    started: float
    budget_s: float

    def spent_s(self) -> float:
        return self.clock() - self.started

    def left_s(self) -> float:
        return self.budget_s - self.spent_s()


class _Probe(NamedTuple):
    """Predictions of the first rows in their order, and what predictions cost.

    `n_per_call` rows are to be predicted by one call, which then takes `seconds_per_row`.
    """

    predictions: np.ndarray
    n_per_call: int
    seconds_per_row: float


_NO_PROBE = _Probe(np.empty(0), 1, 0.0)


class _Trial(NamedTuple):
    """What stays the same through all rounds; `sample` holds the frame's `rows`."""

    predict: Predict
    loss: Loss
    rows: np.ndarray
    sample: Any
    groups: Mapping[str, Sequence[int]]
    seed: int


def _probe(
    predict: Predict, frame: Any, order: np.ndarray, n_features: int, watch: _Watch
) -> _Probe:
    # A small prediction is mostly overhead. A larger one follows as long as it takes, were there no
    # overhead at all, at most half of what is left. It may hold rows more than once, as stacks do.
    n_useful = min(n_features * len(order), _MAX_PROBED_ROWS)
    n_affordable = min(MIN_ROWS, len(order))
    n_rows, seconds, row_s = 0, 0.0, 0.0
    while n_affordable >= 4 * n_rows:
        n_before, seconds_before, n_rows = n_rows, seconds, n_affordable
        before = watch.spent_s()
        predictions = predict(_take(frame, np.resize(order, n_rows)))
        seconds = watch.spent_s() - before
        # What is made once may have slowed down the smaller prediction, so that its share is
        # bounded.
        slope = (seconds - seconds_before) / (n_rows - n_before)
        row_s = max(slope, seconds / n_rows / 4, 1e-9)
        n_affordable = _rung(watch.left_s() / 2, seconds / n_rows, n_useful)
    overhead_s = max(seconds - row_s * n_rows, 0)
    n_timely = (_SHARE_OF_A_CALL * watch.budget_s - overhead_s) / row_s
    n_per_call = max(1, int(min(n_timely, _MAX_CELLS / max(frame.shape[1], 1))))
    return _Probe(
        predictions[: len(order)],
        n_per_call,
        overhead_s / max(n_per_call, n_rows) + row_s,
    )


def _rung(seconds: float, seconds_per_row: float, n_rows: int) -> int:
    """Return the most rows to be had in so many seconds: `n_rows`, or less by powers of two."""
    n_affordable = seconds / max(seconds_per_row, 1e-12)
    if n_affordable >= n_rows:
        return n_rows
    return min(n_rows, MIN_ROWS << int(math.log2(max(n_affordable / MIN_ROWS, 1))))


def _n_sampled(n_rows: int, n_features: int, probe: _Probe, watch: _Watch) -> int:
    # Stacking and the loss take time as well.
    return _rung(
        watch.left_s(), 1.2 * probe.seconds_per_row * max(n_features, 1), n_rows
    )


def _increases(
    trial: _Trial, moving: list[str], probe: _Probe, watch: _Watch
) -> dict[str, list[float]]:
    increases: dict[str, list[float]] = {name: [] for name in moving}
    base, n_rows = probe.predictions, len(trial.rows)
    if len(base) < n_rows and watch.left_s() > 0:
        base = trial.predict(trial.sample)
    base_loss = (
        trial.loss.of(base[:n_rows], trial.rows)
        if moving and len(base) >= n_rows
        else np.nan
    )
    for number, names in _calls(trial, moving, probe):
        if watch.left_s() <= 0:
            break
        for name, loss in zip(
            names, _shuffled_losses(trial, names, number), strict=True
        ):
            increases[name].append(loss - base_loss)
    return increases


def _calls(
    trial: _Trial, moving: list[str], probe: _Probe
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of a round with the features to be shuffled for one prediction, round by
    round."""
    n_per_call = max(1, probe.n_per_call // max(len(trial.rows), 1))
    for number in range(MAX_ROUNDS):
        order = np.random.default_rng([trial.seed, number]).permutation(len(moving))
        for start in range(0, len(moving), n_per_call):
            yield number, [moving[i] for i in order[start : start + n_per_call]]


def _shuffled_losses(trial: _Trial, names: list[str], number: int) -> list[float]:
    n_rows = len(trial.rows)
    shuffles = []
    for name in names:
        # Named, not numbered, so that neither the order of features nor the time changes their
        # shuffles.
        random = np.random.default_rng([trial.seed, zlib.crc32(name.encode()), number])
        shuffles.append((trial.groups[name], random.permutation(n_rows)))
    predictions = trial.predict(_stacked(trial.sample, shuffles))
    return [
        trial.loss.of(part, trial.rows) for part in np.split(predictions, len(names))
    ]


def _take(frame: Any, rows: np.ndarray) -> Any:
    return (
        frame[rows]
        if isinstance(frame, np.ndarray)
        else frame.take(rows).reset_index(drop=True)
    )


def _stacked(sample: Any, shuffles: list[tuple[Sequence[int], np.ndarray]]) -> Any:
    """Return one copy of the sample for each (columns, order), in which these columns take that
    order."""
    n_rows = len(sample)
    if isinstance(sample, np.ndarray):
        copies = np.repeat(sample[None], len(shuffles), axis=0)
        for copy, (columns, order) in zip(copies, shuffles, strict=True):
            copy[:, columns] = sample[np.ix_(order, np.asarray(columns))]
        return copies.reshape(-1, sample.shape[1])
    straight = np.tile(np.arange(n_rows), len(shuffles))
    orders: dict[int, np.ndarray] = {}
    for i, (columns, order) in enumerate(shuffles):
        for column in columns:
            orders.setdefault(column, straight.copy())[
                i * n_rows : (i + 1) * n_rows
            ] = order
    # Arrays of pandas' own types, such as categories, keep their type when they are taken from.
    stacked = _take(sample, straight)
    for column, order in orders.items():
        stacked.isetitem(column, sample.iloc[:, column].array.take(order))
    return stacked


def _ranked(increases: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    features = [
        {
            "name": name,
            "mean": float(np.mean(values))
            if values and np.isfinite(values).all()
            else None,
            "std": float(np.std(values))
            if len(values) > 1 and np.isfinite(values).all()
            else None,
        }
        for name, values in increases.items()
    ]
    return sorted(
        features, key=lambda feature: (feature["mean"] is None, -(feature["mean"] or 0))
    )
