"""Dates and times as people write them: the formats of a column of text, and its values.

`find` says how the text of a column is to be read, once, when a model is fitted; `times` reads
later text. Importing this module loads pyarrow alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pyarrow as pa

from rowcast.tables import spellings

ISO = "ISO 8601"
# 20201231, in text or as a whole number.
COMPACT = "%Y%m%d"
# 2020Q1 and Q1 2020, read as the first day of the quarter.
QUARTER = "quarter"
# Longer text, without the spaces around it, is not a date.
MAX_DATE_LENGTH = 40
_MAX_FORMATS = 4
# At most this share of a column may be other text, which is then missing.
_MAX_UNREADABLE = 0.05
_PROBED_VALUES = 200

# In shapes, "Y" stands for four digits, "9" for one or two, "a" for letters, "p" for AM or PM.
_DAYS: dict[str, tuple[str, ...]] = {
    "9.9.Y": ("%d.%m.%Y",),
    "9/9/Y": ("%d/%m/%Y", "%m/%d/%Y"),
    "9-9-Y": ("%d-%m-%Y", "%m-%d-%Y"),
    "9.9.9": ("%d.%m.%y",),
    "9/9/9": ("%d/%m/%y", "%m/%d/%y", "%y/%m/%d"),
    "9-9-9": ("%d-%m-%y", "%m-%d-%y", "%y-%m-%d"),
    "9 a Y": ("%d %b %Y",),
    "9. a Y": ("%d. %b %Y",),
    "9-a-Y": ("%d-%b-%Y",),
    "9/a/Y": ("%d/%b/%Y",),
    "9aY": ("%d%b%Y",),
    "9 a 9": ("%d %b %y",),
    "9-a-9": ("%d-%b-%y",),
    "9a9": ("%d%b%y",),
    "a 9, Y": ("%b %d, %Y",),
    "a 9 Y": ("%b %d %Y",),
    "a-9-Y": ("%b-%d-%Y",),
    "a/9/Y": ("%b/%d/%Y",),
    "Y a 9": ("%Y %b %d",),
    "Y-a-9": ("%Y-%b-%d",),
    "a, 9 a Y": ("%a, %d %b %Y",),
    "a 9 a Y": ("%a %d %b %Y",),
    "a, a 9, Y": ("%a, %b %d, %Y",),
}
_TIMES = {
    "": "",
    " 9:9": " %H:%M",
    " 9:9:9": " %H:%M:%S",
    " 9:9 p": " %I:%M %p",
    " 9:9p": " %I:%M%p",
    " 9:9:9 p": " %I:%M:%S %p",
    ", 9:9": ", %H:%M",
    ", 9:9:9": ", %H:%M:%S",
    ", 9:9 p": ", %I:%M %p",
    ", 9:9:9 p": ", %I:%M:%S %p",
    " 9:9 +Y": " %H:%M %z",
    " 9:9:9 +Y": " %H:%M:%S %z",
}
_WHOLE: dict[str, tuple[str, ...]] = {
    "a a 9 9:9:9 Y": ("%a %b %d %H:%M:%S %Y",),
    "a Y": ("%b %Y",),
    "a-Y": ("%b-%Y",),
    "a, Y": ("%b, %Y",),
    "a-9": ("%b-%y",),
    "9/Y": ("%m/%Y",),
    "9-Y": ("%m-%Y",),
    "Y-a": ("%Y-%b",),
    "Y a": ("%Y %b",),
    "Ya9": (QUARTER, "%YM%m"),
    "Y a9": (QUARTER,),
    "Y-a9": (QUARTER,),
    "a9 Y": (QUARTER,),
    "a9-Y": (QUARTER,),
    "a9/Y": (QUARTER,),
    "Y.9.9": (ISO,),
}
FORMATS_OF = {
    **{
        f"{day}{time}": tuple(f"{each}{_TIMES[time]}" for each in _DAYS[day])
        for day, time in product(_DAYS, _TIMES)
    },
    **_WHOLE,
}
_ISO_LIKE = "^ *([0-9]{4}[-/. ][0-9]|[0-9]{8}T)"
# Versions such as 1.2.10 have short parts, too.
_SHORT_PARTS = "^[0-9]{1,2}[.-][0-9]{1,2}[.-][0-9]{1,2}\\b"
_PADDED_PARTS = "^[0-9]{2}[.-][0-9]{2}[.-][0-9]{2}\\b"
_MONTH_WITH_POINT = "(?i)\\b(jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec)\\."
_QUARTER = (
    "^(?:(?P<year>[0-9]{4})[ -]?[Qq](?P<part>[1-4])"
    "|[Qq](?P<part_first>[1-4])[ /-]?(?P<year_last>[0-9]{4}))$"
)


@dataclass(frozen=True)
class Found:
    """The formats of a column of dates, none if it is something else.

    `missing` are marks for missing values; `n_unreadable` values are other text, and missing, too.
    """

    formats: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    n_missing: int = 0
    n_unreadable: int = 0
    is_ambiguous: bool = False

    @property
    def is_simple(self) -> bool:
        """Return whether one format fits all known values."""
        return len(self.formats) == 1 and not (self.missing or self.n_unreadable)

    def reading(self) -> spellings.Reading | None:
        """Return what a feature remembers besides its format."""
        if self.is_simple:
            return None
        reading = {
            "formats": list(self.formats),
            "missing": list(self.missing),
            "skips_text": self.n_unreadable > 0,
        }
        return {name: value for name, value in reading.items() if value}

    def note(self) -> str:
        """Return what the column's owner should know."""
        parts = list(self._remarks())
        if not parts:
            return ""
        return f"{', '.join(['its text is read as dates', *parts])}."

    def _remarks(self) -> Iterator[str]:
        if len(self.formats) > 1:
            yield f"in {len(self.formats)} formats"
        if any("%y" in each for each in self.formats):
            yield "with the years 69 to 99 as 1969 to 1999 and 00 to 68 as 2000 to 2068"
        if QUARTER in self.formats:
            yield "each quarter as its first day"
        if self.missing:
            marks = " ".join(self.missing)
            yield f"with {marks} as missing ({spellings.counted(self.n_missing)})"
        if self.n_unreadable:
            n_values = spellings.counted(self.n_unreadable)
            yield f"with what is not a date as missing ({n_values})"


