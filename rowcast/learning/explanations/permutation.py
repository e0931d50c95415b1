"""Measure how much worse a model gets when a feature's values are shuffled, within a time budget.

Permutation importance: Breiman, Random Forests, 2001; Fisher, Rudin, Dominici, All Models are
Wrong, but Many are Useful, 2019. Many shuffled copies of a sample are stacked for one prediction,
because a prediction of few rows is mostly overhead. What the figures mean: docs/models.md.
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
# The smallest sample that is meaningful, and the largest: beyond it, the shuffle's own error is
# larger than the sample's.
MIN_ROWS = 100
MAX_ROWS = 51_200
# A prediction may take this many cells, 16 MB of float64, and this share of the budget.
_MAX_CELLS = 2_000_000
_MAX_BUDGET_SHARE = 0.2
_MAX_PROBED_ROWS = 6_400

Predict = Callable[[Any], np.ndarray]
Clock = Callable[[], float]


class Loss(NamedTuple):
    """A loss, called as `of(predictions, rows)` with the positions of the predicted rows."""

    name: str
    of: Callable[[np.ndarray, np.ndarray], float]


def log_loss(
    classes: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> Loss:
    """Return the log loss, in nats, of probabilities (n_rows, n_classes) for a truth (n_rows,).

    It equals the log loss of `evaluation.classification`, in a hundredth of the time.
    """
    codes = positions(np.asarray(classes), np.asarray(truth))
    least = np.finfo(np.float64).eps

    def of(probabilities: np.ndarray, rows: np.ndarray) -> float:
        of_truth = probabilities[np.arange(len(rows)), codes[rows]].astype(np.float64)
        of_truth[codes[rows] < 0] = 0
        losses = -np.log(np.clip(of_truth, least, 1 - least))
        return _mean(losses, rows, weights)

    return Loss("log_loss", of)


def rmse(truth: np.ndarray, weights: np.ndarray | None = None) -> Loss:
    """Return the root mean squared error, in the target's unit, for a truth (n_rows,)."""
    truth = np.asarray(truth, np.float64)

    def of(predictions: np.ndarray, rows: np.ndarray) -> float:
        with np.errstate(over="ignore"):
            squares = (predictions - truth[rows]) ** 2
            return float(np.sqrt(_mean(squares, rows, weights)))

    return Loss("rmse", of)


def _mean(losses: np.ndarray, rows: np.ndarray, weights: np.ndarray | None) -> float:
    if weights is None:
        return float(losses.mean())
    total = float(weights[rows].sum())
    return float(losses @ weights[rows]) / total if total else np.nan


def importances(
    predict: Predict,
    frame: Any,
    groups: Mapping[str, Sequence[int]],
    loss: Loss,
    *,
    budget_s: float,
    seed: int,
    clock: Clock = time.monotonic,
) -> dict[str, Any]:
    """Return for each feature how much the loss grows when its values are shuffled among rows.

    `frame` holds preprocessed features, (n_rows, n_preprocessed), as a DataFrame or an array, and
    `predict` takes rows of it. `groups` gives for each of the user's features the positions of the
    columns that come from it. They are shuffled together: the same as shuffling the raw column,
    because rows are preprocessed one by one.

    It first measures predictions, and chooses a sample of rows with which one round over all
    features fits into the budget: all rows, or a power of two times 100, so that timing seldom
    changes it. There are at most five rounds, and no prediction starts after `budget_s` on the
    clock. A feature that no round reached has None; one that no column comes from has 0.
    """
    watch = _Watch(clock, clock(), budget_s)
    order = np.random.default_rng(seed).permutation(len(frame))[:MAX_ROWS]
    shuffled = [name for name, columns in groups.items() if len(columns)]
    if not len(order):
        shuffled = []
    probe = _NO_PROBE
    if shuffled:
        probe = _probe(predict, frame, order, len(shuffled), watch)
    rows = order[: _n_sampled(len(order), len(shuffled), probe, watch)]
    sample = _Sample(predict, loss, rows, _take(frame, rows), groups, seed)
    increases = _increases(sample, shuffled, probe, watch)
    n_repeats = min(map(len, increases.values()), default=0)
    is_complete = len(rows) == len(order) and n_repeats == MAX_ROUNDS
    for name, columns in groups.items():
        increases.setdefault(name, [] if len(columns) else [0.0])
    return {
        "loss": loss.name,
        "n_rows": len(rows),
        "n_repeats": n_repeats,
        "budget_s": budget_s,
        "seconds": watch.spent_s(),
        "was_cut": bool(shuffled) and not is_complete,
        "features": _ranked({name: increases[name] for name in groups}),
    }


