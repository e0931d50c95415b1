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
Weights = np.ndarray | None
# The positions of the columns that come from each feature.
Groups = Mapping[str, Sequence[int]]
# Columns that are shuffled together, and the order of rows that they take.
Shuffle = tuple[Sequence[int], np.ndarray]


class Loss(NamedTuple):
    """A loss, called as `of(predictions, rows)` with the positions of the predicted rows."""

    name: str
    of: Callable[[np.ndarray, np.ndarray], float]


def log_loss(classes: np.ndarray, truth: np.ndarray, weights: Weights = None) -> Loss:
    """Return the log loss, in nats, of probabilities (n_rows, n_classes) for a truth (n_rows,).

    It equals the log loss of `evaluation.classification`, in a hundredth of the time.
    """
    codes = positions(np.asarray(classes), np.asarray(truth))
    least = np.finfo(np.float64).eps

    def of(probabilities: np.ndarray, rows: np.ndarray) -> float:
        true_codes = codes[rows]
        each_row = np.arange(len(rows))
        of_truth = probabilities[each_row, true_codes].astype(np.float64)
        of_truth[true_codes < 0] = 0
        of_truth = np.clip(of_truth, least, 1 - least)
        return _mean(-np.log(of_truth), rows, weights)

    return Loss("log_loss", of)


def rmse(truth: np.ndarray, weights: Weights = None) -> Loss:
    """Return the root mean squared error, in the target's unit, for a truth (n_rows,)."""
    truth = np.asarray(truth, np.float64)

    def of(predictions: np.ndarray, rows: np.ndarray) -> float:
        with np.errstate(over="ignore"):
            squares = (predictions - truth[rows]) ** 2
            return float(np.sqrt(_mean(squares, rows, weights)))

    return Loss("rmse", of)


def _mean(losses: np.ndarray, rows: np.ndarray, weights: Weights) -> float:
    if weights is None:
        return float(losses.mean())
    weights = weights[rows]
    total = float(weights.sum())
    if not total:
        return np.nan
    return float(losses @ weights) / total


