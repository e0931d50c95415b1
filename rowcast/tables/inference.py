"""Which kind a column of a training table has, what a manifest says of it, and whether it is used.

Importing this module loads pyarrow alone.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from rowcast.tables.columns import (
    BOOLEANS,
    ISO,
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

# Text with at most so many distinct values is taken for categories (skrub's threshold), and a
# column that its writer declared categorical with as many as scikit-learn's boosting can tell
# apart.
MAX_CATEGORIES = 40
MAX_DECLARED_CATEGORIES = 255
# Distinct numbers are counted in so many rows; a full count of many columns would take longer than
# a fit.
_COUNTED_ROWS = 10_000
_PROBED_VALUES = 200
# 2024/01/31 and 2024.01.31 are read as ISO 8601, too.
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


def infer(
    name: str, column: Any, *, untyped: bool, decimal: str = "."
) -> tuple[Feature, str]:
    """Return how to read a column of a training table, and a note where this may surprise its
    owner.

    Text is read as numbers only where the file has no types; as booleans and dates where all values
    are.
    """
    found = kind_of_type(column.type)
    type_name = "text" if untyped else str(column.type)
    if found in ("numeric", "boolean", "datetime", "duration"):
        return Feature(name, found, type_name), ""
    return _infer_text(name, column, type_name, untyped=untyped, decimal=decimal)


def _infer_text(
    name: str, column: Any, type_name: str, *, untyped: bool, decimal: str
) -> tuple[Feature, str]:
    is_declared = pt.is_dictionary(column.type) and not is_text(column.type.value_type)
    text = as_text(decoded(column)).drop_null()
    note = ""
    if untyped and not has_leading_zeros(text):
        share, note = _share_of_numbers(text, decimal)
        if share == 1:
            return Feature(name, "numeric", type_name), ""
    if not is_declared and len(text) and _boolean_words_alone(text):
        return Feature(name, "boolean", type_name), ""
    formats = () if is_declared else date_formats(text)
    if len(formats) == 1:
        return Feature(name, "datetime", type_name, date_format=formats[0]), ""
    note = (
        "its dates can be read with the day or the month first, so that they are read as text."
        if formats
        else note
    )
    distinct = text.unique()
    limit = (
        MAX_DECLARED_CATEGORIES
        if pt.is_dictionary(column.type) and not untyped
        else MAX_CATEGORIES
    )
    if len(distinct) <= limit:
        return Feature(
            name, "category", type_name, categories=sorted(distinct.to_pylist())
        ), note
    return Feature(name, "text", type_name), note


def _share_of_numbers(text: Any, decimal: str) -> tuple[float, str]:
    """Return which share of the values are numbers, and a note if most are but not all."""
    for part in (text[:_PROBED_VALUES], text):
        try:
            parsed_numbers(part, decimal)
        except Unreadable as error:
            share = 1 - len(error.rows) / max(1, len(part))
            if share < 0.5 or part is text:
                n_bad = len(error.rows)
                note = (
                    f"{n_bad} of its {len(part)} values are no numbers, so that all are "
                    "read as text."
                )
                return share, note if share >= 0.5 else ""
    return (1.0 if len(text) else 0.0), ""


def has_leading_zeros(text: Any) -> bool:
    """Tell whether any value is a whole number with a leading zero, as codes have; a number would
    lose it."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(text, r"^\s*[+-]?0[0-9]+\s*$")).as_py())


def _boolean_words_alone(text: Any) -> bool:
    import pyarrow.compute as pc

    for part in (text[:_PROBED_VALUES], text):
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(part))
        if not pc.all(
            pc.is_in(lower, value_set=pa.array(list(BOOLEANS), lower.type))
        ).as_py():
            return False
    return True


def date_formats(text: Any) -> list[str]:
    """Return the formats in which all values are dates: two if the day cannot be told from the
    month.

    01/02/2024 may be in January or February: where both readings fit all values, neither can be
    taken.
    """
    probe = text[:_PROBED_VALUES]
    if not len(probe) or not _may_be_date(probe[0].as_py()):
        return []
    fitting = [
        date_format for date_format in _DATE_FORMATS if _are_dates(probe, date_format)
    ]
    return [date_format for date_format in fitting if _are_dates(text, date_format)]