class _Watch(NamedTuple):
    """The time budget, in seconds on the clock."""

    clock: Clock
    started: float
    budget_s: float

    def spent_s(self) -> float:
        return self.clock() - self.started

    def left_s(self) -> float:
        return self.budget_s - self.spent_s()


class _Probe(NamedTuple):
    """Predictions of the first rows in their order, and what predictions cost.

    One call is to predict `n_per_call` rows, and then takes `seconds_per_row`.
    """

    predictions: np.ndarray
    n_per_call: int
    seconds_per_row: float


_NO_PROBE = _Probe(np.empty(0), 1, 0.0)


class _Sample(NamedTuple):
    """What stays the same through all rounds; `frame` holds the chosen `rows`."""

    predict: Predict
    loss: Loss
    rows: np.ndarray
    frame: Any
    groups: Mapping[str, Sequence[int]]
    seed: int


def _probe(
    predict: Predict, frame: Any, order: np.ndarray, n_features: int, watch: _Watch
) -> _Probe:
    """Predict more and more rows while that is cheap, and return what a row costs.

    A small prediction is mostly overhead. A larger one follows if, without any overhead, it would
    take at most half of what is left. It may hold rows more than once, as stacks do.
    """
    n_useful = min(n_features * len(order), _MAX_PROBED_ROWS)
    n_affordable = min(MIN_ROWS, len(order))
    n_rows, seconds, row_s = 0, 0.0, 0.0
    while n_affordable >= 4 * n_rows:
        n_before, seconds_before = n_rows, seconds
        n_rows = n_affordable
        started = watch.spent_s()
        predictions = predict(_take(frame, np.resize(order, n_rows)))
        seconds = watch.spent_s() - started
        # One-time work may have slowed down the smaller prediction, so its share is bounded.
        slope = (seconds - seconds_before) / (n_rows - n_before)
        row_s = max(slope, seconds / n_rows / 4, 1e-9)
        n_affordable = _rung(watch.left_s() / 2, seconds / n_rows, n_useful)

    overhead_s = max(seconds - row_s * n_rows, 0)
    n_in_time = (_MAX_BUDGET_SHARE * watch.budget_s - overhead_s) / row_s
    n_in_memory = _MAX_CELLS / max(frame.shape[1], 1)
    n_per_call = max(1, int(min(n_in_time, n_in_memory)))
    seconds_per_row = overhead_s / max(n_per_call, n_rows) + row_s
    return _Probe(predictions[: len(order)], n_per_call, seconds_per_row)


def _rung(seconds: float, seconds_per_row: float, n_rows: int) -> int:
    """Return how many rows can be predicted in time: `n_rows`, or 100 times a power of two."""
    n_affordable = seconds / max(seconds_per_row, 1e-12)
    if n_affordable >= n_rows:
        return n_rows
    power = int(math.log2(max(n_affordable / MIN_ROWS, 1)))
    return min(n_rows, MIN_ROWS << power)


def _n_sampled(n_rows: int, n_features: int, probe: _Probe, watch: _Watch) -> int:
    # Stacking and the loss take time as well.
    round_s_per_row = 1.2 * probe.seconds_per_row * max(n_features, 1)
    return _rung(watch.left_s(), round_s_per_row, n_rows)