def importances(
    predict: Predict,
    frame: Any,
    groups: Groups,
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
    model = _Model(predict, frame, groups, loss, seed)
    sample = _sample(model, watch)
    increases = _increases(model, sample, watch)
    n_repeats = min(map(len, increases.values()), default=0)
    is_cut = sample.is_partial or n_repeats < MAX_ROUNDS
    for name, columns in groups.items():
        if not len(columns):
            increases[name] = [0.0]
    return {
        "loss": loss.name,
        "n_rows": len(sample.rows),
        "n_repeats": n_repeats,
        "budget_s": budget_s,
        "seconds": watch.spent_s(),
        "was_cut": bool(sample.features) and is_cut,
        "features": _ranked(groups, increases),
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


class _Model(NamedTuple):
    """What is measured; see `importances`."""

    predict: Predict
    frame: Any
    groups: Groups
    loss: Loss
    seed: int


class _Probe(NamedTuple):
    """Predictions of the first rows in their order, and what predictions cost.

    One call is to predict `n_per_call` rows, and then takes `seconds_per_row`.
    """

    predictions: np.ndarray
    n_per_call: int
    seconds_per_row: float


_NO_PROBE = _Probe(np.empty(0), 1, 0.0)


class _Sample(NamedTuple):
    """The features to shuffle, and the positions of the rows to shuffle them among."""

    features: list[str]
    rows: np.ndarray
    frame: Any
    probe: _Probe
    is_partial: bool


def _sample(model: _Model, watch: _Watch) -> _Sample:
    random = np.random.default_rng(model.seed)
    order = random.permutation(len(model.frame))[:MAX_ROWS]
    features = []
    if len(order):
        features = [name for name, columns in model.groups.items() if len(columns)]
    probe = _NO_PROBE
    if features:
        probe = _probe(model, order, len(features), watch)
    # Stacking and the loss take time as well.
    round_s_per_row = 1.2 * probe.seconds_per_row * max(len(features), 1)
    n_rows = _rung(watch.left_s(), round_s_per_row, len(order))
    rows = order[:n_rows]
    return _Sample(
        features=features,
        rows=rows,
        frame=_take(model.frame, rows),
        probe=probe,
        is_partial=n_rows < len(order),
    )


def _probe(model: _Model, order: np.ndarray, n_features: int, watch: _Watch) -> _Probe:
    """Predict more and more rows while that is cheap, and return what a row costs.

    A small prediction is mostly overhead. A larger one follows if, without any overhead, it would
    take at most half of what is left. It may hold rows more than once, as stacks do.
    """
    n_useful = min(n_features * len(order), _MAX_PROBED_ROWS)
    n_affordable = min(MIN_ROWS, len(order))
    n_rows = 0
    seconds = row_s = 0.0
    while n_affordable >= 4 * n_rows:
        n_before = n_rows
        seconds_before = seconds
        n_rows = n_affordable
        repeated = np.resize(order, n_rows)
        started = watch.spent_s()
        predictions = model.predict(_take(model.frame, repeated))
        seconds = watch.spent_s() - started
        # One-time work may have slowed down the smaller prediction, so its share is bounded.
        slope = (seconds - seconds_before) / (n_rows - n_before)
        row_s = max(slope, seconds / n_rows / 4, 1e-9)
        n_affordable = _rung(watch.left_s() / 2, seconds / n_rows, n_useful)

    overhead_s = max(seconds - row_s * n_rows, 0)
    n_in_time = (_MAX_BUDGET_SHARE * watch.budget_s - overhead_s) / row_s
    n_in_memory = _MAX_CELLS / max(model.frame.shape[1], 1)
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


def _increases(model: _Model, sample: _Sample, watch: _Watch) -> dict[str, list[float]]:
    """Return the growth of the loss in each round, for each shuffled feature."""
    increases: dict[str, list[float]] = {name: [] for name in sample.features}
    base_loss = _base_loss(model, sample, watch)
    for number, names in _calls(model, sample):
        if watch.left_s() <= 0:
            break
        losses = _shuffled_losses(model, sample, names, number)
        for name, loss in zip(names, losses, strict=True):
            increases[name].append(loss - base_loss)
    return increases


def _base_loss(model: _Model, sample: _Sample, watch: _Watch) -> float:
    """Return the loss without a shuffle; NaN if there is none, or no time to predict."""
    n_rows = len(sample.rows)
    predictions = sample.probe.predictions
    if len(predictions) < n_rows and watch.left_s() > 0:
        predictions = model.predict(sample.frame)
    if not sample.features or len(predictions) < n_rows:
        return np.nan
    return model.loss.of(predictions[:n_rows], sample.rows)


def _calls(model: _Model, sample: _Sample) -> Iterator[tuple[int, list[str]]]:
    """Yield for each prediction the number of its round and the features to shuffle for it."""
    n_features = len(sample.features)
    n_per_call = sample.probe.n_per_call // max(len(sample.rows), 1)
    n_per_call = max(1, n_per_call)
    for number in range(MAX_ROUNDS):
        random = np.random.default_rng([model.seed, number])
        order = random.permutation(n_features)
        for start in range(0, n_features, n_per_call):
            places = order[start : start + n_per_call]
            yield number, [sample.features[place] for place in places]


def _shuffled_losses(
    model: _Model, sample: _Sample, names: list[str], number: int
) -> list[float]:
    shuffles = []
    for name in names:
        # Seeded by name, not by number, so that neither the order of features nor the time changes
        # their shuffles.
        seed = [model.seed, zlib.crc32(name.encode()), number]
        random = np.random.default_rng(seed)
        order = random.permutation(len(sample.rows))
        shuffles.append((model.groups[name], order))
    predictions = model.predict(_stacked(sample.frame, shuffles))
    return [
        model.loss.of(part, sample.rows) for part in np.split(predictions, len(names))
    ]


def _take(frame: Any, rows: np.ndarray) -> Any:
    if isinstance(frame, np.ndarray):
        return frame[rows]
    return frame.take(rows).reset_index(drop=True)


def _stacked(frame: Any, shuffles: list[Shuffle]) -> Any:
    """Return a copy of the frame for each shuffle, with its columns in its order."""
    if isinstance(frame, np.ndarray):
        return _stacked_array(frame, shuffles)
    n_rows = len(frame)
    unshuffled = np.tile(np.arange(n_rows), len(shuffles))
    orders: dict[int, np.ndarray] = {}
    for number, (columns, order) in enumerate(shuffles):
        start = number * n_rows
        for column in columns:
            rows = orders.setdefault(column, unshuffled.copy())
            rows[start : start + n_rows] = order
    # `take` keeps the type of pandas' own arrays, such as categories.
    stacked = _take(frame, unshuffled)
    for column, rows in orders.items():
        values = frame.iloc[:, column].array
        stacked.isetitem(column, values.take(rows))
    return stacked


def _stacked_array(frame: np.ndarray, shuffles: list[Shuffle]) -> np.ndarray:
    copies = np.repeat(frame[None], len(shuffles), axis=0)
    for copy, (columns, order) in zip(copies, shuffles, strict=True):
        copy[:, columns] = frame[np.ix_(order, np.asarray(columns))]
    return copies.reshape(-1, frame.shape[1])


def _ranked(
    groups: Groups, increases: Mapping[str, list[float]]
) -> list[dict[str, Any]]:
    """Return mean and standard deviation of each feature, the largest mean first, None last."""
    features = []
    for name in groups:
        values = increases.get(name, [])
        mean = std = None
        if values and np.isfinite(values).all():
            mean = float(np.mean(values))
            if len(values) > 1:
                std = float(np.std(values))
        features.append({"name": name, "mean": mean, "std": std})
    return sorted(features, key=_place)


def _place(feature: Mapping[str, Any]) -> tuple[bool, float]:
    mean = feature["mean"]
    return mean is None, -(mean or 0)
