"""The rows of a CSV file in batches of text."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from rowcast.errors import InvalidTable
from rowcast.tables.csv_dialect import NULL_MARKERS, Dialect
from rowcast.tables.limits import Limits, over
from rowcast.tables.text import ChunkFile

_MAX_PROBLEMS = 100
_ROWS_HINT = (
    'Give each row one field for each column, with " around fields that hold the delimiter; '
    "upload the table again."
)


def batches(
    chunks: Callable[[], Iterator[bytes]],
    dialect: Dialect,
    wanted: Sequence[int],
    limits: Limits,
    *,
    is_strict: bool = True,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a text, of the columns at these positions, all as strings.

    `chunks()` gives the text from its start, as UTF-8. Rows of a wrong length end the batches; the
    others are counted before they are refused together. When not strict, they are left out.

    Raises:
        InvalidTable: rows have too few or too many fields, a row is too long, or a quote is not
            closed.
    """
    reading = _Reading(dialect, limits)
    schema = pa.schema([(dialect.names[i], pa.string()) for i in wanted])
    try:
        for batch in _without_end(
            _arrow_batches(chunks, dialect, wanted, reading), reading
        ):
            if not (reading.n_bad and is_strict):
                reading.n_rows += batch.num_rows
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
    except (pa.ArrowException, UnicodeDecodeError):
        # Arrow's message quotes the text, and does not say where it is.
        raise _long_row(chunks, dialect, limits) from None
    if is_strict:
        reading.refuse()


@dataclass
class _Reading:
    """What was met so far; `end` is a row that is appended, and missing when a quote swallows
    it."""

    dialect: Dialect
    limits: Limits
    end: str = field(default_factory=lambda: secrets.token_hex(16))
    n_rows: int = 0
    n_bad: int = 0
    n_empty: int = 0
    problems: list[str] = field(default_factory=list)
    is_closed: bool = False

    def bad_row(self, row: Any) -> str:
        """Note a row that has the wrong number of fields; Arrow then leaves it out."""
        if self.end in row.text:
            return "skip"
        # A line of blanks alone is as empty as an empty one.
        if not row.text.strip(" \r\n"):
            self.n_empty += 1
            return "skip"
        self.n_bad += 1
        if len(self.problems) < _MAX_PROBLEMS:
            # Arrow counts rows from 1.
            self.problems.append(
                _wrong_length(
                    row.number - 1 - self.n_empty,
                    row.actual_columns,
                    row.expected_columns,
                )
            )
        return "skip"

    def refuse(self) -> None:
        """Refuse the table if its end was swallowed, or rows were bad."""
        if not self.is_closed:
            raise open_quote()
        if self.n_bad:
            count = f" ({self.n_bad:,} such rows)" if self.n_bad > 1 else ""
            raise InvalidTable(
                self.problems[0] + count, hint=_ROWS_HINT, errors=self.problems
            )


def open_quote() -> InvalidTable:
    """Return the refusal of a text that ends within quotes."""
    return InvalidTable(
        'A field begins with a quote (") that is not closed before the end of the file.',
        hint='Close the quote, or write a quote within a field as ""; upload the table again.',
    )


def _wrong_length(row: int, found: int, expected: int) -> str:
    return (
        f"Row {row} has {found:,} field{'s' if found != 1 else ''} where the table has "
        f"{expected:,} columns."
    )


def _arrow_batches(
    chunks: Callable[[], Iterator[bytes]],
    dialect: Dialect,
    wanted: Sequence[int],
    reading: _Reading,
) -> Iterator[pa.RecordBatch]:
    from pyarrow import csv as arrow_csv

    # Arrow keeps columns apart by name, and names may appear twice.
    names = [str(i) for i in range(len(dialect.names))]
    end = "\n" + dialect.delimiter.join([reading.end] * len(names)) + "\n"

    def with_end() -> Iterator[bytes]:
        yield from _body(chunks(), dialect)
        yield end.encode()

    return iter(
        arrow_csv.open_csv(
            pa.PythonFile(ChunkFile(with_end()), mode="r"),
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=reading.limits.max_row_bytes,
                column_names=names,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=dialect.delimiter,
                newlines_in_values=True,
                invalid_row_handler=reading.bad_row,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[names[i] for i in wanted],
                null_values=NULL_MARKERS,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    )


def _body(chunks: Iterator[bytes], dialect: Dialect) -> Iterator[bytes]:
    """Yield a text without its header."""
    n_left = dialect.header_bytes
    for chunk in chunks:
        if n_left < len(chunk):
            yield chunk[n_left:]
        n_left = max(0, n_left - len(chunk))


def _without_end(
    found: Iterator[pa.RecordBatch], reading: _Reading
) -> Iterator[pa.RecordBatch]:
    """Yield batches without the row that was appended, and note whether it was there."""
    held = None
    for batch in found:
        if batch.num_rows:
            if held is not None:
                yield held
            held = batch
    if held is None:
        return
    reading.is_closed = held.column(0)[-1].as_py() == reading.end
    yield held.slice(0, held.num_rows - 1) if reading.is_closed else held


class _TooLong(Exception):
    """A row is longer than may be."""


def _long_row(
    chunks: Callable[[], Iterator[bytes]], dialect: Dialect, limits: Limits
) -> InvalidTable:
    """Return the refusal of the first row that is too long, for which the text is read once
    more."""
    lines: list[str] = []

    def feed() -> Iterator[str]:
        # A character a byte: where rows and fields end does not depend on the encoding.
        file = io.TextIOWrapper(
            io.BufferedReader(_Raw(_body(chunks(), dialect))), "latin-1", newline=""
        )
        n_chars = 0
        while line := file.readline(limits.max_row_bytes):
            n_chars = len(line) + (n_chars if lines else 0)
            lines.append(line)
            if n_chars >= limits.max_row_bytes:
                raise _TooLong
            yield line

    row = 0
    fields: list[str] = []
    try:
        for record in csv.reader(feed(), delimiter=dialect.delimiter):
            row += bool(record)
            lines.clear()
    except _TooLong:
        fields = next(csv.reader(["".join(lines)], delimiter=dialect.delimiter))
    except csv.Error:
        pass
    if fields:
        return _too_long(fields, row, dialect, limits)
    return InvalidTable(
        "The CSV text cannot be read.",
        hint="Save the table again, as CSV or as Parquet, and upload it.",
    )


def _too_long(
    fields: Sequence[str], row: int, dialect: Dialect, limits: Limits
) -> InvalidTable:
    longest = max(range(len(fields)), key=lambda i: len(fields[i]))
    if len(fields[longest]) <= limits.max_cell_bytes or longest >= len(dialect.names):
        return over(f"Row {row} is too long", limits.max_row_bytes, "MAX_CELL_BYTES")
    refusal = limits.long_cell(dialect.names[longest], row)
    refusal.hint = f'A quote (") at its start may not be closed. {refusal.hint}'
    return refusal


class _Raw(io.RawIOBase):
    """Chunks as a raw file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._file = ChunkFile(chunks)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
