"""Durations and times of day as people write them: `1:23:45`, `12:30 PM`, `2 days 03:00:00`.

Importing this module loads pyarrow alone.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from rowcast.tables import spellings
from rowcast.tables.spellings import Reading

_PROBED_VALUES = 200
_MAX_BYTES = 40
_CLOCK = (
    "^(?P<sign>-?)(?:(?P<days>[0-9]{1,6}) days?,? [+]?)?"
    "(?P<first>[0-9]{1,4}):(?P<second>[0-5][0-9])(?::(?P<third>[0-5][0-9]))?"
    "(?P<fraction>[.][0-9]{1,9})?(?: ?(?P<half>[AaPp])[.]?[Mm][.]?)?$"
)
# What two numbers with a colon are.
_MINUTES = "m:s"
_HOURS = "h:m"


def find(text: Any) -> tuple[Reading | None, str]:
    """Return how all known values of a column are read as durations, if they are, and a note."""
    import pyarrow.compute as pc

    for part in (text[:_PROBED_VALUES], text):
        plain = spellings.plain(part)
        is_mark = spellings.is_mark(plain, spellings.MARKS)
        known = plain.filter(pc.invert(is_mark))
        if not len(known) or known.null_count:
            return None, ""
        if not pc.all(_is_clock(_parts(known))).as_py():
            return None, ""
    parts = _parts(known)
    marks = sorted(pc.utf8_lower(plain.filter(is_mark)).unique().to_pylist())
    reading: dict[str, Any] = {"clock": _unit(parts)}
    note = "its text is read as durations or times of day, in seconds"
    if reading["clock"] == _MINUTES and pc.any(_is_short(parts)).as_py():
        note += ", 12:30 as minutes and seconds"
    if marks:
        reading["missing"] = marks
        note += f", with {' '.join(marks)} as missing"
    return reading, f"{note}."


def seconds(text: Any, reading: Reading) -> tuple[Any, Any]:
    """Return the seconds of text as float64, and a mask of the values that are no durations."""
    import pyarrow.compute as pc

    text = spellings.unmarked(text, reading)
    parts = _parts(text)
    is_good = pc.fill_null(_is_clock(parts), False)
    is_bad = pc.and_not(pc.is_valid(text), is_good)
    long = _sum(parts, ("first", 3600.0), ("second", 60.0), ("third", 1.0))
    short = _sum(parts, ("first", 60.0), ("second", 1.0))
    is_short = _is_short(parts)
    if reading["clock"] == _MINUTES:
        long = pc.if_else(is_short, short, long)
    values = pc.add(pc.add(long, _number(parts, "fraction")), _half_day(parts))
    sign = pc.if_else(pc.equal(pc.struct_field(parts, "sign"), "-"), -1.0, 1.0)
    days = pc.multiply(_number(parts, "days"), 86400.0)
    has_days = pc.not_equal(pc.struct_field(parts, "days"), "")
    # As pandas writes it, -1 days +23:59:50 is ten seconds below zero.
    with_days = pc.add(pc.multiply(sign, days), values)
    found = pc.if_else(has_days, with_days, pc.multiply(sign, values))
    return pc.if_else(is_bad, pa.scalar(None, pa.float64()), found), is_bad


def _parts(text: Any) -> Any:
    import pyarrow.compute as pc

    is_long = pc.greater(pc.binary_length(text), _MAX_BYTES)
    return pc.extract_regex(spellings.without(text, is_long), _CLOCK)


def _is_clock(parts: Any) -> Any:
    """Return whether values are durations; hours before AM and PM are 1 to 12."""
    import pyarrow.compute as pc

    is_plain = pc.equal(pc.struct_field(parts, "half"), "")
    hour = _number(parts, "first")
    is_hour = pc.and_(pc.greater_equal(hour, 1.0), pc.less_equal(hour, 12.0))
    return pc.fill_null(pc.or_(is_plain, is_hour), False)


def _is_short(parts: Any) -> Any:
    import pyarrow.compute as pc

    return pc.equal(pc.struct_field(parts, "third"), "")


def _unit(parts: Any) -> str:
    """Return what two numbers are: minutes where others have hours, too, or hours are too many."""
    import pyarrow.compute as pc

    is_short = _is_short(parts)
    has_long = pc.any(pc.invert(is_short)).as_py()
    has_fraction = pc.not_equal(pc.struct_field(parts, "fraction"), "")
    is_minutes = pc.or_(has_fraction, pc.greater(_number(parts, "first"), 24.0))
    has_minutes = pc.any(pc.and_(is_short, is_minutes)).as_py()
    return _MINUTES if has_long or has_minutes else _HOURS


def _sum(parts: Any, *factors: tuple[str, float]) -> Any:
    import pyarrow.compute as pc

    first, *others = (
        pc.multiply(_number(parts, name), factor) for name, factor in factors
    )
    for each in others:
        first = pc.add(first, each)
    return first


def _number(parts: Any, name: str) -> Any:
    """Return a part as float64, 0 where it is not written."""
    import pyarrow.compute as pc

    text = pc.struct_field(parts, name)
    return pc.if_else(pc.equal(text, ""), "0", text).cast(pa.float64())


def _half_day(parts: Any) -> Any:
    """Return the seconds by which AM and PM move a time."""
    import pyarrow.compute as pc

    half = pc.utf8_lower(pc.struct_field(parts, "half"))
    is_twelve = pc.equal(_number(parts, "first"), 12.0)
    morning = pc.if_else(is_twelve, -43200.0, 0.0)
    evening = pc.if_else(is_twelve, 0.0, 43200.0)
    moved = pc.if_else(pc.equal(half, "a"), morning, evening)
    return pc.if_else(pc.equal(half, ""), 0.0, moved)
