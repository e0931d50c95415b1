"""What keeps rows apart when some are held back: times that order them, groups that they belong to.

Importing this module loads pyarrow, but not pandas or scikit-learn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from rowcast.tables import columns, identifiers
from rowcast.tables.columns import Feature, Kind, Values

_TIMES: frozenset[Kind] = frozenset({"numeric", "datetime", "duration"})


# How many rows are looked at for columns that look like times or groups.
MAX_LOOKED_AT = 5_000
_NAMED_AS_YEAR = re.compile(r"(?i:(^|.*[ _.-])(years?|yr)$)|.*[a-z]Year$")
_NAMED_AS_BIRTH = re.compile(r"(?i:birth|born|dob)")
_NAMED_AS_GROUP = re.compile(
    r"(?i:(^|.*[ _.-])(id|subject|patient|person|participant|respondent|individual|customer|client"
    r"|user|household|family|firm|company|animal)([ _.-]?(id|no|nr|name|code))?$)|.*[a-z]I[dD]$"
)
_FIRST_YEAR, _LAST_YEAR = 1500, 2100
# With fewer different times, rows may be sorted by a class; with fewer groups, they are classes.
_MIN_TIMES, _MIN_PANEL_TIMES, _MIN_GROUPS, _MIN_NAMED_GROUPS = 5, 3, 3, 10
# The share of all pairs of group and time that a panel has at least.
_MIN_FULL = 0.3


class Order(NamedTuple):
    """What a column says of rows: times that order them, or codes of groups, (n_rows,) each."""

    values: np.ndarray
    n_missing: int


class NotUsable(Exception):
    """A column cannot order or group rows; the text says what it holds instead."""


def times(kind: Kind, values: Values) -> Order:
    """Return a column as numbers that grow with time: dates in seconds; NaN is missing.

    Raises:
        NotUsable: it holds text, categories or booleans, or a single time.
    """
    if kind not in _TIMES:
        raise NotUsable(
            f"values of the kind {kind}; a time_column needs numbers or dates"
        )
    found = values.as_numbers()
    is_known = ~np.isnan(found)
    if len(np.unique(found[is_known])) < 2:
        raise NotUsable("a single time, so that no row is later than others")
    return Order(found, int(len(found) - is_known.sum()))


def groups(column: Any) -> Order:
    """Return the codes of a column's values; rows without one form a group.

    Raises:
        NotUsable: it holds a single group.
        pyarrow.ArrowException: values cannot be read.
    """
    import pyarrow.compute as pc

    column = columns.decoded(column)
    if columns.is_text(column.type):
        text = columns.as_text(column)
        column = columns.known_text(pc.utf8_trim_whitespace(text))
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    found = column.dictionary_encode()
    codes: np.ndarray = found.indices.fill_null(len(found.dictionary)).to_numpy()
    if len(np.unique(codes)) < 2:
        raise NotUsable("a single group, so that no other one can be held back")
    return Order(codes, column.null_count)


# Columns that look like times or groups


class Suspect(NamedTuple):
    """A column that orders or groups the rows by all appearances.

    `values` are as in `Order`, of the first MAX_LOOKED_AT rows.
    """

    what: Literal["time", "group"]
    name: str
    values: np.ndarray


def suspects(found: Sequence[tuple[Feature, Values]]) -> list[Suspect]:
    """Return the columns that look like the time and the group of rows, at most one of each.

    Dates, and numbers that are years, look like time if the rows are sorted by them, or those of
    each group. A column looks like groups if each of its values comes once at each time, or if it
    is named as persons and the like are, and its values repeat.
    """
    known = [
        (feature, _first(values)) for feature, values in found if not values.n_missing
    ]
    times = [each for each in known if _may_be_times(*each)]
    groups = [
        (feature, codes)
        for feature, values in known
        if times or _NAMED_AS_GROUP.match(feature.name)
        if (codes := _group_codes(feature, values)) is not None
    ]
    for feature, values in times:
        numbers = values.as_numbers()
        time = Suspect("time", feature.name, numbers)
        for group, codes in groups:
            if group.name != feature.name and _are_panel(codes, numbers):
                return [time, Suspect("group", group.name, codes)]
        if _are_sorted(numbers):
            return [time, *_named_group(groups)]
    return _named_group(groups)


def _first(values: Values) -> Values:
    codes = None if values.codes is None else values.codes[:MAX_LOOKED_AT]
    return Values(values.array[:MAX_LOOKED_AT], 0, codes=codes)


def _named_group(groups: Sequence[tuple[Feature, np.ndarray]]) -> list[Suspect]:
    for feature, codes in groups:
        n_groups = len(np.unique(codes))
        if _NAMED_AS_GROUP.match(feature.name) and n_groups >= _MIN_NAMED_GROUPS:
            return [Suspect("group", feature.name, codes)]
    return []


def _may_be_times(feature: Feature, values: Values) -> bool:
    if feature.kind == "datetime":
        return not _NAMED_AS_BIRTH.search(feature.name)
    if feature.kind != "numeric" or not _NAMED_AS_YEAR.match(feature.name):
        return False
    numbers = values.as_numbers()
    return bool(numbers.min() >= _FIRST_YEAR and numbers.max() <= _LAST_YEAR)


def _group_codes(feature: Feature, values: Values) -> np.ndarray | None:
    """Return codes (n_rows,) of values that repeat as those of groups do, None if they do not."""
    if feature.kind not in ("numeric", "category", "text"):
        return None
    if identifiers.is_named_as_time(feature.name):
        # Months and the like come once a year.
        return None
    array = values.array
    if values.codes is not None:
        codes = values.codes
    elif isinstance(array, np.ndarray):
        if np.any(array % 1):
            return None
        codes = np.unique(array, return_inverse=True)[1]
    else:
        codes = array.factorize()[0]
    n_groups = len(np.unique(codes))
    return codes if _MIN_GROUPS <= n_groups <= len(codes) / 2 else None


def _are_sorted(numbers: np.ndarray) -> bool:
    steps = np.diff(numbers)
    is_one_way = bool((steps >= 0).all() or (steps <= 0).all())
    return is_one_way and int(np.count_nonzero(steps)) >= _MIN_TIMES - 1


def _are_panel(codes: np.ndarray, times: np.ndarray) -> bool:
    """Return whether each group has at most one row at a time, in order, and most groups have one.

    A time of its own in each row would make a panel of every column.
    """
    n_groups, n_times = len(np.unique(codes)), len(np.unique(times))
    if n_times < _MIN_PANEL_TIMES or len(codes) < _MIN_FULL * n_groups * n_times:
        return False
    by_group = np.argsort(codes, kind="stable")
    steps = np.diff(times[by_group])
    is_same = np.diff(codes[by_group]) == 0
    steps = steps[is_same]
    return bool((steps > 0).all() or (steps < 0).all())
