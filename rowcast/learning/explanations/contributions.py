"""How much each column moved a prediction: Shapley values over whole raw columns.

The value of a set of columns is the mean prediction for a row that has these columns of its own,
and all others from a row of the background, over the rows of the background (the marginal or
interventional value function: Janzing, Minorics, Blöbaum, Feature Relevance Quantification in
Explainable AI, 2020). Few columns are enumerated. Of more, random orders are sampled, each with its
reverse (Castro, Gomez, Tejada, Polynomial Calculation of the Shapley Value Based on Sampling, 2009;
Mitchell, Cooper, Frank, Holmes, Sampling Permutations for Shapley Value Estimation, 2022), as many
for every row of the background. Either way contributions are weighted sums of predictions, and add
up to the prediction minus the mean prediction over the background.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rowcast.learning.explanations.mixing import Mixer, row_s

# Rows of the background, those that they are chosen from, and the most characters of their text.
N_BACKGROUND, _DRAWN_ROWS, _MAX_CHARACTERS = 32, 20_000, 2_000_000
# With more columns, a single row would take seconds.
MAX_COLUMNS = 1_000
# Mixed rows that are predicted for a row, if a single order for each row of the background does not
# take more.
_EVALUATIONS = 2_048
# Mixed rows that are predicted before progress is reported.
_MAX_BATCH_EVALUATIONS = 500_000
# The rows on which the error of sampling is measured.
_JUDGED_ROWS = 20
# Cells of mixed rows that are predicted together.
_MAX_CELLS = 2_000_000
_ATTRIBUTE = "background_rows_"


class Explained(NamedTuple):
    """The mean predictions over the background (n_rows,), and contributions (n_rows, n_features).

    They are of values, or of the probability of each row's predicted class.
    """

    base: np.ndarray
    contributions: np.ndarray


class _Ways(NamedTuple):
    """Ways from a row of the background to the row, column by column.

    `before` and `after` (n_ways, n_features) are the mixed rows around each step, `ranks`
    (n_ways, n_features) the step at which each column comes.
    """

    before: np.ndarray
    after: np.ndarray
    ranks: np.ndarray


class _Design(NamedTuple):
    """The mixed rows to predict for a row, and how contributions follow from their predictions.

    The first mixed row is the row itself; `own` (n_mixed, n_features) says which columns are its
    own, `references` (n_mixed,) which row of the background the others come from. Of few columns,
    contributions are the predictions times a matrix (n_mixed, n_features), of more, what the
    predictions gain on some ways.
    """

    own: np.ndarray
    references: np.ndarray
    rule: np.ndarray | _Ways


# The background


def keep_background(
    model: Any, frame: Any, names: Sequence[str], target: np.ndarray, *, seed: int
) -> int:
    """Keep some rows with a model, and return how many; `names` are the columns that it needs.

    They are evenly spaced in the order of the target, so that their mean prediction is near that of
    all rows. None are kept if a few would hold too much text.
    """
    random = np.random.default_rng(seed)
    drawn = random.choice(len(frame), min(len(frame), _DRAWN_ROWS), replace=False)
    order = drawn[np.argsort(target[drawn], kind="stable")]
    n_kept = min(N_BACKGROUND, len(order))
    while n_kept > 0:
        places = (2 * np.arange(n_kept) + 1) * len(order) // (2 * n_kept)
        kept = frame.iloc[order[places]][list(names)].reset_index(drop=True)
        if _n_characters(kept) <= _MAX_CHARACTERS:
            plain = {name: _plain(kept[name]) for name in names}
            setattr(model, _ATTRIBUTE, plain)
            return n_kept
        n_kept //= 2
    return 0


def _n_characters(frame: Any) -> int:
    texts = [name for name, kind in frame.dtypes.items() if kind == "str"]
    return int(sum(frame[name].str.len().sum() for name in texts))


def _plain(values: Any) -> Any:
    """Return values as an array, or texts as a list, which any version of pandas can read."""
    if hasattr(values, "cat"):
        return values.cat.codes.to_numpy()
    if values.dtype == "str":
        return [None if is_missing else text for text, is_missing in _texts(values)]
    return values.to_numpy()


def _texts(values: Any) -> Iterator[tuple[str, bool]]:
    return zip(values.tolist(), values.isna().tolist(), strict=True)


def background(model: Any, frame: Any) -> Any:
    """Return the rows kept with a model, as a DataFrame or array like this one."""
    kept = getattr(model, _ATTRIBUTE)
    if isinstance(frame, np.ndarray):
        return np.column_stack(list(kept.values()))
    import pandas as pd

    columns = {}
    for name, values in kept.items():
        found = frame.dtypes[name]
        if found == "category":
            columns[name] = pd.Categorical.from_codes(values, dtype=found)
        else:
            columns[name] = pd.Series(values, dtype=found)
    return pd.DataFrame(columns)


def _n_background(model: Any) -> int:
    return len(next(iter(getattr(model, _ATTRIBUTE).values())))


# Limits


def evaluations(n_features: int, n_background: int = N_BACKGROUND) -> int:
    """Return how many mixed rows are predicted to explain a row."""
    n_enumerated = _n_enumerated(n_features, n_background)
    if n_enumerated <= _EVALUATIONS:
        return n_enumerated
    n_ways = 2 * n_background * _n_pairs(n_features, n_background)
    return 1 + n_background + n_ways * (n_features - 1)


def max_rows(model: Any, n_features: int, seconds: float) -> int:
    """Return how many rows can be explained within nominal seconds."""
    n_mixed = evaluations(n_features, _n_background(model))
    return int(seconds / (n_mixed * row_s(model, n_features)))


def batch_rows(n_features: int) -> int:
    """Return how many rows to explain before progress is reported."""
    return max(1, _MAX_BATCH_EVALUATIONS // evaluations(n_features))


def _n_enumerated(n_features: int, n_background: int) -> int:
    # Sets that are neither empty nor full, with each row of the background; 2^64 is enough to know.
    n_sets = int(2 ** min(n_features, 64)) - 2
    return 1 + n_background + n_background * n_sets


def _n_pairs(n_features: int, n_background: int) -> int:
    """Return how many random ways, and their reverses, start at a row of the background."""
    return max(1, _EVALUATIONS // (2 * n_background * (n_features - 1)))


# Explaining


def explain(model: Any, frame: Any, classes: np.ndarray | None) -> Explained:
    """Explain the predictions for the rows of a frame (n_rows, n_features).

    The frame is a DataFrame, or an array for a model that takes one. `classes` (n_rows,) are the
    positions of the classes whose probabilities are explained, None for a regression.
    """
    return _explain(model, frame, classes, seed=0)


def account(model: Any, frame: Any, classes: np.ndarray | None) -> dict[str, Any]:
    """Return how contributions are computed, and how large the error of sampling is.

    `standard_error` is that of one contribution, in the unit of the prediction: the root mean
    square of the differences from those of other random orders, by the root of two.
    """
    n_background = _n_background(model)
    n_features = frame.shape[1]
    is_exact = _n_enumerated(n_features, n_background) <= _EVALUATIONS
    error = 0.0
    if not is_exact:
        some = frame[:_JUDGED_ROWS]
        some_classes = None if classes is None else classes[:_JUDGED_ROWS]
        found = [_explain(model, some, some_classes, seed=seed) for seed in (0, 1)]
        differences = found[0].contributions - found[1].contributions
        error = float(np.sqrt((differences**2).mean() / 2))
    return {
        "method": "exact" if is_exact else "sampled",
        "n_background": n_background,
        "n_evaluations": evaluations(n_features, n_background),
        "standard_error": error,
    }


def _explain(
    model: Any, frame: Any, classes: np.ndarray | None, *, seed: int
) -> Explained:
    others = background(model, frame)
    n_rows, n_features = frame.shape
    n_background = len(others)
    design = _design(n_features, n_background, seed)
    mixer = Mixer(model, _stacked(frame, others))
    if classes is None:
        classes = np.zeros(n_rows, int)

    values = _values(mixer, design, classes)
    base = values[:, 1 : 1 + n_background].mean(axis=1)
    return Explained(base, _contributions(design, values))


def _contributions(design: _Design, values: np.ndarray) -> np.ndarray:
    """Return contributions (n_rows, n_features) that follow from predictions (n_rows, n_mixed)."""
    ways = design.rule
    if isinstance(ways, np.ndarray):
        return np.asarray(values @ ways)
    gains = values[:, ways.after] - values[:, ways.before]
    by_column = np.take_along_axis(gains, ways.ranks[None], axis=2)
    return np.asarray(by_column.mean(axis=1))


def _values(mixer: Mixer, design: _Design, classes: np.ndarray) -> np.ndarray:
    """Return predictions (n_rows, n_mixed), of the classes at these positions."""
    n_rows = len(classes)
    n_mixed, n_features = design.own.shape
    values = np.empty(n_rows * n_mixed)
    step = max(1, _MAX_CELLS // n_features)
    for start in range(0, len(values), step):
        numbers = np.arange(start, min(start + step, len(values)))
        rows, mixed = np.divmod(numbers, n_mixed)
        others = n_rows + design.references[mixed]
        sources = np.where(design.own[mixed], rows[:, None], others[:, None])
        found = mixer.predict(sources)
        values[numbers] = found[np.arange(len(numbers)), classes[rows]]
    return values.reshape(n_rows, n_mixed)


def _stacked(frame: Any, others: Any) -> Any:
    if isinstance(frame, np.ndarray):
        return np.vstack([frame, others])
    import pandas as pd

    return pd.concat([frame, others], ignore_index=True)


# Designs


# One of 1,000 columns takes 64 MB.
@lru_cache(maxsize=1)
def _design(n_features: int, n_background: int, seed: int) -> _Design:
    if _n_enumerated(n_features, n_background) <= _EVALUATIONS:
        return _enumerated(n_features, n_background)
    return _sampled(n_features, n_background, seed)


def _enumerated(n_features: int, n_background: int) -> _Design:
    """Return all sets of columns, each with every row of the background.

    A column's contribution is the mean growth by it over all orders of columns: a set of s columns
    comes right before it in s! (n - s - 1)! of the n! orders.
    """
    numbers = np.arange(1, 2**n_features - 1)
    sets = (numbers[:, None] >> np.arange(n_features) & 1).astype(bool)
    inner = np.repeat(sets, n_background, axis=0)
    own = np.vstack([_ends(n_features, n_background), inner])
    references = np.r_[
        0, np.arange(n_background), np.tile(np.arange(n_background), len(sets))
    ]
    shares = np.array(
        [1 / (n_features * math.comb(n_features - 1, s)) for s in range(n_features)]
    )
    sizes = own.sum(axis=1)[:, None]
    with_it = shares[np.maximum(sizes - 1, 0)]
    without_it = shares[np.minimum(sizes, n_features - 1)]
    weights = np.where(own, with_it, -without_it) / n_background
    weights[0] *= n_background
    return _Design(own, references, weights)


def _ends(n_features: int, n_background: int) -> np.ndarray:
    """Return the row itself, and each row of the background."""
    ends = np.zeros((1 + n_background, n_features), bool)
    ends[0] = True
    return ends


def _sampled(n_features: int, n_background: int, seed: int) -> _Design:
    """Return the mixed rows on random ways, each with its reverse."""
    random = np.random.default_rng([seed, n_features])
    n_pairs = _n_pairs(n_features, n_background)
    references = np.repeat(np.arange(n_background), 2 * n_pairs)
    forth = [random.permutation(n_features) for _ in range(n_background * n_pairs)]
    orders = np.array([order[::step] for order in forth for step in (1, -1)])
    ranks = np.argsort(orders, axis=1)

    n_inner = n_features - 1
    inner = ranks[:, None, :] < np.arange(1, n_features)[None, :, None]
    own = np.vstack(
        [_ends(n_features, n_background), inner.reshape(-1, n_features)],
    )
    first = 1 + n_background
    numbers = first + np.arange(len(orders) * n_inner).reshape(len(orders), n_inner)
    ways = _Ways(
        before=np.column_stack([1 + references, numbers]),
        after=np.column_stack([numbers, np.zeros(len(orders), int)]),
        ranks=ranks,
    )
    all_references = np.r_[0, np.arange(n_background), np.repeat(references, n_inner)]
    return _Design(own, all_references, ways)
