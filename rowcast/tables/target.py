"""The target column: its values as learners use them, and predictions in its type."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from rowcast.errors import InvalidTable
from rowcast.tables import columns, dates, durations, inference, spellings

MIN_ROWS = 10
_PARAMETERS = re.compile(r"(decimal\d+)\((\d+), (-?\d+)\)|timestamp\[(\w+), tz=(.+)\]")


def can_be_target(found: pa.DataType) -> bool:
    """Return whether a column of this type can be predicted."""
    found = found.value_type if pt.is_dictionary(found) else found
    return columns.kind_of_type(found) is not None and not pt.is_null(found)


class Target(NamedTuple):
    """The known values (n_known,), a mask of their rows (n_rows,), and the name of their type.

    `note` is what may surprise the table's owner.
    """

    values: np.ndarray
    is_known: np.ndarray
    type_name: str
    note: str


def read(
    name: str,
    column: Any,
    *,
    untyped: bool,
    decimal: str = ".",
    as_classes: bool = False,
) -> Target:
    """Return the target.

    Booleans, whole numbers, floats and text keep their types. Decimals become float64, dates and
    times text in ISO 8601, durations and times of day seconds. Text becomes numbers or seconds
    where a feature's text would. `untyped`: the file has no types, so text that is all whole
    numbers, numbers, or true and false becomes such values. `as_classes`: a classification is asked
    for, so that text and dates are labels.

    Raises:
        InvalidTable: a value is infinite, out of range or not Unicode, the values are dates, or
            fewer than 10 rows have one.
    """
    column = _valid(name, column)
    if not as_classes:
        _refuse_dates(name, column, untyped=untyped)
    column, note = _typed(column, decimal, untyped=untyped, as_classes=as_classes)
    type_name = _type_name(column.type)
    column = _plain(name, column)
    if pt.is_floating(column.type):
        column = _finite(name, column)
    is_known = column.is_valid().to_numpy(zero_copy_only=False)
    n_known = int(is_known.sum())
    if n_known < MIN_ROWS:
        raise InvalidTable(
            f"Only {n_known} of {len(is_known)} rows have a value in the target column {name!r}; "
            f"a fit needs at least {MIN_ROWS}."
        )
    values = column.drop_null().to_numpy(zero_copy_only=False)
    return Target(values, is_known, type_name, note)


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type for a name that `read` returned."""
    found = _PARAMETERS.fullmatch(name)
    if found is None:
        return pa.type_for_alias(name)
    family, precision, scale, unit, zone = found.groups()
    if unit:
        return pa.timestamp(unit, tz=zone)
    return getattr(pa, family)(int(precision), int(scale))


def to_arrow(values: np.ndarray, type_name: str) -> pa.Array:
    """Return predictions (n_rows,) in the type of the target."""
    return pa.array(values).cast(arrow_type(type_name))


def _valid(name: str, column: Any) -> Any:
    """Return a target without a dictionary, in which empty text is missing."""
    column = columns.decoded(column)
    try:
        column.validate(full=True)
    except pa.ArrowException:
        detail = f"The target column {name!r} holds text that is not Unicode."
        raise InvalidTable(detail) from None
    return columns.known_text(column) if columns.is_text(column.type) else column


def _refuse_dates(name: str, column: Any, *, untyped: bool) -> None:
    is_date = pt.is_date(column.type) or pt.is_timestamp(column.type)
    if columns.is_text(column.type):
        known = column.drop_null()
        is_number = untyped and inference.are_numbers(known, ".")
        found = dates.Found() if is_number else dates.find(known)
        is_date = bool(found.formats) or found.is_ambiguous
    if is_date:
        raise InvalidTable(
            f"The target column {name!r} holds dates, which cannot be predicted.",
            hint="Name a target of numbers, such as the days since a date; or use "
            "task=classification, which takes each date for a class.",
        )


def _typed(
    column: Any, decimal: str, *, untyped: bool, as_classes: bool
) -> tuple[Any, str]:
    """Return a target in the type that all its values have, and a note."""
    if not columns.is_text(column.type):
        return column, ""
    known = column.drop_null()
    if not len(known) or inference.has_leading_zeros(known):
        return column, ""
    if untyped:
        found = _parsed(column, decimal)
        if found is not None:
            return found, ""
    elif as_classes or inference.are_numbers(known, decimal):
        return column, ""
    return _spelled(column, known, decimal, untyped=untyped, as_classes=as_classes)


def _parsed(text: Any, decimal: str) -> Any:
    """Return the booleans or numbers that all of a text is, None if it is neither."""
    import pyarrow.compute as pc

    words = pc.utf8_lower(text.drop_null())
    booleans = pa.array(["true", "false"], words.type)
    if pc.all(pc.is_in(words, value_set=booleans)).as_py():
        return pc.equal(pc.utf8_lower(text), "true")
    try:
        numbers = columns.parsed_numbers(text, decimal)
    except columns.Unreadable:
        return None
    try:
        # Whole numbers over 2**53 would lose their last digits as floats.
        return pc.utf8_ltrim(pc.utf8_trim_whitespace(text), "+").cast(pa.int64())
    except pa.ArrowException:
        return numbers


def _spelled(
    text: Any, known: Any, decimal: str, *, untyped: bool, as_classes: bool
) -> tuple[Any, str]:
    """Return the numbers or seconds that people wrote in a text, else the text, and a note."""
    found = spellings.find(known, decimal)
    reading = found.reading
    if reading is None:
        clock, note = durations.find(known)
        if clock is None or as_classes:
            return text, _note_on_words(found, known) if untyped else found.note
        return durations.seconds(text, clock)[0], note
    if as_classes and set(reading) != {"missing"}:
        return text, ""
    unmarked = spellings.unmarked(text, reading)
    numbers = _parsed(unmarked, decimal)
    if numbers is None:
        numbers, _ = spellings.numbers(text, reading, decimal)
    return numbers, found.note


def _note_on_words(found: spellings.Found, known: Any) -> str:
    if found.n_bad is None:
        return found.note
    return inference.note_on_words(found.n_bad, len(known))


def _plain(name: str, column: Any) -> Any:
    if pt.is_decimal(column.type):
        return column.cast(pa.float64())
    if pt.is_date(column.type) or pt.is_timestamp(column.type):
        return _times_as_text(name, column)
    if pt.is_duration(column.type) or pt.is_time(column.type):
        return columns.seconds(column)
    return column


def _finite(name: str, column: Any) -> Any:
    """Return floats with null for NaN; reject infinite ones."""
    import pyarrow.compute as pc

    column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    infinite = np.flatnonzero(pc.fill_null(pc.is_inf(column), False))
    if len(infinite):
        where = f"{len(infinite)}, first in row {infinite[0]}"
        raise InvalidTable(
            f"The target column {name!r} holds infinite values: {where}."
        )
    return column


def _times_as_text(name: str, column: Any) -> Any:
    import pyarrow.compute as pc

    try:
        text = column.cast(pa.string())
    except pa.ArrowException:
        detail = f"The target column {name!r} has times of an unknown time zone."
        raise InvalidTable(detail) from None
    # Arrow writes years beyond 32767 as "<value out of range: ...>", which is not a time.
    if pc.any(pc.starts_with(text, "<")).as_py():
        raise InvalidTable(
            f"The target column {name!r} holds times that are out of range."
        )
    return text


def _type_name(found: pa.DataType) -> str:
    if columns.is_text(found):
        return "string"
    if pt.is_duration(found) or pt.is_time(found):
        return "double"
    return str(found)
