"""Sets of classes that hold the true one as often as a level says, learned from rows held back.

Split conformal prediction with the probability of the true class as its score (Sadinle, Lei,
Wasserman, Least Ambiguous Set-Valued Classifiers with Bounded Error Levels, 2019). A set holds each
class with at least the probability that all but a share 1 - level of the true classes have. These
sets are the smallest on average, and the same for the same row, also where few rows teach them.
Adaptive sets (Romano, Sesia, Candes, Classification with Valid and Adaptive Coverage, 2020) cover
rows that are hard more often, but by sums of probabilities that few rows do not tell well, are
larger, and need a random number for each row to cover no more than they should.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# The number of parts by which the coverage of sets is measured.
N_PARTS = 10
# The levels that are known: a level between two of them gets the sets of the higher one.
LEVELS = tuple(
    sorted({*(n / 200 for n in range(201)), *(n / 1000 for n in range(990, 1001))})
)


def learn(of_truth: np.ndarray) -> dict[str, Any] | None:
    """Return what `sets` needs, ready for JSON; None without rows.

    `of_truth` are the probabilities of the true classes, (n_rows,), of rows that the model has not
    seen.
    """
    if not len(of_truth):
        return None
    in_order = np.sort(of_truth)
    least = [_least(in_order, level) for level in LEVELS]
    return {
        "n_rows": len(of_truth),
        "levels": list(LEVELS),
        "least_probabilities": least,
    }


def _least(in_order: np.ndarray, level: float) -> float:
    """Return the least probability of a class in a set, by those of true classes in order.

    Of n rows and a new one, each is as likely to have the k-th lowest probability. So the new one
    is below the k-th lowest of n with a chance of k / (n + 1). Too few rows give 0: all classes.
    """
    n_rows = len(in_order)
    # Multiples of a level may miss the whole number that they are by the last digit.
    n_covered = math.ceil(round((n_rows + 1) * level, 9))
    rank = n_rows + 1 - n_covered
    return float(in_order[min(rank, n_rows) - 1]) if rank else 0.0


def sets(
    learned: Mapping[str, Any], probabilities: np.ndarray, level: float
) -> np.ndarray:
    """Return which classes are in the sets, (n_rows, n_classes), of probabilities of that shape.

    The most likely class is always in. `level`, from 0 to 1, is the share of sets that should hold
    the true class.
    """
    place = int(np.searchsorted(learned["levels"], level - 1e-9))
    is_in = probabilities >= learned["least_probabilities"][place]
    likeliest = probabilities.argmax(axis=1)
    is_in[np.arange(len(is_in)), likeliest] = True
    return np.asarray(is_in)


def measured(
    probabilities: np.ndarray, codes: np.ndarray, *, level: float, seed: int
) -> dict[str, float] | None:
    """Return how many rows' sets hold the true class, a `share`, and the `mean_size` of the sets.

    `codes`, (n_rows,), are the true classes' columns in `probabilities`. The rows are divided into
    N_PARTS, and each part is judged by what the others teach. None with fewer rows than parts.
    """
    n_rows = len(codes)
    if n_rows < N_PARTS:
        return None
    of_truth = probabilities[np.arange(n_rows), codes]
    part_of_row = np.random.default_rng(seed).permutation(n_rows) % N_PARTS
    is_in = np.zeros(probabilities.shape, bool)
    for part in range(N_PARTS):
        is_judged = part_of_row == part
        learned = learn(of_truth[~is_judged]) or {}
        is_in[is_judged] = sets(learned, probabilities[is_judged], level)
    return {
        "share": float(is_in[np.arange(n_rows), codes].mean()),
        "mean_size": float(is_in.sum(axis=1).mean()),
    }


def names(levels: Sequence[float], classes: Sequence[str]) -> list[str]:
    """Return the names of the columns that say which classes are in the sets, level by level."""
    return [f"set_{level:.15g}_{label}" for level in levels for label in classes]