def _increases(
    sample: _Sample, shuffled: list[str], probe: _Probe, watch: _Watch
) -> dict[str, list[float]]:
    """Return the growth of the loss in each round, for each shuffled feature."""
    increases: dict[str, list[float]] = {name: [] for name in shuffled}
    n_rows = len(sample.rows)
    unshuffled = probe.predictions
    if len(unshuffled) < n_rows and watch.left_s() > 0:
        unshuffled = sample.predict(sample.frame)
    base_loss = np.nan
    if shuffled and len(unshuffled) >= n_rows:
        base_loss = sample.loss.of(unshuffled[:n_rows], sample.rows)
    for number, names in _calls(sample, shuffled, probe):
        if watch.left_s() <= 0:
            break
        losses = _shuffled_losses(sample, names, number)
        for name, loss in zip(names, losses, strict=True):
            increases[name].append(loss - base_loss)
    return increases


def _calls(
    sample: _Sample, shuffled: list[str], probe: _Probe
) -> Iterator[tuple[int, list[str]]]:
    """Yield for each prediction the number of its round and the features to shuffle for it."""
    n_per_call = max(1, probe.n_per_call // max(len(sample.rows), 1))
    for number in range(MAX_ROUNDS):
        random = np.random.default_rng([sample.seed, number])
        order = random.permutation(len(shuffled))
        for start in range(0, len(shuffled), n_per_call):
            yield number, [shuffled[i] for i in order[start : start + n_per_call]]


def _shuffled_losses(sample: _Sample, names: list[str], number: int) -> list[float]:
    shuffles = []
    for name in names:
        # Seeded by name, not by number, so that neither the order of features nor the time changes
        # their shuffles.
        seed = [sample.seed, zlib.crc32(name.encode()), number]
        order = np.random.default_rng(seed).permutation(len(sample.rows))
        shuffles.append((sample.groups[name], order))
    predictions = sample.predict(_stacked(sample.frame, shuffles))
    parts = np.split(predictions, len(names))
    return [sample.loss.of(part, sample.rows) for part in parts]


def _take(frame: Any, rows: np.ndarray) -> Any:
    if isinstance(frame, np.ndarray):
        return frame[rows]
    return frame.take(rows).reset_index(drop=True)


def _stacked(frame: Any, shuffles: list[tuple[Sequence[int], np.ndarray]]) -> Any:
    """Return a copy of the frame for each (columns, order), with these columns in that order."""
    if isinstance(frame, np.ndarray):
        return _stacked_array(frame, shuffles)
    n_rows = len(frame)
    unshuffled = np.tile(np.arange(n_rows), len(shuffles))
    orders: dict[int, np.ndarray] = {}
    for number, (columns, order) in enumerate(shuffles):
        copy = slice(number * n_rows, (number + 1) * n_rows)
        for column in columns:
            orders.setdefault(column, unshuffled.copy())[copy] = order
    # `take` keeps the type of pandas' own arrays, such as categories.
    stacked = _take(frame, unshuffled)
    for column, order in orders.items():
        stacked.isetitem(column, frame.iloc[:, column].array.take(order))
    return stacked


def _stacked_array(
    frame: np.ndarray, shuffles: list[tuple[Sequence[int], np.ndarray]]
) -> np.ndarray:
    copies = np.repeat(frame[None], len(shuffles), axis=0)
    for copy, (columns, order) in zip(copies, shuffles, strict=True):
        copy[:, columns] = frame[np.ix_(order, np.asarray(columns))]
    return copies.reshape(-1, frame.shape[1])


def _ranked(increases: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """Return mean and standard deviation of each feature, the largest mean first, None last."""
    features = []
    for name, values in increases.items():
        is_finite = bool(np.isfinite(values).all())
        mean = float(np.mean(values)) if values and is_finite else None
        std = float(np.std(values)) if len(values) > 1 and is_finite else None
        features.append({"name": name, "mean": mean, "std": std})

    def place(feature: dict[str, Any]) -> tuple[bool, float]:
        return feature["mean"] is None, -(feature["mean"] or 0)

    return sorted(features, key=place)
