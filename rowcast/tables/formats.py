"""What a file is, and its rows in batches of Arrow.

A file is what its content says, whatever its name. The server looks at the footer or the first
megabyte (`peek`), the job reads all of it (`open_file`); both refuse with the same sentences.
Messages of Arrow and of other parsers quote cells, so none of them is passed on.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from rowcast.errors import InvalidTable
from rowcast.tables import (
    arrow,
    csv_dialect,
    csv_rows,
    file_types,
    json_lines,
    parquet,
    text,
)
from rowcast.tables.csv_dialect import Dialect
from rowcast.tables.limits import (
    BATCH_BYTES,
    Limits,
    decoded_bytes,
    halved,
    row_bytes,
    text_bytes,
)
from rowcast.tables.text import Compression

__all__ = ["Format", "Limits", "Sample", "Source", "of_records", "open_file", "peek"]

Read = Callable[[int, int], bytes]
# Yields the columns at these positions, at most so many rows at a time.
Batches = Callable[[Sequence[int], int], Iterator[pa.RecordBatch]]
# Gives a text from its start, as UTF-8.
Chunks = Callable[[], Iterator[bytes]]
# Is told how many rows are done, how many there are, if the file says so, and how many to expect if
# not.
OnProgress = Callable[[int, int | None, int | None], None]

# What is not larger is read by one request, not by one for each part of it.
_SMALL_BYTES = 262_144
_NO_ROWS = "Upload a table with at least one row; the first row of a CSV file names the columns."


def ignore_progress(done: int, total: int | None, expected: int | None) -> None:
    """Tell nobody how many rows are done."""


@dataclass(frozen=True)
class Format:
    """How a table is written."""

    name: Literal["parquet", "arrow", "csv", "jsonl"]
    compression: Compression | None = None
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    has_header: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a manifest holds."""
        return {
            name: value for name, value in asdict(self).items() if value is not None
        }