def find(text: Any) -> Found:
    """Return the formats of the dates in a column of known text."""
    probe = _Distinct.of(text[:_PROBED_VALUES])
    if probe.share_of_dates() < 0.5:
        return Found()
    # The usual case needs no table of all different values.
    if probe.are_iso() and times(text, (ISO,)).null_count == text.null_count:
        return Found((ISO,))
    distinct = _Distinct.of(text)
    groups = [group for group in distinct.groups() if len(group.values)]
    if not groups or len(groups) > _MAX_FORMATS:
        return Found()
    n_unreadable = distinct.n_values - sum(group.n_read for group in groups)
    if n_unreadable > _MAX_UNREADABLE * distinct.n_values:
        return Found()
    if any(group.is_ambiguous for group in groups):
        return Found(is_ambiguous=True)
    formats = tuple(dict.fromkeys(group.format for group in groups))
    return Found(formats, distinct.marks, distinct.n_marks, n_unreadable)


def are_compact(text: Any) -> bool:
    """Return whether all values are dates such as 20201231, of 1900 to 2099."""
    import pyarrow.compute as pc

    for part in (text[:_PROBED_VALUES], text):
        is_compact = pc.match_substring_regex(
            part, "^(19|20)[0-9]{2}[01][0-9][0-3][0-9]$"
        )
        if not len(part) or not pc.all(is_compact).as_py():
            return False
    return bool(times(text.unique(), (COMPACT,)).null_count == 0)


