"""Which kind a training column has, what a manifest says of it, and why it may be left out.

Importing this module loads pyarrow alone.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from rowcast.tables import dates, durations, spellings
from rowcast.tables.columns import (
    BOOLEANS,
    Feature,
    Unreadable,
    Values,
    as_text,
    decoded,
    is_text,
    is_text_of_any_form,
    kind_of_type,
    parsed_numbers,
    whole_numbers_as_text,
)
from rowcast.tables.identifiers import are_rounded, is_identifier

# Text with at most this many distinct values is a category (skrub's threshold).
MAX_CATEGORIES = 40
# The same for a column that its writer declared categorical: scikit-learn's boosting can tell this
# many categories apart.
MAX_DECLARED_CATEGORIES = 255
# Distinct numbers are counted in this many rows; a full count of many columns would take longer
# than a fit.
_COUNTED_ROWS = 10_000
# The first values answer most questions, before all of them are read.
_PROBED_VALUES = 200
_EITHER = (
    "its dates can be read with the day or the month first, so all are read as text."
)
_FIRST_DATE, _LAST_DATE = 1900_01_01, 2099_12_31
# So many different whole numbers are not dates by chance.
_MANY_DATES = 5
_NAMED_AS_DATE = re.compile(
    r"(?i:(^|.*[ _.-])(date|day|dt|datum|time|period|ymd|yyyymmdd)([ _.-]|$))|.*[a-z]Date$"
)


class LeftOut(Enum):
    """Why a column is not learned from."""

    EMPTY = "no values"
    CONSTANT = "the same value in every row"
    IDENTIFIER = "an identifier with a different value in every row"
    GROUP = "the groups that are held back whole, of which new rows bring others"


def infer(
    name: str, column: Any, *, untyped: bool, decimal: str = "."
) -> tuple[Feature, str]:
    """Return how to read a training column, and a note where this may surprise its owner.

    Text is read as booleans or dates where all values are such, and as numbers where all are
    written in one way. Plain numbers stay text unless the file has no types (`untyped`).
    """
    kind = kind_of_type(column.type)
    is_free = untyped and is_text_of_any_form(column.type)
    type_name = "text" if is_free else str(column.type)
    if kind == "numeric" and _are_dates_in_numbers(name, column):
        return _compact_dates(name, type_name)
    if kind in ("numeric", "boolean", "datetime", "duration"):
        return Feature(name, kind, type_name), ""
    return _infer_text(name, column, type_name, untyped=untyped, decimal=decimal)


def _are_dates_in_numbers(name: str, column: Any) -> bool:
    import pyarrow.compute as pc

    if not (pt.is_integer(column.type) or pt.is_floating(column.type)):
        return False
    # Arrow has no extremes of half floats.
    numbers = column.cast(pa.float64(), safe=False)
    ends = pc.min_max(numbers).as_py()
    if (
        ends["min"] is None
        or not _FIRST_DATE <= ends["min"] <= ends["max"] <= _LAST_DATE
    ):
        return False
    try:
        text = whole_numbers_as_text(column).drop_null()
    except pa.ArrowException:
        return False
    return _are_compact_dates(name, text)


def _compact_dates(name: str, type_name: str) -> tuple[Feature, str]:
    feature = Feature(name, "datetime", type_name, date_format=dates.COMPACT)
    return feature, "its numbers are read as dates, such as 20201231."


def _infer_text(
    name: str, column: Any, type_name: str, *, untyped: bool, decimal: str
) -> tuple[Feature, str]:
    text = as_text(decoded(column)).drop_null()
    note = ""
    is_declared = pt.is_dictionary(column.type) and not untyped
    if not is_declared:
        feature, note = _infer_numbers(
            name, text, type_name, untyped=untyped, decimal=decimal
        )
        if feature:
            return feature, note

    if not pt.is_dictionary(column.type) or is_text(column.type.value_type):
        if len(text) and _are_boolean_words(text):
            return Feature(name, "boolean", type_name), ""
        feature, note_on_times = _infer_times(name, text, type_name)
        if feature:
            return feature, note_on_times
        note = note or note_on_times

    distinct = text.unique()
    if len(distinct) > (MAX_DECLARED_CATEGORIES if is_declared else MAX_CATEGORIES):
        return Feature(name, "text", type_name), note
    categories = sorted(distinct.to_pylist())
    return Feature(name, "category", type_name, categories=categories), note


def _infer_numbers(
    name: str, text: Any, type_name: str, *, untyped: bool, decimal: str
) -> tuple[Feature | None, str]:
    """Return how to read text as numbers, None if it is something else, and a note."""
    if not len(text) or has_leading_zeros(text):
        return None, ""
    if are_numbers(text, decimal):
        if _are_compact_dates(name, text):
            return _compact_dates(name, type_name)
        # The writer of a file with types could have written numbers.
        return (Feature(name, "numeric", type_name) if untyped else None), ""
    found = spellings.find(text, decimal)
    if found.reading is not None:
        feature = Feature(name, "numeric", type_name, reading=found.reading)
        return feature, found.note
    if found.n_bad is None or not untyped:
        return None, found.note
    return None, note_on_words(found.n_bad, len(text))


def note_on_words(n_bad: int, n_values: int) -> str:
    """Return what a column of numbers with a few words is read as."""
    return f"{n_bad} of its {n_values} values are not numbers, so all are read as text."


def are_numbers(text: Any, decimal: str) -> bool:
    """Return whether all of a text is plain numbers."""
    try:
        for part in (text[:_PROBED_VALUES], text):
            parsed_numbers(part, decimal)
    except Unreadable:
        return False
    return True


def has_leading_zeros(text: Any) -> bool:
    """Return whether a value is a whole number with a leading zero, which a number would lose."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(text, r"^\s*[+-]?0[0-9]+\s*$")).as_py())


