"""Excel workbooks (.xlsx): one table of one sheet.

calamine reads the copy that `workbook` makes of the sheet, with limits. Columns of numbers,
booleans, dates or times keep these types; what mixes them is text, as it would be in CSV, and text
may turn out to be numbers or dates.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import python_calamine
from python_calamine import CalamineSheet

from rowcast.errors import InvalidTable
from rowcast.tables import csv_header, workbook
from rowcast.tables.csv_values import NULL_MARKERS
from rowcast.tables.files import Format, Read, Sample, Source
from rowcast.tables.limits import Limits
from rowcast.tables.reading import ReadingOptions
from rowcast.tables.rejections import damaged, reject
from rowcast.tables.sheet_xml import column_letters
from rowcast.tables.workbook import Sheet

_NO_ROWS = (
    "Upload a table with at least one row; the first row of a sheet names the columns."
)
_NAME_COLUMNS = (
    "Name every column in the first row of the table, in a cell of its own; upload the workbook "
    "again."
)
# What a cell shows when its formula fails.
_FAILED = (
    *("#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#SPILL!", "#CALC!"),
    *("#FIELD!", "#GETTING_DATA", "#BLOCKED!", "#CONNECT!", "#UNKNOWN!", "#BUSY!"),
)
_HEAD_ROWS = 1000
_HEAD_CELLS = 200_000
_PART_CELLS = 400_000
# Larger numbers may have lost digits.
_MAX_WHOLE = 2**53
_TITLED_COLUMNS = 3

_KINDS: dict[type, pa.DataType] = {
    float: pa.float64(),
    int: pa.float64(),
    bool: pa.bool_(),
    str: pa.string(),
    date: pa.timestamp("us"),
    datetime: pa.timestamp("us"),
    time: pa.duration("us"),
    timedelta: pa.duration("us"),
}


def peek(size: int, read: Read, limits: Limits, reading: ReadingOptions) -> Sample:
    """Return what the first rows of a sheet show.

    Raises:
        InvalidTable: the file is another zip, damaged or over a limit; the sheet is missing or not
            a table.
        InvalidRequest: an option of reading does not apply.
    """
    reading.check("excel")
    book = workbook.of_parts(size, read, limits)
    sheet = book.sheet(reading.sheet)
    copy = io.BytesIO()
    share = book.copy_start(sheet, copy)
    copy.seek(0)
    table, written = _table(_cells(copy, sheet), sheet, limits, reading)
    return Sample(
        written,
        table.schema,
        table,
        n_bytes=max(1, int(size * share)),
        n_rows_seen=table.num_rows,
    )


def open_file(path: Path, limits: Limits, reading: ReadingOptions) -> Source:
    """Return a sheet as a source of rows, all of which are read.

    Raises:
        InvalidTable, InvalidRequest: as `peek`.
    """
    reading.check("excel")
    copy = path.with_name(f"{path.name}.xlsx")
    try:
        with workbook.opened(path, limits) as book:
            sheet = book.sheet(reading.sheet)
            book.copy(sheet, copy)
        cells = _cells(copy, sheet)
    finally:
        copy.unlink(missing_ok=True)
    table, written = _table(cells, sheet, limits, reading)

    def batches(wanted: Sequence[int], max_rows: int) -> Iterator[pa.RecordBatch]:
        return iter(table.select(wanted).to_batches(max_rows))

    n_rows = table.num_rows
    return Source(written, table.schema, n_rows, limits, batches, n_rows)


def _cells(copy: Path | io.BytesIO, sheet: Sheet) -> CalamineSheet:
    with _rejecting_damage():
        found = python_calamine.load_workbook(copy).get_sheet_by_index(0)
    if found.start is None:
        raise _empty(sheet)
    return found


def _empty(sheet: Sheet) -> InvalidTable:
    return InvalidTable(f"The sheet {sheet.name!r} is empty.", hint=_NO_ROWS)


@contextmanager
def _rejecting_damage() -> Iterator[None]:
    try:
        yield
    except (python_calamine.CalamineError, ValueError, OverflowError):
        raise damaged("Excel") from None
    except BaseException as error:
        # Rust's own kind of exception has no public name.
        if type(error).__name__ != "PanicException":
            raise
        raise damaged("Excel") from None


@dataclass
class _Columns:
    """The columns of a sheet, as its rows pass by; `missing` are texts for missing values."""

    parts: list[list[pa.Array]]
    missing: frozenset[str]
    n_rows: int = 0

    def add_all(self, rows: Iterator[Sequence[Any]]) -> None:
        """Add rows of cells, some at a time."""
        n_together = max(1, _PART_CELLS // len(self.parts))
        while part := list(islice(rows, n_together)):
            for parts, values in zip(self.parts, zip(*part, strict=True), strict=True):
                parts.append(_array(values, self.missing))
            self.n_rows += len(part)

    def has_value(self, position: int) -> bool:
        """Return whether a column has a value that is not missing."""
        return any(part.null_count < len(part) for part in self.parts[position])

    def column(self, position: int) -> pa.ChunkedArray:
        """Return a column in the type that all its values have."""
        return _joined(self.parts[position])


def _table(
    cells: CalamineSheet, sheet: Sheet, limits: Limits, reading: ReadingOptions
) -> tuple[pa.Table, Format]:
    """Return the table of a sheet, and how it is written."""
    rows = _filled_rows(cells)
    n_head = max(2, min(_HEAD_ROWS, _HEAD_CELLS // max(1, cells.width)))
    above = list(islice(rows, n_head))
    head = above if reading.header is False else _without_titles(above)
    if not head:
        raise _empty(sheet)
    missing = _missing(reading)
    has_header = reading.header
    if has_header is None:
        has_header = not _is_data(head, missing)
    first = [_text(value) for value in head[0]] if has_header else [""] * cells.width

    columns = _Columns([[] for _ in range(cells.width)], missing)
    columns.add_all(chain(head[int(has_header) :], rows))
    n_rows = columns.n_rows
    used = [i for i, name in enumerate(first) if name or columns.has_value(i)]
    limits.check_columns(len(used))
    limits.check_rows(n_rows, len(used))
    if not n_rows:
        detail = f"The sheet {sheet.name!r} holds a header and no rows."
        raise InvalidTable(detail, hint=_NO_ROWS)

    names = [f"column_{i + 1}" for i in range(len(used))]
    if has_header:
        names = _names([first[i] for i in used], used, cells)
    arrays = [columns.column(i) for i in used]
    written = Format(
        "excel",
        has_header=has_header,
        n_lines_skipped=len(above) - len(head) or None,
        sheet=sheet.name,
    )
    return pa.Table.from_arrays(arrays, names), written


def _filled_rows(cells: CalamineSheet) -> Iterator[list[Any]]:
    """Yield the rows that have a value."""
    # Durations may be longer than Python's.
    with _rejecting_damage():
        for row in cells.iter_rows():
            if row.count("") < len(row):
                yield row


def _missing(reading: ReadingOptions) -> frozenset[str]:
    given = reading.missing_texts()
    texts = NULL_MARKERS if given is None else given
    return frozenset(("", *texts, *_FAILED))


def _without_titles(rows: list[list[Any]]) -> list[list[Any]]:
    """Return the first rows without lines above the header.

    Such a line has a single value, above a header of at least three names.
    """
    n_values = [len(row) - row.count("") for row in rows]
    n_titles = next((i for i, n_filled in enumerate(n_values) if n_filled > 1), 0)
    header = rows[n_titles] if rows else []
    is_header = n_values[n_titles:] and set(map(type, header)) == {str}
    if is_header and n_values[n_titles] >= _TITLED_COLUMNS:
        return rows[n_titles:]
    return rows


def _is_data(rows: Sequence[Sequence[Any]], missing: frozenset[str]) -> bool:
    text = [[_text(value) for value in row] for row in rows]
    return csv_header.is_data(text, ".", missing)


def _names(header: list[str], used: Sequence[int], cells: CalamineSheet) -> list[str]:
    """Return the names of columns; the first may lack one, as that of pandas' index does."""
    first_column = cells.start[1] if cells.start else 0
    merged = [
        range(start[1], end[1] + 1)
        for start, end in cells.merged_cell_ranges or ()
        if end[1] > start[1]
    ]
    problems = []
    for i, (name, position) in enumerate(zip(header, used, strict=True)):
        if name or (i == 0 and len(header) > 1):
            continue
        place = first_column + position
        letters = column_letters(place + 1)
        is_merged = any(place in columns for columns in merged)
        why = ": its cell is merged with another" if is_merged else ""
        problems.append(
            f"The column at position {i + 1} of {len(header)} ({letters}) has no name{why}."
        )
    reject(problems, _NAME_COLUMNS)
    return [header[0] or "Unnamed: 0", *header[1:]]


