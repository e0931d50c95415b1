"""Columns that number or name the rows of a table, so that nothing can be learned from them.

Importing this module loads pyarrow alone.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow.types as pt

from rowcast.tables.columns import Feature, Values, decoded, is_text

# At most this share of an identifier is missing.
_MAX_MISSING = 0.1
# The first values answer most questions, before all of them are read.
_PROBED_VALUES = 200
_NAMED_AS_ID = re.compile(
    r"(?i:(^|.*[ _.-])(id|uuid|guid|index|key|nr|no|row|rowid|rownum|rownames?|serial|sno|obs)$"
    r"|^unnamed: 0$|^row[ _.-](number|num|names?)$|^observation$|^\.\.\.1$)|.*[a-z]I[dD]$"
)
_NAMED_AS_TIME = re.compile(
    r"(?i:(^|.*[ _.-])(years?|yr|dates?|days?|weeks?|months?|quarters?|time|hours?|minutes?"
    r"|seconds?|period|epoch|t)([ _.-]|$))|.*[a-z](Year|Date|Day|Week|Month|Time)$"
)
# Whole numbers that go up by one from row to row within these are years.
_FIRST_YEAR, _LAST_YEAR = 1500, 2100
# Amounts such as 1,234.56, dates such as 1/5/21 or 1-5-21 and measures such as 5 kg tell more than
# a name does.
_NO_NAME = (
    r"^[^A-Za-z]*[0-9][.,/:%][0-9]|^ *[0-9]{1,4}-[0-9]{1,2}-[0-9]{1,4}( |$)"
    r"|^ *[0-9.,]+ [^ ]{1,5}$"
)
# Longer text is prose, not a name, although it differs in every row.
_MAX_MEAN_WORDS = 5.0
_MAX_MEAN_CHARACTERS = 60.0
# Row numbers with gaps: at most as many are left out as there are, and few of them at the start.
_MAX_SPREAD = 2.0
_MAX_START = 0.1
_MIN_ROWS_WITH_GAPS = 10
# Whole numbers beyond this may be equal as floats.
_MAX_EXACT = 2.0**53


def is_identifier(feature: Feature, column: Any, values: Values) -> bool:
    """Return whether a column numbers or names its rows.

    Whole numbers do if they increase by one from row to row, or with gaps from about the number of
    the first row to not far beyond the number of rows; or if all differ under a name such as `id`.
    Years and times do not. Text does if all values differ, unless it is prose. At most a tenth of
    the values may be missing.
    """
    if values.n_missing > _MAX_MISSING * len(column):
        return False
    known = decoded(column).drop_null()
    if feature.kind == "numeric":
        if feature.reading is not None:
            return False
        if are_rounded(column, values):
            return _is_named_as_id(feature.name) and _all_differ(known)
        return _number_rows(feature.name, values)
    if feature.kind == "text" or (feature.kind == "category" and feature.categories):
        return _name_rows(known)
    return False


def are_rounded(column: Any, values: Values) -> bool:
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


def is_named_as_time(name: str) -> bool:
    """Return whether a column is named as years, months, days and the like are."""
    return bool(_NAMED_AS_TIME.match(name))


def _is_named_as_id(name: str) -> bool:
    return bool(_NAMED_AS_ID.match(name))


def _all_differ(column: Any) -> bool:
    return len(column.unique()) == len(column)


def _number_rows(name: str, values: Values) -> bool:
    # The type does not matter: in text, whole floats look like integers.
    numbers = (
        values.array[~np.isnan(values.array)] if values.n_missing else values.array
    )
    probe = numbers[:_PROBED_VALUES]
    if not len(numbers) or np.any(probe != np.floor(probe)):
        return False
    if is_named_as_time(name):
        return False
    if _is_named_as_id(name):
        return len(np.unique(numbers)) == len(numbers)
    return _count_rows(numbers, len(values.array))


def _count_rows(numbers: np.ndarray, n_rows: int) -> bool:
    """Return whether numbers go up as those of rows do, of which some were left out."""
    steps = np.diff(numbers)
    if np.any(steps < 1) or np.any(numbers != np.floor(numbers)):
        return False
    first, last = numbers[0], numbers[-1]
    if first >= _FIRST_YEAR and last <= _LAST_YEAR:
        return False
    if np.all(steps == 1) and len(numbers) == n_rows:
        return True
    is_dense = last - first + 1 <= _MAX_SPREAD * n_rows
    is_start = 0 <= first <= 1 + _MAX_START * n_rows
    return bool(is_dense and is_start and n_rows >= _MIN_ROWS_WITH_GAPS)


def _name_rows(text: Any) -> bool:
    import pyarrow.compute as pc

    if not _all_differ(text[:_PROBED_VALUES]) or not _all_differ(text):
        return False
    if is_text(text.type) and _is_prose(text):
        return False
    return not pc.any(pc.match_substring_regex(text, _NO_NAME)).as_py()


def _is_prose(text: Any) -> bool:
    import pyarrow.compute as pc

    mean_characters = pc.mean(pc.utf8_length(text)).as_py()
    # Names in other scripts have no blanks.
    mean_blanks = pc.mean(pc.count_substring(text, " ")).as_py()
    return bool(
        mean_characters > _MAX_MEAN_CHARACTERS or mean_blanks + 1 > _MAX_MEAN_WORDS
    )