def times(text: Any, formats: Sequence[str]) -> Any:
    """Return the dates and times of text in UTC, null where it is in none of the formats."""
    import pyarrow.compute as pc

    text = spellings.plain(text)
    is_long = pc.greater(pc.binary_length(text), MAX_DATE_LENGTH)
    short = pc.if_else(is_long, pa.scalar(None, text.type), text)
    found = pa.nulls(len(text), pa.timestamp("us"))
    for date_format in formats:
        found = pc.coalesce(found, _times(short, date_format))
        if found.null_count == text.null_count:
            break
    return found


@dataclass(frozen=True)
class _Group:
    """Different values of one shape: how many rows have each, the format, and what it reads."""

    values: Any
    format: str
    n_read: int
    is_ambiguous: bool

    @classmethod
    def of(cls, values: Any, counts: Any, formats: Sequence[str]) -> _Group:
        """Return the group with the format that reads most of its values."""
        n_read = {each: _n_rows(counts, times(values, (each,))) for each in formats}
        most = max(n_read.values())
        best = [each for each in formats if n_read[each] == most]
        return cls(values, best[0], most, is_ambiguous=len(best) > 1)


@dataclass(frozen=True)
class _Distinct:
    """The different values of a column other than marks, and how many rows have each."""

    values: Any
    counts: Any
    shapes: Any
    marks: tuple[str, ...]
    n_marks: int

    @classmethod
    def of(cls, text: Any) -> _Distinct:
        """Return the different values of known text."""
        import pyarrow.compute as pc

        counted = pc.value_counts(spellings.plain(text).drop_null())
        values, counts = counted.field(0), counted.field(1)
        is_mark = spellings.is_mark(values, spellings.MARKS)
        marks = pc.utf8_lower(values.filter(is_mark)).unique().to_pylist()
        n_marks = pc.sum(counts.filter(is_mark)).as_py() or 0
        known = pc.invert(is_mark)
        values = values.filter(known)
        return cls(
            values, counts.filter(known), _shapes(values), tuple(sorted(marks)), n_marks
        )

    @property
    def n_values(self) -> int:
        """Return how many rows have a value."""
        import pyarrow.compute as pc

        return pc.sum(self.counts).as_py() or 0

    def share_of_dates(self) -> float:
        """Return the share of rows whose values look like dates."""
        import pyarrow.compute as pc

        known = pa.array([ISO, *FORMATS_OF], self.shapes.type)
        n_known = pc.sum(self.counts.filter(pc.is_in(self.shapes, known))).as_py() or 0
        return n_known / max(1, self.n_values)

    def are_iso(self) -> bool:
        """Return whether all values begin as ISO 8601, and none is a mark."""
        import pyarrow.compute as pc

        return not self.n_marks and bool(pc.all(pc.equal(self.shapes, ISO)).as_py())

    def groups(self) -> Iterator[_Group]:
        """Yield the values of each shape of dates."""
        import pyarrow.compute as pc

        for shape in self.shapes.unique().to_pylist():
            formats = (ISO,) if shape == ISO else FORMATS_OF.get(shape)
            if formats:
                is_here = pc.equal(self.shapes, shape)
                values = self.values.filter(is_here)
                yield _Group.of(values, self.counts.filter(is_here), formats)


def _n_rows(counts: Any, found: Any) -> int:
    import pyarrow.compute as pc

    return pc.sum(counts.filter(found.is_valid())).as_py() or 0


