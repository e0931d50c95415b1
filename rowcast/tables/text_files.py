"""CSV and JSON Lines files, plain or compressed: what their beginnings show, and all rows."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from rowcast.errors import InvalidTable
from rowcast.tables import csv_dialect, csv_rows, file_types, json_lines, text
from rowcast.tables.csv_dialect import Dialect, Layout
from rowcast.tables.csv_rows import Chunks
from rowcast.tables.files import Compression, Format, Read, Sample, Source
from rowcast.tables.limits import SAMPLE_CELLS, Limits
from rowcast.tables.reading import ReadingOptions
from rowcast.tables.text import TextSample

_NO_ROWS = "Upload a table with at least one row; the first row of a CSV file names the columns."


def peek(
    size: int,
    read: Read,
    limits: Limits,
    reading: ReadingOptions,
    compression: Compression | None = None,
) -> Sample:
    """Return what the first megabyte of a text file of `size` bytes shows.

    Raises:
        InvalidTable: that part is not a table, or over a limit.
        InvalidRequest: an option of reading does not apply.
    """
    start = read(0, min(size, text.SAMPLE_BYTES))
    n_bytes = len(start)
    is_whole = size <= n_bytes
    if compression:
        file = text.CountingFile(io.BytesIO(start))
        if is_whole:
            start, is_whole = text.first_bytes(file, compression)
        else:
            start = text.first_bytes_of_part(file, compression)
        n_bytes = file.n_bytes
        _check_decompressed(start)

    sample = text.sample_of(start, is_whole=is_whole, encoding=reading.encoding)
    written = Format("csv", compression, sample.encoding)
    found = _read_sample(sample, written, limits, reading)
    return found.sample(n_bytes)


def open_file(
    path: Path,
    limits: Limits,
    reading: ReadingOptions,
    compression: Compression | None = None,
) -> Source:
    """Return a text file as a source of rows, after reading it once to find how it is written.

    Raises:
        InvalidTable: the file is not a table, damaged, or over a limit.
        InvalidRequest: an option of reading does not apply.
    """
    with path.open("rb") as file:
        counted = text.CountingFile(file)
        start, is_whole = text.first_bytes(counted, compression)
    if compression:
        _check_decompressed(start)
    encoding = text.encoding_of(path, compression, limits, reading.encoding)
    chunks = partial(text.utf8_chunks, path, compression, encoding, limits)
    sample = text.sample_of(start, is_whole=is_whole, encoding=encoding)
    written = Format("csv", compression, encoding)
    found = _read_sample(sample, written, limits, reading, chunks)

    def batches(wanted: Sequence[int], max_rows: int) -> Iterator[pa.RecordBatch]:
        if found.dialect is None:
            return json_lines.batches(chunks, found.schema, wanted, limits, max_rows)
        # The reader yields small batches of its own.
        return csv_rows.batches(chunks, found.dialect, wanted, limits)

    n_rows = found.n_rows if found.dialect is None else None
    shown = found.sample(counted.n_bytes)
    n_rows_expected = n_rows or shown.n_rows_expected(path.stat().st_size)
    return Source(found.format, found.schema, n_rows, limits, batches, n_rows_expected)


@dataclass(frozen=True)
class _Text:
    """What is known of a text: some of its first rows, and its dialect if it is CSV.

    `n_rows` counts those of the text that was read: the beginning, or all of JSON Lines.
    """

    format: Format
    schema: pa.Schema
    rows: pa.Table | None
    n_rows: int
    dialect: Dialect | None = None

    def sample(self, n_bytes: int) -> Sample:
        """Return what `n_bytes` of the file show."""
        return Sample(
            self.format,
            self.schema,
            self.rows,
            n_bytes=n_bytes,
            n_rows_seen=self.n_rows,
        )


def _check_decompressed(start: bytes) -> None:
    if not start:
        raise InvalidTable("The table is an empty file, compressed.")
    file_types.check_text(start)


def _read_sample(
    sample: TextSample,
    written: Format,
    limits: Limits,
    reading: ReadingOptions,
    whole: Chunks | None = None,
) -> _Text:
    """Return what a text is that begins with this sample; `whole` yields all of it, if given."""
    if not sample.text.strip():
        raise InvalidTable("The file holds only blanks, no rows.", hint=_NO_ROWS)
    head = sample.text[: file_types.HEAD_BYTES].encode()
    file_types.check_text(head)
    kind = file_types.kind_of_text(head)
    reading.check(kind)
    if kind == "jsonl":
        return _read_json_lines(sample, written, limits, whole)
    return _read_csv(
        sample, written, limits, reading, is_whole_checked=whole is not None
    )


def _read_csv(
    sample: TextSample,
    written: Format,
    limits: Limits,
    reading: ReadingOptions,
    *,
    is_whole_checked: bool,
) -> _Text:
    layout = csv_dialect.layout_of(sample.text, reading)
    sample = replace(sample, text=layout.table_in(sample.text))
    delimiter = layout.delimiter
    part = sample.text
    if not sample.is_whole:
        part = csv_dialect.complete_part(part, delimiter)
    if not part.strip():
        n_fields = csv_dialect.n_fields_at_least(sample.text)
        limits.check_columns(n_fields, is_all=False)
        raise InvalidTable(
            "The first row is longer than 1 MiB.",
            hint="A quote in it may not be closed.",
        )
    (header,) = csv_dialect.records(part, delimiter, 1)
    limits.check_columns(len(header))

    dialect = csv_dialect.dialect_of(part, layout, reading)
    limits.check_columns(dialect.n_fields)
    rows = _csv_rows(part, dialect, limits, is_strict=not is_whole_checked)
    if rows is None and is_whole_checked:
        # No row of the sample is good: reject the bad ones, if there are any.
        rows = _csv_rows(part, dialect, limits, is_strict=True)
    if rows is None:
        raise _no_rows(sample, dialect)
    csv = replace(
        written,
        delimiter=layout.shown_delimiter,
        decimal=dialect.decimal,
        has_header=dialect.has_header,
        n_lines_skipped=dialect.n_lines_skipped or None,
    )
    return _Text(csv, rows.schema, rows, rows.num_rows, dialect)


def _csv_rows(
    part: str, dialect: Dialect, limits: Limits, *, is_strict: bool
) -> pa.Table | None:
    """Return the rows of a sample; when not strict, without the bad ones."""
    content = [part.encode()]
    dialect = replace(dialect, layout=Layout(dialect.delimiter))
    positions = range(len(dialect.names))
    batches = csv_rows.batches(
        lambda: iter(content), dialect, positions, limits, is_strict=is_strict
    )
    return _table(batches, limits)


def _no_rows(sample: TextSample, dialect: Dialect) -> InvalidTable:
    """Return the error for a text with a header and no complete row."""
    if sample.is_whole:
        if csv_dialect.is_quote_open(sample.text, dialect.delimiter):
            return csv_rows.open_quote()
        return InvalidTable("The file holds a header and no rows.", hint=_NO_ROWS)
    longest = csv_dialect.longest_field(sample.text, dialect)
    return InvalidTable(
        f"Row 0 is longer than 1 MiB; its longest cell is in the column {longest!r}.",
        hint="Shorten such cells or leave them out. A quote that is not closed also makes one.",
    )


def _read_json_lines(
    sample: TextSample, written: Format, limits: Limits, whole: Chunks | None
) -> _Text:
    part = sample.text
    if not sample.is_whole:
        end = max(part.rfind("\n"), part.rfind("\r")) + 1
        part = part[:end]
    if not part.strip():
        n_members = json_lines.n_members(sample.text.encode())
        limits.check_columns(n_members, is_all=False)
        raise InvalidTable(
            "The first row is longer than 1 MiB.",
            hint="Write one object per line, each under 1 MiB.",
        )
    content = [part.encode()]
    scan = json_lines.scan(whole() if whole else content, limits)
    schema = scan.schema()
    types = schema.types
    flat = [i for i, found in enumerate(types) if not pa.types.is_nested(found)]
    n_shown = max(1, SAMPLE_CELLS // max(1, len(flat)))
    batches = json_lines.batches(lambda: content, schema, flat, limits, n_shown)
    rows = _table(batches, limits, n_shown)
    json = replace(written, name="jsonl")
    return _Text(json, schema, rows, scan.n_rows)


def _table(
    batches: Iterator[pa.RecordBatch], limits: Limits, max_rows: int = sys.maxsize
) -> pa.Table | None:
    """Return the first rows of a sample, None if there are none."""
    found = []
    n_rows = 0
    for batch in batches:
        limits.check_cells(batch, n_rows)
        n_rows += batch.num_rows
        found.append(batch)
        if n_rows >= max_rows:
            break
    return pa.Table.from_batches(found).slice(0, max_rows) if n_rows else None
