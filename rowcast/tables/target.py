"""The target column: its values as learners take them, and predictions in the type that it had."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from rowcast.errors import InvalidTable
from rowcast.tables import columns, inference

MIN_ROWS = 10
_PARAMETERS = re.compile(r"(decimal\d+)\((\d+), (-?\d+)\)|timestamp\[(\w+), tz=(.+)\]")


def can_be_target(found: pa.DataType) -> bool:
    """Tell whether a column of this type can be predicted."""
    found = found.value_type if pt.is_dictionary(found) else found
    return columns.kind_of_type(found) is not None and not pt.is_null(found)


def read(
    name: str, column: Any, *, untyped: bool, decimal: str = "."
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the known values (n_known,), the mask (n_rows,) of where they are, and their type's
    name.

    Booleans, whole numbers, floats and text are taken as they are; decimals as float64; dates and
    times as text in ISO 8601; durations and times of day as seconds. `untyped`: the file has no
    types, so that text which holds only whole numbers, numbers, or true and false is taken for
    these.

    Raises:
        InvalidTable: a value is infinite, no Unicode or out of range, or fewer than 10 rows have
            one.
    """
    import pyarrow.compute as pc

    column = columns.decoded(column)
    try:
        column.validate(full=True)
    except pa.ArrowException:
        raise InvalidTable(
            f"The target column {name!r} holds text that is not Unicode."
        ) from None
    column = columns.known_text(column) if columns.is_text(column.type) else column
    column = _typed(column, decimal) if untyped else column
    type_name = _type_name(column.type)
    column = _plain(name, column)
    if pt.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        infinite = np.flatnonzero(pc.fill_null(pc.is_inf(column), False))
        if len(infinite):
            where = f"{len(infinite)}, first in row {infinite[0]}"
            raise InvalidTable(
                f"The target column {name!r} holds infinite values: {where}."
            )
    is_known = pc.is_valid(column).to_numpy(zero_copy_only=False)
    if is_known.sum() < MIN_ROWS:
        raise InvalidTable(
            f"Only {int(is_known.sum())} of {len(is_known)} rows have a value in the target "
            f"column {name!r}; "
            f"a fit needs at least {MIN_ROWS}."
        )
    return column.drop_null().to_numpy(zero_copy_only=False), is_known, type_name


def _typed(text: Any, decimal: str) -> Any:
    """Return the target of a file without types in the type that all its values have."""
    import pyarrow.compute as pc

    known = text.drop_null()
    if not len(known) or inference.has_leading_zeros(known):
        return text
    words = pc.utf8_lower(known)
    if pc.all(
        pc.is_in(words, value_set=pa.array(["true", "false"], words.type))
    ).as_py():
        return pc.equal(pc.utf8_lower(text), "true")
    try:
        numbers = columns.parsed_numbers(text, decimal)
    except columns.Unreadable:
        return text
    try:
        # Whole numbers over 2**53 would lose their last digits as floats.
        return pc.utf8_ltrim(pc.utf8_trim_whitespace(text), "+").cast(pa.int64())
    except pa.ArrowException:
        return numbers


def _plain(name: str, column: Any) -> Any:
    if pt.is_decimal(column.type):
        return column.cast(pa.float64())
    if pt.is_date(column.type) or pt.is_timestamp(column.type):
        return _times_as_text(name, column)
    if pt.is_duration(column.type) or pt.is_time(column.type):
        return columns.seconds(column)
    return column


def _times_as_text(name: str, column: Any) -> Any:
    import pyarrow.compute as pc

    try:
        text = column.cast(pa.string())
    except pa.ArrowException:
        raise InvalidTable(
            f"The target column {name!r} has times of a zone that is not known."
        ) from None
    # Arrow writes years beyond 32767 as "<value out of range: ...>", from which no time can be
    # read.
    if pc.any(pc.starts_with(text, "<")).as_py():
        raise InvalidTable(
            f"The target column {name!r} holds times that are out of range."
        )
    return text


def _type_name(found: pa.DataType) -> str:
    if columns.is_text(found):
        return "string"
    return "double" if pt.is_duration(found) or pt.is_time(found) else str(found)


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of a name that `read` gave."""
    found = _PARAMETERS.fullmatch(name)
    if found is None:
        return pa.type_for_alias(name)
    family, precision, scale, unit, zone = found.groups()
    return (
        pa.timestamp(unit, tz=zone)
        if unit
        else getattr(pa, family)(int(precision), int(scale))
    )


def to_arrow(values: np.ndarray, type_name: str) -> pa.Array:
    """Return predictions (n_rows,) in the type that the target had."""
    return pa.array(values).cast(arrow_type(type_name))