def _shapes(text: Any) -> Any:
    """Return the shapes of values, ISO for those that begin as ISO 8601."""
    import pyarrow.compute as pc

    is_iso = pc.match_substring_regex(text, _ISO_LIKE)
    is_long = pc.greater(pc.binary_length(text), MAX_DATE_LENGTH)
    shape = _usual(pc.if_else(is_long, "", text))
    is_short = pc.and_not(
        pc.match_substring_regex(shape, _SHORT_PARTS),
        pc.match_substring_regex(shape, _PADDED_PARTS),
    )
    shape = pc.replace_substring_regex(shape, "(?i)\\b[ap]m\\b|([0-9])[ap]m\\b", "\\1~")
    shape = pc.replace_substring_regex(shape, "[A-Za-z]+", "a")
    shape = pc.replace_substring_regex(shape, " [+-][0-9]{4}$", " +Y")
    shape = pc.replace_substring_regex(shape, "[0-9]{4}", "Y")
    shape = pc.replace_substring_regex(shape, "[0-9]{1,2}", "9")
    shape = pc.replace_substring(shape, "~", "p")
    return pc.if_else(is_iso, ISO, pc.if_else(is_short, "", shape))


def _usual(text: Any) -> Any:
    """Return dates with usual names: 3rd is 3, Sept. is Sep, p.m. is PM, GMT is +0000."""
    import pyarrow.compute as pc

    text = pc.replace_substring_regex(text, "([0-9])(?:st|nd|rd|th)\\b", "\\1")
    text = pc.replace_substring_regex(text, "(?i)\\bsept\\b", "Sep")
    text = pc.replace_substring_regex(text, _MONTH_WITH_POINT, "\\1")
    text = pc.replace_substring_regex(text, "(?i)\\b([ap])\\.m\\.", "\\1m")
    return pc.replace_substring_regex(text, " (?:GMT|UTC|UT)$", " +0000")


def _times(text: Any, date_format: str) -> Any:
    import pyarrow.compute as pc

    if date_format == ISO:
        return _iso_times(text)
    if date_format == QUARTER:
        return _iso_times(_first_days(text))
    if any(name in date_format for name in ("%b", "%p", "%z")):
        text = _usual(text)
    found = pa.nulls(len(text), pa.timestamp("us"))
    for each in _with_full_names(date_format):
        found = pc.coalesce(found, _formatted_times(text, each))
        if found.null_count == text.null_count:
            break
    return found


def _with_full_names(date_format: str) -> list[str]:
    """Return a format with short and with full names of months and days."""
    months = dict.fromkeys((date_format, date_format.replace("%b", "%B")))
    days = [each.replace("%a", "%A") for each in months]
    return list(dict.fromkeys((*months, *days)))


def _first_days(text: Any) -> Any:
    """Return the first days of quarters in ISO 8601."""
    import pyarrow.compute as pc

    parts = pc.extract_regex(text, _QUARTER)
    names = ("year", "year_last", "part", "part_first")
    year, year_last, part, part_first = (pc.struct_field(parts, name) for name in names)
    quarter = pc.binary_join_element_wise(part, part_first, "")
    months = pa.array(["01", "04", "07", "10"])
    places = pc.index_in(quarter, value_set=pa.array(list("1234"), quarter.type))
    whole_year = pc.binary_join_element_wise(year, year_last, "")
    return pc.binary_join_element_wise(whole_year, months.take(places), "01", "-")


def _iso_times(text: Any) -> Any:
    """Return the times of ISO 8601 text, null for other text; those with an offset become UTC."""
    for target in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            return without_zone(text.cast(target))
        except pa.ArrowException:
            continue
    return _formatted_times(text, "ISO8601")


def without_zone(times: Any) -> Any:
    """Return times as they are in UTC, without their zone."""
    return times.cast(pa.int64()).cast(pa.timestamp("us"))


def _formatted_times(text: Any, date_format: str) -> Any:
    import pandas as pd

    # pandas rejects what Arrow's strptime accepts, such as the 31st of February.
    values = text.to_pandas()
    times = pd.to_datetime(values, format=date_format, errors="coerce", utc=True)
    local = times.dt.tz_localize(None).astype("datetime64[us]")
    return pa.array(local, from_pandas=True)