def _array(values: Sequence[Any], missing: frozenset[str]) -> pa.Array:
    """Return cells as an array of the type that all have, as text if they differ."""
    kinds = set(map(type, values))
    if str in kinds:
        values = [None if value in missing else value for value in values]
        kinds = set(map(type, values)) - {type(None)}
    found = {_KINDS[kind] for kind in kinds}
    if not found:
        return pa.nulls(len(values))
    if len(found) > 1:
        return _as_text(values)
    (only,) = found
    convert = _CONVERTED.get(only)
    return pa.array(map(convert, values) if convert else values, only)


def _joined(parts: Sequence[pa.Array]) -> pa.ChunkedArray:
    found = {part.type for part in parts} - {pa.null()}
    if len(found) > 1:
        return pa.chunked_array([_as_text(part.to_pylist()) for part in parts])
    (only,) = found or {pa.null()}
    typed = [part if part.type == only else pa.nulls(len(part), only) for part in parts]
    column = pa.chunked_array(typed, only)
    return _whole(column) if only == pa.float64() else column


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return numbers as integers if all are whole."""
    numbers = column.to_numpy()
    is_missing = np.isnan(numbers)
    is_whole = (numbers == np.floor(numbers)) & (np.abs(numbers) < _MAX_WHOLE)
    if not (is_whole | is_missing).all():
        return column
    integers = np.where(is_missing, 0, numbers).astype(np.int64)
    return pa.chunked_array([pa.array(integers, mask=is_missing)])


def _as_text(values: Iterable[Any]) -> pa.Array:
    texts = [None if value is None else _text(value) for value in values]
    return pa.array(texts, pa.string())


def _text(value: Any) -> str:
    """Return a cell as CSV would contain it."""
    return _WRITERS[type(value)](value)


def _text_of_number(value: float) -> str:
    is_whole = value == int(value) if abs(value) < _MAX_WHOLE else False
    return str(int(value)) if is_whole else repr(value)


def _text_of_date(value: date) -> str:
    return value.isoformat()


def _text_of_time(value: datetime) -> str:
    is_midnight = value.time() == time()
    return value.date().isoformat() if is_midnight else value.isoformat(" ")


def _text_of_duration(value: time | timedelta) -> str:
    seconds = _duration(value).total_seconds()
    minutes, rest = divmod(abs(seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    sign = "-" if seconds < 0 else ""
    return f"{sign}{hours}:{minutes:02}:{_padded(rest)}"


def _padded(seconds: float) -> str:
    return f"{seconds:09.6f}".rstrip("0").rstrip(".")


def _timestamp(value: date | None) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - Excel has no zones


def _duration(value: Any) -> Any:
    if not isinstance(value, time):
        return value
    return timedelta(
        hours=value.hour,
        minutes=value.minute,
        seconds=value.second,
        microseconds=value.microsecond,
    )


_CONVERTED: dict[pa.DataType, Callable[[Any], Any]] = {
    pa.timestamp("us"): _timestamp,
    pa.duration("us"): _duration,
}
_WRITERS: dict[type, Callable[[Any], str]] = {
    str: str,
    bool: lambda value: str(value).lower(),
    int: str,
    float: _text_of_number,
    date: _text_of_date,
    datetime: _text_of_time,
    time: _text_of_duration,
    timedelta: _text_of_duration,
}
