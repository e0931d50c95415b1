"""Which rows are held back from a fit: a share of them, or each fold in turn.

This is the one place that divides rows, for validation and for the choice among learners:

- Rows with times: the last ones are held back, never later rows to judge earlier ones. Rows of the
  same time stay together. Rows without a time count as the earliest.
- Rows with groups: whole groups are held back.
- Other rows: a random share. Classes keep their shares as far as they have rows, and a class of a
  single row is always learned from, so nothing shows how well it is predicted.

Rows of classes that no row to learn from has are not held back, or, with times or groups, neither
learned from nor judged.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from rowcast.errors import InvalidTable
from rowcast.learning.fitting import Plan, Rows, codes_of

# The places of the rows to learn from, and of those held back.
Split = tuple[np.ndarray, np.ndarray]
HeldBack = Literal["random rows", "later rows", "whole groups"]

# Folds in the order of time judge the later rows only, so that each has rows to learn from.
_FIRST_JUDGED = 0.5


def held_back(rows: Rows) -> HeldBack:
    """Return what is held back of these rows."""
    if rows.times is not None:
        return "later rows"
    return "random rows" if rows.groups is None else "whole groups"


def split(plan: Plan, rows: Rows, share: float) -> Split:
    """Return the places of the rows to learn from and of those held back, about a `share` of all.

    Raises:
        InvalidTable: times or groups leave nothing to learn from, or to judge.
    """
    if rows.times is not None:
        return _usable_one(plan, rows, [_before_and_after(rows.times, 1 - share, 1.0)])
    if rows.groups is not None:
        found = _group_folds(plan, rows, rows.groups, round(1 / share))
        # A group of most rows fills a fold of its own.
        found.sort(key=lambda each: abs(len(each[1]) - share * len(rows)))
        return _usable_one(plan, rows, found)
    if plan.task == "classification":
        return _split_classes(plan, rows.target, share)

    from sklearn.model_selection import train_test_split

    places = np.arange(len(rows))
    kept, held = train_test_split(places, test_size=share, random_state=plan.seed)
    return kept, held


def folds(plan: Plan, rows: Rows, n_folds: int) -> Iterator[Split]:
    """Yield for each fold the rows to learn from and those held back; some class has two rows.

    With times, only folds that can be used are yielded, the latest first. With groups, there are at
    most as many folds as groups. Rows of a single time or group, as may be left of more, are
    divided at random.

    Raises:
        InvalidTable: a fold leaves no row with weight, or a single class, to learn from.
    """
    rows = _without_single(rows)
    if rows.times is not None:
        yield from _usable(plan, rows, _folds_in_time(rows.times, n_folds))
    elif rows.groups is not None:
        for each in _group_folds(plan, rows, rows.groups, n_folds):
            yield _usable_one(plan, rows, [each])
    else:
        for learned, held in _random_folds(plan, rows, n_folds):
            _check_weights(rows, learned)
            yield learned, held


def _without_single(rows: Rows) -> Rows:
    """Return rows without their times or groups if all rows have the same one."""
    found = rows.groups if rows.times is None else rows.times
    if found is None or len(np.unique(found)) > 1:
        return rows
    return replace(rows, times=None, groups=None)


# Random rows


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


def _random_folds(plan: Plan, rows: Rows, n_folds: int) -> Iterator[Split]:
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
        yield np.concatenate([others[kept], singles]), others[held]


def _check_weights(rows: Rows, kept: np.ndarray) -> None:
    if rows.weights is not None and not rows.weights[kept].any():
        raise InvalidTable(
            "Cross-validation leaves no row of weight to learn from: too few rows have a "
            "weight over 0.",
            hint="Use validation=holdout or validation=none, or give more rows a weight.",
        )


# Times


def _before_and_after(times: np.ndarray, begin: float, end: float) -> Split:
    """Return the rows before a share `begin` of all in the order of time, and those up to `end`.

    Times are cut where the number of rows is next to these shares.
    """
    known = np.where(np.isnan(times), -np.inf, times)
    _, order, counts = np.unique(known, return_inverse=True, return_counts=True)
    n_up_to = counts.cumsum()
    first = np.abs(n_up_to[:-1] - begin * len(times)).argmin() + 1
    last = np.abs(n_up_to - end * len(times)).argmin()
    is_held = (order >= first) & (order <= last)
    return np.flatnonzero(order < first), np.flatnonzero(is_held)


def _folds_in_time(times: np.ndarray, n_folds: int) -> list[Split]:
    """Return folds of which each learns from all rows before those that it judges.

    The first half of the rows is only learned from (forward chaining; Tashman, Out-of-sample Tests
    of Forecasting Accuracy, 2000).
    """
    ends = np.linspace(_FIRST_JUDGED, 1, n_folds + 1)
    pairs = itertools.pairwise(ends.tolist())
    return [_before_and_after(times, begin, end) for begin, end in pairs][::-1]


# Groups


def _group_folds(
    plan: Plan, rows: Rows, groups: np.ndarray, n_folds: int
) -> list[Split]:
    """Return folds that hold back whole groups, each group once."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    n_folds = min(n_folds, len(np.unique(groups)))
    codes = np.zeros(len(rows), int)
    splitter = GroupKFold(n_folds)
    if plan.task == "classification":
        _, codes = np.unique(codes_of(rows.target), return_inverse=True)
        if np.bincount(codes).max() >= n_folds:
            splitter = StratifiedGroupKFold(
                n_folds, shuffle=True, random_state=plan.seed
            )
    with warnings.catch_warnings():
        # A class with fewer rows than folds is held back in some folds only.
        warnings.simplefilter("ignore")
        found = splitter.split(codes, codes, groups)
        return [(kept, held) for kept, held in found if len(held)]


# Both


def _usable_one(plan: Plan, rows: Rows, splits: Sequence[Split]) -> Split:
    """Return the first split that leaves something to learn from and to judge.

    Raises:
        InvalidTable: there is none.
    """
    found = next(_usable(plan, rows, splits), None)
    if found is None:
        raise InvalidTable(
            f"Without the {held_back(rows)} that are held back, the others hold a single class, or "
            "no row of weight, so that nothing can be learned from them.",
            hint="Name another time_column or group_column, or leave it out.",
        )
    return found


def _usable(plan: Plan, rows: Rows, splits: Sequence[Split]) -> Iterator[Split]:
    """Yield the splits that leave something to learn from, with held rows of known classes only."""
    codes = None
    if plan.task == "classification":
        codes = codes_of(rows.target)
    for kept, held in splits:
        judged = held
        has_classes = True
        if codes is not None:
            judged = held[np.isin(codes[held], codes[kept])]
            has_classes = len(np.unique(codes[kept])) > 1
        has_weight = rows.weights is None or bool(rows.weights[kept].any())
        if len(kept) and len(judged) and has_classes and has_weight:
            yield kept, judged