def _may_be_date(value: str) -> bool:
    return (
        len(value) <= 40
        and len(re.findall(r"[0-9]", value)) >= 3
        and bool(re.search(r"[-/. ]", value))
    )


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
    n_distinct, is_exact = _distinct(feature, column, values)
    return {
        "name": feature.name,
        "type": feature.type,
        "kind": feature.kind,
        "share_missing": round(values.n_missing / max(1, len(column)), 6),
        "n_distinct": n_distinct,
        "n_distinct_is_exact": is_exact,
    }


def _distinct(feature: Feature, column: Any, values: Values) -> tuple[int, bool]:
    if feature.categories is not None:
        return len(feature.categories), True
    if isinstance(values.array, np.ndarray) and not _are_rounded(column, values):
        counted = values.array[:_COUNTED_ROWS]
        return len(np.unique(counted[~np.isnan(counted)])), len(counted) == len(column)
    return len(decoded(column).drop_null().unique()), True


def reason_to_leave_out(feature: Feature, column: Any, values: Values) -> str:
    """Return why a learner cannot use a column: no value, one value, or an identifier; else
    nothing."""
    if values.n_missing == len(column):
        return "no value at all"
    if _is_constant(column, values):
        return "the same value in every row"
    return (
        "an identifier: another value in every row"
        if _is_identifier(feature, column, values)
        else ""
    )


def _is_constant(column: Any, values: Values) -> bool:
    """Tell whether all values are equal and none is missing."""
    if values.n_missing:
        # That a value is missing tells two kinds of rows apart.
        return False
    if isinstance(values.array, np.ndarray) and not _are_rounded(column, values):
        return bool(values.array.min() == values.array.max())
    # Most columns show it in their first rows already.
    return all(
        len(decoded(part).unique()) < 2 for part in (column[:_PROBED_VALUES], column)
    )


def _is_identifier(feature: Feature, column: Any, values: Values) -> bool:
    """Tell whether a column numbers or names its rows.

    Whole numbers do if they go up by one from row to row, or all differ under a name such as `id`;
    text does if all values differ and none has a space.
    """
    if values.n_missing:
        return False
    if feature.kind == "numeric":
        if _are_rounded(column, values):
            return bool(_NAMED_AS_ID.match(feature.name)) and len(
                decoded(column).unique()
            ) == len(column)
        return _numbers_rows(feature.name, values.array)
    if feature.kind == "text" or (feature.kind == "category" and feature.categories):
        return _names_rows(decoded(column))
    return False


def _are_rounded(column: Any, values: Values) -> bool:
    """Tell whether whole numbers are beyond 2**53, where floats, which learners take, may make them
    equal."""
    found = column.type.value_type if pt.is_dictionary(column.type) else column.type
    if not (is_text(found) or pt.is_integer(found)):
        return False
    known = np.abs(values.array[~np.isnan(values.array)])
    return bool(
        len(known) and known.max() > 2.0**53 and _are_whole(decoded(column).drop_null())
    )


def _are_whole(column: Any) -> bool:
    """Tell whether numbers are of an integer type or, in text, written as integers: 1.0 is a
    measure."""
    import pyarrow.compute as pc

    if not is_text(column.type):
        return bool(pt.is_integer(column.type))
    pattern = r"^\s*[+-]?[0-9]+\s*$"
    parts = (column[:_PROBED_VALUES], column)
    return all(
        pc.all(pc.match_substring_regex(part, pattern)).as_py() for part in parts
    )


def _numbers_rows(name: str, values: np.ndarray) -> bool:
    # Whatever their type: text does not tell whole floats from integers.
    if np.any(values[:_PROBED_VALUES] != np.floor(values[:_PROBED_VALUES])):
        return False
    if bool(np.all(np.diff(values) == 1)):
        return True
    return bool(_NAMED_AS_ID.match(name)) and len(np.unique(values)) == len(values)


def _names_rows(text: Any) -> bool:
    import pyarrow.compute as pc

    if len(text[:_PROBED_VALUES].unique()) < len(text[:_PROBED_VALUES]) or len(
        text.unique()
    ) < len(text):
        return False
    # Amounts such as 1,234.56 and dates such as 1/5/21 have no space either, and tell more than a
    # name.
    return not pc.any(
        pc.match_substring_regex(text, r"\s|^[^A-Za-z]*[0-9][.,/:%][0-9]")
    ).as_py()