@dataclass(frozen=True)
class Sample:
    """What the footer or the first megabyte shows.

    `n_rows` is what the footer of a Parquet file says. `rows` are those of the first megabyte of a
    text, and `n_bytes` is how much of the file holds them.
    """

    format: Format
    schema: pa.Schema
    rows: pa.Table | None = None
    n_rows: int | None = None
    n_bytes: int = 0

    def n_rows_expected(self, size: int) -> int:
        """Return how many rows a file of `size` bytes holds; an estimate where its footer does not
        say."""
        if self.n_rows is not None:
            return self.n_rows
        if self.rows is not None and self.n_bytes:
            return max(1, int(self.rows.num_rows) * size // self.n_bytes)
        return max(1, size // max(1, row_bytes(self.schema)))


@dataclass(frozen=True)
class Source:
    """A file whose rows can be read any number of times.

    `n_rows` is None for CSV, which does not say; `n_rows_expected` is then an estimate.
    """

    format: Format
    schema: pa.Schema
    rows: pa.Table | None
    n_rows: int | None
    limits: Limits = field(repr=False)
    _batches: Batches = field(repr=False)
    n_rows_expected: int | None = None

    def batches(
        self, columns: Collection[str] | None = None, max_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows of these columns, in the file's order and in the schema's types.

        Raises:
            InvalidTable: the file is damaged, or over a limit.
        """
        wanted = self._wanted(columns)
        n_rows = n_bytes = 0
        for batch in self._batches(wanted, max_rows) if wanted else ():
            for part in halved(batch, max_rows, BATCH_BYTES):
                self.limits.check_cells(part, n_rows)
                n_rows += part.num_rows
                n_bytes += text_bytes(part)
                self.limits.check_rows(n_rows, len(self.schema), is_all=False)
                # A dictionary of a few values may stand for any amount of text.
                self.limits.check_unpacked(n_bytes)
                if part.num_rows:
                    yield part

    def read(
        self,
        columns: Collection[str] | None = None,
        on_progress: OnProgress = ignore_progress,
    ) -> pa.Table:
        """Return all rows of these columns. `told` is called after each batch.

        Raises:
            InvalidTable: as `batches`; or the table is too large for memory.
        """
        schema = pa.schema(
            [self.schema.field(i) for i in self._wanted(columns)], self.schema.metadata
        )
        self.limits.check_table((self.n_rows or 0) * row_bytes(schema))
        found, n_bytes, n_rows = [], 0, 0
        for batch in self.batches(columns):
            n_bytes += decoded_bytes(batch)
            self.limits.check_table(n_bytes)
            found.append(batch.replace_schema_metadata(self.schema.metadata))
            n_rows += batch.num_rows
            on_progress(n_rows, self.n_rows, self.n_rows_expected)
        return pa.Table.from_batches(found, schema=schema)

    def _wanted(self, columns: Collection[str] | None) -> list[int]:
        return [
            i
            for i, name in enumerate(self.schema.names)
            if columns is None or name in columns
        ]


def peek(size: int, read: Read, limits: Limits) -> Sample:
    """Return what an object of `size` bytes is, of which `read(offset, length)` returns a part.

    Raises:
        InvalidTable: it is no table, or the part that is read shows what is wrong with it.
    """
    if size <= _SMALL_BYTES:
        read = _read_in_one(size, read)
    head = read(0, min(size, file_types.HEAD_BYTES))
    kind = file_types.kind_of(head)
    if kind == "parquet":
        schema, n_rows = parquet.peek_parquet(size, read, limits)
        return Sample(Format("parquet"), arrow.plain_schema(schema), n_rows=n_rows)
    if kind in _PEEK_ARROW:
        return Sample(
            Format("arrow"), arrow.plain_schema(_PEEK_ARROW[kind](size, read, limits))
        )
    start = head if size <= len(head) else read(0, min(size, text.SAMPLE_BYTES))
    is_whole = size <= len(start)
    compression, file = _COMPRESSION.get(kind), text.Sips(io.BytesIO(start))
    n_bytes = len(start)
    if compression and is_whole:
        start, is_whole = text.first_bytes(file, compression)
    elif compression:
        start = text.first_bytes_of_part(file, compression)
    if compression:
        _refuse_packed(start)
        n_bytes = file.n_bytes
    sample = text.sample_of(start, is_whole=is_whole)
    found = _text(sample, Format("csv", compression, sample.encoding), limits)
    return Sample(found.format, found.schema, found.rows, n_bytes=n_bytes)


def _read_in_one(size: int, read: Read) -> Read:
    content = read(0, size)
    return lambda offset, length: content[offset : offset + length]


_PEEK_ARROW: dict[str, Callable[[int, Read, Limits], pa.Schema]] = {
    "arrow file": arrow.peek_arrow_file,
    "arrow stream": arrow.peek_arrow_stream,
}
_COMPRESSION: dict[str, Compression] = {"gzip": "gzip", "zstd": "zstd"}


def open_file(path: Path, limits: Limits) -> Source:
    """Return a file as a source of rows. A text is read once to find out how it is written.

    Raises:
        InvalidTable: it is no table, damaged, or over a limit as far as its rows need not be read
            for that.
    """
    with path.open("rb") as file:
        kind = file_types.kind_of(file.read(file_types.HEAD_BYTES))
    if kind == "parquet":
        return _parquet_source(path, limits)
    if kind in ("arrow file", "arrow stream"):
        return _arrow_source(path, limits, is_file=kind == "arrow file")
    return _text_source(path, _COMPRESSION.get(kind), limits)


def of_records(content: bytes, limits: Limits) -> Source:
    """Return a JSON array of objects as a source of rows, with the types of the same rows as JSON
    Lines.

    Raises:
        InvalidTable: it is none, columns mix types, or it is over a limit.
    """
    groups = [json_lines.records(content)]
    scan = json_lines.scan_rows(groups, limits)
    schema = scan.schema()

    def batches(wanted: Sequence[int], max_rows: int) -> Iterator[pa.RecordBatch]:
        del max_rows
        return json_lines.batches_of_rows(lambda: groups, schema, wanted)

    return Source(
        Format("jsonl"), schema, None, scan.n_rows, limits, batches, scan.n_rows
    )


def _parquet_source(path: Path, limits: Limits) -> Source:
    found, n_rows = parquet.open_parquet(path, limits)
    schema = arrow.plain_schema(found)

    def batches(wanted: Sequence[int], max_rows: int) -> Iterator[pa.RecordBatch]:
        names = [schema.names[i] for i in wanted]
        return arrow.without_views(
            parquet.parquet_batches(path, names, max_rows), max_rows
        )

    return Source(Format("parquet"), schema, None, n_rows, limits, batches, n_rows)


def _arrow_source(path: Path, limits: Limits, *, is_file: bool) -> Source:
    found, n_rows = arrow.open_arrow(path, limits, is_file=is_file)

    def batches(wanted: Sequence[int], max_rows: int) -> Iterator[pa.RecordBatch]:
        return arrow.without_views(
            arrow.arrow_batches(path, wanted, is_file=is_file), max_rows
        )

    return Source(
        Format("arrow"),
        arrow.plain_schema(found),
        None,
        n_rows,
        limits,
        batches,
        n_rows,
    )


def _text_source(path: Path, compression: Compression | None, limits: Limits) -> Source:
    with path.open("rb") as file:
        sips = text.Sips(file)
        start, is_whole = text.first_bytes(sips, compression)
    if compression:
        _refuse_packed(start)
    encoding = text.encoding_of(path, compression, limits)
    chunks = partial(text.utf8_chunks, path, compression, encoding, limits)
    sample = text.sample_of(start, is_whole=is_whole, encoding=encoding)
    found = _text(sample, Format("csv", compression, encoding), limits, chunks)

    def batches(wanted: Sequence[int], max_rows: int) -> Iterator[pa.RecordBatch]:
        # Both make small batches of their own.
        del max_rows
        if found.dialect is None:
            return json_lines.batches(chunks, found.schema, wanted, limits)
        return csv_rows.batches(chunks, found.dialect, wanted, limits)

    beginning = Sample(
        found.format, found.schema, found.rows, found.n_rows, sips.n_bytes
    )
    n_rows_expected = beginning.n_rows_expected(path.stat().st_size)
    return Source(
        found.format,
        found.schema,
        found.rows,
        found.n_rows,
        limits,
        batches,
        n_rows_expected,
    )


@dataclass(frozen=True)
class _Text:
    """What is known of a text: the dialect if it is CSV, the number of rows if it is JSON Lines."""

    format: Format
    schema: pa.Schema
    rows: pa.Table | None
    dialect: Dialect | None = None
    n_rows: int | None = None


def _refuse_packed(start: bytes) -> None:
    if not start:
        raise InvalidTable("The table is an empty file, packed.")
    file_types.refuse_text(start)


def _text(
    sample: text.Sample, how: Format, limits: Limits, whole: Chunks | None = None
) -> _Text:
    """Return what a text is that begins with this sample; `whole` gives all of it, where it is
    there."""
    if not sample.text.strip():
        raise InvalidTable("The file holds no rows, only blanks.", hint=_NO_ROWS)
    head = sample.text[: file_types.HEAD_BYTES].encode()
    file_types.refuse_text(head)
    read = _json_text if file_types.kind_of_text(head) == "jsonl" else _csv_text
    return read(sample.text, sample.is_whole, how, limits, whole)


def _csv_text(
    text: str, is_whole: bool, how: Format, limits: Limits, whole: Chunks | None
) -> _Text:
    delimiter = csv_dialect.delimiter_of(text)
    part = text if is_whole else csv_dialect.complete_part(text, delimiter)
    if not part.strip():
        limits.check_columns(csv_dialect.first_fields(text), is_all=False)
        raise InvalidTable(
            "The first row is longer than 1 MiB.",
            hint="A quote in it may not be closed.",
        )
    limits.check_columns(len(csv_dialect.records(part, delimiter, 1)[0]))
    dialect = csv_dialect.dialect_of(part)
    rows = _csv_rows(part, dialect, limits, is_strict=whole is None)
    if rows is None:
        raise _no_rows(text, is_whole, dialect)
    found = replace(
        how,
        delimiter=dialect.delimiter,
        decimal=dialect.decimal,
        has_header=dialect.has_header,
    )
    return _Text(found, rows.schema, rows, dialect)


def _csv_rows(
    part: str, dialect: Dialect, limits: Limits, *, is_strict: bool
) -> pa.Table | None:
    """Return the rows of a sample; when not strict, without the bad ones, which the whole is
    refused for."""
    every = range(len(dialect.names))
    content = [part.encode()]
    found = csv_rows.batches(
        lambda: iter(content), dialect, every, limits, is_strict=is_strict
    )
    rows = _table(found, limits)
    return (
        rows
        if rows is not None or is_strict
        else _csv_rows(part, dialect, limits, is_strict=True)
    )


def _no_rows(text: str, is_whole: bool, dialect: Dialect) -> InvalidTable:
    """Return the refusal of a text that has a header and no complete row."""
    if csv_dialect.is_quote_open(text, dialect.delimiter) and is_whole:
        return csv_rows.open_quote()
    if is_whole:
        return InvalidTable("The file holds a header and no rows.", hint=_NO_ROWS)
    longest = csv_dialect.longest_field(text, dialect)
    detail = (
        f"Row 0 is longer than 1 MiB; its longest cell is in the column {longest!r}."
    )
    return InvalidTable(
        detail,
        hint="Shorten or leave out such cells; a quote that is not closed makes one, too.",
    )


def _json_text(
    text: str, is_whole: bool, how: Format, limits: Limits, whole: Chunks | None
) -> _Text:
    part = text if is_whole else text[: max(text.rfind("\n"), text.rfind("\r")) + 1]
    if not part.strip():
        limits.check_columns(json_lines.n_members(text.encode()), is_all=False)
        hint = "Write one object a line, each under 1 MiB."
        raise InvalidTable("The first row is longer than 1 MiB.", hint=hint)
    content = [part.encode()]
    scan = json_lines.scan(whole() if whole else content, limits)
    schema = scan.schema()
    flat = [i for i, column in enumerate(schema) if not pa.types.is_nested(column.type)]
    rows = _table(json_lines.batches(lambda: content, schema, flat, limits), limits)
    return _Text(replace(how, name="jsonl"), schema, rows, n_rows=scan.n_rows)


def _table(found: Iterator[pa.RecordBatch], limits: Limits) -> pa.Table | None:
    """Return the rows of a sample, None if there are none."""
    batches, n_rows = [], 0
    for batch in found:
        limits.check_cells(batch, n_rows)
        n_rows += batch.num_rows
        batches.append(batch)
    return pa.Table.from_batches(batches) if n_rows else None
