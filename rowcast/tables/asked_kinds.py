"""How a training column is read as the kind that its owner names.

Importing this module loads pyarrow alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from rowcast.tables import dates, durations, inference, spellings
from rowcast.tables.columns import (
    Feature,
    Kind,
    as_text,
    decoded,
    is_text_of_any_form,
    kind_of_type,
    whole_numbers_as_text,
)


class NotOfKind(Exception):
    """Values of a column are not of the kind; the text says why."""


def feature_of(
    name: str, column: Any, kind: Kind, *, untyped: bool, decimal: str = "."
) -> Feature:
    """Return how to read a training column as a kind.

    Raises:
        NotOfKind: its values cannot be read so, as far as that is found here.
    """
    plain = Feature(name, kind, "text" if untyped else str(column.type))
    if kind == "category":
        return _category(plain, column)
    if kind in ("numeric", "datetime", "duration"):
        return _MAKERS[kind](plain, column, untyped, decimal)
    return plain


def _category(plain: Feature, column: Any) -> Feature:
    distinct = as_text(decoded(column)).drop_null().unique()
    n_most = inference.MAX_DECLARED_CATEGORIES
    if len(distinct) > n_most:
        raise NotOfKind(
            f"{len(distinct):,} different values, and a category may have {n_most}"
        )
    categories = sorted(distinct.to_pylist())
    return Feature(plain.name, "category", plain.type, categories=categories)


def _number(plain: Feature, column: Any, untyped: bool, decimal: str) -> Feature:
    if not is_text_of_any_form(column.type):
        return plain
    text = as_text(decoded(column)).drop_null()
    if not len(text) or inference.are_numbers(text, decimal):
        # In a file with types, a reading says that text is meant to be numbers.
        return Feature(
            plain.name, "numeric", plain.type, reading=None if untyped else {}
        )
    reading = spellings.find(text, decimal).reading
    # Reading what is not a number will say in which rows it is.
    return Feature(plain.name, "numeric", plain.type, reading=reading)


def _date(plain: Feature, column: Any, _: bool, __: str) -> Feature:
    if kind_of_type(column.type) == "datetime" or pt.is_null(column.type):
        return plain
    values = decoded(column)
    try:
        text = as_text(
            values
            if is_text_of_any_form(values.type)
            else whole_numbers_as_text(values)
        )
    except pa.ArrowException:
        raise NotOfKind("numbers that are not dates such as 20201231") from None
    text = text.drop_null()
    if dates.are_compact(text):
        return Feature(plain.name, "datetime", plain.type, date_format=dates.COMPACT)
    found = dates.find(text)
    if found.is_ambiguous:
        raise NotOfKind("dates that can be read with the day or the month first")
    if not found.formats:
        raise NotOfKind("values that are not dates")
    return Feature(
        plain.name,
        "datetime",
        plain.type,
        date_format=found.formats[0],
        reading=found.reading(),
    )


def _duration(plain: Feature, column: Any, _: bool, decimal: str) -> Feature:
    if not is_text_of_any_form(column.type):
        return plain
    text = as_text(decoded(column)).drop_null()
    if inference.are_numbers(text, decimal):
        return plain
    reading, _note = durations.find(text)
    if reading is None:
        raise NotOfKind("values that are not durations")
    return Feature(plain.name, "duration", plain.type, reading=reading)


_MAKERS: dict[str, Callable[[Feature, Any, bool, str], Feature]] = {
    "numeric": _number,
    "datetime": _date,
    "duration": _duration,
}
