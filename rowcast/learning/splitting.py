"""Which rows are held back from a fit: a share of them, or each fold in turn.

Classes keep their shares as far as they have rows. A class of a single row is always learned from,
so nothing shows how well it is predicted.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from rowcast.errors import InvalidTable
from rowcast.learning.fitting import Plan, Rows, codes_of

# The places of the rows to learn from, and of those held back.
Split = tuple[np.ndarray, np.ndarray]


def split(plan: Plan, target: np.ndarray, share: float) -> Split:
    """Return the places of the rows to learn from and of those held back, a `share` of all.

    Classes keep their shares if each has enough rows; a class of one row is learned from.
    """
    from sklearn.model_selection import train_test_split

    places = np.arange(len(target))
    if plan.task == "regression":
        kept, held = train_test_split(places, test_size=share, random_state=plan.seed)
        return kept, held
    return _split_classes(plan, target, share)


def _split_classes(plan: Plan, target: np.ndarray, share: float) -> Split:
    from sklearn.model_selection import train_test_split

    places = np.arange(len(target))
    _, codes, counts = np.unique(
        codes_of(target),
        return_inverse=True,
        return_counts=True,
    )
    is_single = counts[codes] < 2
    others = places[~is_single]
    n_held = int(len(others) * share)
    strata = codes[others] if len(counts) <= n_held else None
    kept, held = train_test_split(
        others,
        test_size=share,
        random_state=plan.seed,
        stratify=strata,
    )
    is_known = np.isin(codes[held], codes[kept])
    if not is_known.any():
        # All rows of these classes were drawn. One stays; another of its class is learned from.
        is_known[0] = True
    learned = np.concatenate([kept, held[~is_known], places[is_single]])
    return learned, held[is_known]


def folds(plan: Plan, rows: Rows, n_folds: int) -> Iterator[Split]:
    """Yield for each fold the rows to learn from and those held back; some class has two rows.

    Raises:
        InvalidTable: a fold leaves no row with weight to learn from.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    places = np.arange(len(rows))
    codes, is_single = np.zeros(len(rows), int), np.zeros(len(rows), bool)
    splitter = KFold
    if plan.task == "classification":
        _, codes, counts = np.unique(
            codes_of(rows.target), return_inverse=True, return_counts=True
        )
        is_single = counts[codes] < 2
        if counts.max() >= n_folds:
            splitter = StratifiedKFold
    others, singles = places[~is_single], places[is_single]
    splits = splitter(min(n_folds, len(others)), shuffle=True, random_state=plan.seed)
    with warnings.catch_warnings():
        # A class with fewer rows than folds is held back in some folds only.
        warnings.simplefilter("ignore")
        found = list(splits.split(others, codes[others]))
    for kept, held in found:
        learned = np.concatenate([others[kept], singles])
        _check_weights(rows, learned)
        yield learned, others[held]


def _check_weights(rows: Rows, kept: np.ndarray) -> None:
    if rows.weights is not None and not rows.weights[kept].any():
        raise InvalidTable(
            "Cross-validation leaves no row of weight to learn from: too few rows have a "
            "weight over 0.",
            hint="Use validation=holdout or validation=none, or give more rows a weight.",
        )