def _are_boolean_words(text: Any) -> bool:
    import pyarrow.compute as pc

    for part in (text[:_PROBED_VALUES], text):
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(part))
        words = pa.array(list(BOOLEANS), lower.type)
        if not pc.all(pc.is_in(lower, value_set=words)).as_py():
            return False
    return True


def _infer_times(name: str, text: Any, type_name: str) -> tuple[Feature | None, str]:
    """Return how to read text as dates or durations, None if it is something else, and a note."""
    found = dates.find(text)
    if found.formats:
        feature = Feature(
            name,
            "datetime",
            type_name,
            date_format=found.formats[0],
            reading=found.reading(),
        )
        return feature, found.note()
    if found.is_ambiguous:
        return None, _EITHER
    reading, note = durations.find(text)
    if reading is None:
        return None, ""
    return Feature(name, "duration", type_name, reading=reading), note


def _are_compact_dates(name: str, text: Any) -> bool:
    """Return whether whole numbers are dates such as 20201231.

    Some numbers look like dates by chance, many do not.
    """
    if not dates.are_compact(text):
        return False
    return bool(_NAMED_AS_DATE.match(name)) or len(text.unique()) >= _MANY_DATES


def describe(feature: Feature, column: Any, values: Values) -> dict[str, Any]:
    """Return what a manifest says of a training column: kind, share missing, distinct values.

    `n_distinct` is a lower bound, from the first rows, where `n_distinct_is_exact` is false.
    """
    n_distinct, is_exact = _n_distinct(feature, column, values)
    reading = {} if feature.reading is None else {"reading": dict(feature.reading)}
    return {
        "name": feature.name,
        "type": feature.type,
        "kind": feature.kind,
        "share_missing": round(values.n_missing / max(1, len(column)), 6),
        "n_distinct": n_distinct,
        "n_distinct_is_exact": is_exact,
        **reading,
    }


def _n_distinct(feature: Feature, column: Any, values: Values) -> tuple[int, bool]:
    if feature.categories is not None:
        return len(feature.categories), True
    if isinstance(values.array, np.ndarray) and not are_rounded(column, values):
        counted = values.array[:_COUNTED_ROWS]
        known = counted[~np.isnan(counted)]
        return len(np.unique(known)), len(counted) == len(column)
    return len(decoded(column).drop_null().unique()), True


def reason_to_leave_out(
    feature: Feature,
    column: Any,
    values: Values,
    whole: tuple[Any, Values] | None = None,
) -> LeftOut | None:
    """Return why a learner cannot use a column, None if it can.

    `whole` is the column with the rows that have no target, if there are any: they count where rows
    are numbered or named.
    """
    if values.n_missing == len(column):
        return LeftOut.EMPTY
    if _is_constant(column, values):
        return LeftOut.CONSTANT
    if whole is not None:
        column, values = whole
    if is_identifier(feature, column, values):
        return LeftOut.IDENTIFIER
    return None


def _is_constant(column: Any, values: Values) -> bool:
    """Return whether all values are equal and none is missing."""
    if values.n_missing:
        # Rows with a missing value differ from the others.
        return False
    if isinstance(values.array, np.ndarray) and not are_rounded(column, values):
        return bool(values.array.min() == values.array.max())
    parts = (column[:_PROBED_VALUES], column)
    return all(len(decoded(part).unique()) < 2 for part in parts)
