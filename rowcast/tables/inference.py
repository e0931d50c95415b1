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

from rowcast.tables import spellings
from rowcast.tables.columns import (
    BOOLEANS,
    ISO,
    MAX_DATE_LENGTH,
    Feature,
    Unreadable,
    Values,
    as_text,
    decoded,
    is_text,
    kind_of_type,
    parsed_dates,
    parsed_numbers,
)

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
# 2024/01/31 and 2024.01.31 are also read as ISO 8601.
_DAYS = (
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d %b %Y",
    "%b %d, %Y",
)
_DATE_FORMATS = (
    ISO,
    *(day + time for day in _DAYS for time in ("", " %H:%M", " %H:%M:%S")),
)
_NAMED_AS_ID = re.compile(
    r"(?i:(^|.*[ _.-])(id|uuid|guid|index|key|nr|no)$|^unnamed: 0$)|.*[a-z]I[dD]$"
)
# Amounts such as 1,234.56 and dates such as 1/5/21 have no space either, and tell more than a name
# does.
_NO_NAME = r"\s|^[^A-Za-z]*[0-9][.,/:%][0-9]"
# Whole numbers beyond this may be equal as floats.
_MAX_EXACT = 2.0**53


class LeftOut(Enum):
    """Why a column is not learned from."""

    EMPTY = "no values"
    CONSTANT = "the same value in every row"
    IDENTIFIER = "an identifier with a different value in every row"


def infer(
    name: str, column: Any, *, untyped: bool, decimal: str = "."
) -> tuple[Feature, str]:
    """Return how to read a training column, and a note where this may surprise its owner.

    Text is read as booleans or dates where all values are such, and as numbers where all are
    written in one way. Plain numbers stay text unless the file has no types (`untyped`).
    """
    kind = kind_of_type(column.type)
    type_name = "text" if untyped else str(column.type)
    if kind in ("numeric", "boolean", "datetime", "duration"):
        return Feature(name, kind, type_name), ""
    return _infer_text(name, column, type_name, untyped=untyped, decimal=decimal)


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
        formats = date_formats(text)
        if len(formats) == 1:
            return Feature(name, "datetime", type_name, date_format=formats[0]), ""
        if formats:
            note = "its dates can be read with the day or the month first, so all are read as text."

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
    if _are_numbers(text[:_PROBED_VALUES], decimal) and _are_numbers(text, decimal):
        # The writer of a file with types could have written numbers.
        return (Feature(name, "numeric", type_name) if untyped else None), ""
    found = spellings.find(text, decimal)
    if found.reading is not None:
        feature = Feature(name, "numeric", type_name, reading=found.reading)
        return feature, found.note
    if found.n_bad is None or not untyped:
        return None, found.note
    return (
        None,
        f"{found.n_bad} of its {len(text)} values are not numbers, so all are read as text.",
    )


def _are_numbers(text: Any, decimal: str) -> bool:
    try:
        parsed_numbers(text, decimal)
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


def date_formats(text: Any) -> list[str]:
    """Return the formats in which all values are dates: two if the day may be the month.

    01/02/2024 may be in January or February. Where both readings fit all values, neither can be
    chosen.
    """
    probe = text[:_PROBED_VALUES]
    if not len(probe) or not _may_be_date(probe[0].as_py()):
        return []
    fitting = [each for each in _DATE_FORMATS if _are_dates(probe, each)]
    return [each for each in fitting if _are_dates(text, each)]


def _may_be_date(value: str) -> bool:
    if len(value) > MAX_DATE_LENGTH:
        return False
    n_digits = sum(value.count(digit) for digit in "0123456789")
    return n_digits >= 3 and any(sign in value for sign in "-/. ")


def _are_dates(text: Any, date_format: str) -> bool:
    try:
        parsed_dates(text, date_format)
    except Unreadable:
        return False
    return True


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
    if isinstance(values.array, np.ndarray) and not _are_rounded(column, values):
        counted = values.array[:_COUNTED_ROWS]
        known = counted[~np.isnan(counted)]
        return len(np.unique(known)), len(counted) == len(column)
    return len(decoded(column).drop_null().unique()), True


def reason_to_leave_out(
    feature: Feature, column: Any, values: Values
) -> LeftOut | None:
    """Return why a learner cannot use a column, None if it can."""
    if values.n_missing == len(column):
        return LeftOut.EMPTY
    if _is_constant(column, values):
        return LeftOut.CONSTANT
    if _is_identifier(feature, column, values):
        return LeftOut.IDENTIFIER
    return None


def _is_constant(column: Any, values: Values) -> bool:
    """Return whether all values are equal and none is missing."""
    if values.n_missing:
        # Rows with a missing value differ from the others.
        return False
    if isinstance(values.array, np.ndarray) and not _are_rounded(column, values):
        return bool(values.array.min() == values.array.max())
    parts = (column[:_PROBED_VALUES], column)
    return all(len(decoded(part).unique()) < 2 for part in parts)


def _is_identifier(feature: Feature, column: Any, values: Values) -> bool:
    """Return whether a column numbers or names its rows.

    Whole numbers do if they increase by one from row to row, or if all differ under a name such as
    `id`. Text does if all values differ and none has a space.
    """
    if values.n_missing:
        return False
    if feature.kind == "numeric":
        if _are_rounded(column, values):
            is_named_as_id = bool(_NAMED_AS_ID.match(feature.name))
            return is_named_as_id and _all_differ(decoded(column))
        return _number_rows(feature.name, values.array)
    if feature.kind == "text" or (feature.kind == "category" and feature.categories):
        return _name_rows(decoded(column))
    return False


def _all_differ(column: Any) -> bool:
    return len(column.unique()) == len(column)


def _are_rounded(column: Any, values: Values) -> bool:
    """Return whether whole numbers are so large that different ones may be equal as floats."""
    found = column.type.value_type if pt.is_dictionary(column.type) else column.type
    if not (is_text(found) or pt.is_integer(found)):
        return False
    known = np.abs(values.array[~np.isnan(values.array)])
    if not len(known) or known.max() <= _MAX_EXACT:
        return False
    return _are_whole(decoded(column).drop_null())


def _are_whole(column: Any) -> bool:
    """Return whether numbers are integers by their type or, in text, by how they are written.

    1.0 is a measurement.
    """
    import pyarrow.compute as pc

    if not is_text(column.type):
        return bool(pt.is_integer(column.type))
    for part in (column[:_PROBED_VALUES], column):
        is_whole = pc.match_substring_regex(part, r"^\s*[+-]?[0-9]+\s*$")
        if not pc.all(is_whole).as_py():
            return False
    return True


def _number_rows(name: str, values: np.ndarray) -> bool:
    # The type does not matter: in text, whole floats look like integers.
    probe = values[:_PROBED_VALUES]
    if np.any(probe != np.floor(probe)):
        return False
    if np.all(np.diff(values) == 1):
        return True
    return bool(_NAMED_AS_ID.match(name)) and len(np.unique(values)) == len(values)


def _name_rows(text: Any) -> bool:
    import pyarrow.compute as pc

    if not _all_differ(text[:_PROBED_VALUES]) or not _all_differ(text):
        return False
    return not pc.any(pc.match_substring_regex(text, _NO_NAME)).as_py()
