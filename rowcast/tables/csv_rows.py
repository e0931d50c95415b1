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
from rowcast.tables.csv_dialect import Dialect
from rowcast.tables.limits import Limits, over
from rowcast.tables.rejections import MAX_LISTED
from rowcast.tables.text import ChunkFile

# Yields a text from its start, as UTF-8.
Chunks = Callable[[], Iterator[bytes]]

_ROWS_HINT = (
    'Give each row one field per column, with " around fields that contain the delimiter; '
    "upload the table again."
)

# Each of these costs ten microseconds, where a good row costs one.
_MAX_BAD_ROWS = 10_000
_MAX_BLANK_LINES = 100_000


def batches(
    chunks: Chunks,
    dialect: Dialect,
    wanted: Sequence[int],
    limits: Limits,
    *,
    is_strict: bool = True,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the columns at these positions, all as strings.

    Rows with a wrong number of fields end the batches; the rest of the text is read to count them,
    up to 10,000.
    When not strict, such rows are left out.

    Raises:
        InvalidTable: rows have too few or too many fields, a row is too long, a quote is not
            closed, or a column without a name has a value.
    """
    reading = _Reading(dialect, limits)
    schema = pa.schema([(dialect.names[i], pa.string()) for i in wanted])
    try:
        found = _arrow_batches(chunks, dialect, wanted, reading)
        for batch in _without_end(found, reading):
            if reading.n_bad and is_strict:
                continue
            _check_unnamed(batch.columns[len(wanted) :], dialect, reading.n_rows)
            reading.n_rows += batch.num_rows
            columns = batch.columns[: len(wanted)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except (pa.ArrowException, UnicodeDecodeError):
        reading.check_counts()
        # Arrow's message quotes the text and does not say where it is.
        raise _long_row(chunks, dialect, limits) from None
    if is_strict:
        reading.check()


@dataclass
class _Reading:
    """What was found so far.

    `end` is a row appended to the text; it is missing from the rows when an open quote swallows it.
    """

    dialect: Dialect
    limits: Limits
    end: str = field(default_factory=lambda: secrets.token_hex(16))
    n_rows: int = 0
    n_bad: int = 0
    n_empty: int = 0
    problems: list[str] = field(default_factory=list)
    is_closed: bool = False

    def skip_bad_row(self, row: Any) -> str:
        """Note a row that has the wrong number of fields; Arrow skips it, or ends with an error."""
        if self.end in row.text:
            return "skip"
        # A line of blanks counts as empty.
        if not row.text.strip(" \r\n"):
            self.n_empty += 1
            return "error" if self.n_empty > _MAX_BLANK_LINES else "skip"
        self.n_bad += 1
        if len(self.problems) < MAX_LISTED:
            # Arrow counts rows from 1.
            number = row.number - 1 - self.n_empty
            found, expected = row.actual_columns, row.expected_columns
            self.problems.append(_wrong_length(number, found, expected))
        return "error" if self.n_bad > _MAX_BAD_ROWS else "skip"

    def check_counts(self) -> None:
        """Reject the table if it has more bad rows or lines of blanks than are counted."""
        if self.n_bad > _MAX_BAD_ROWS:
            detail = f"{self.problems[0]} (over {_MAX_BAD_ROWS:,} such rows)"
            raise InvalidTable(detail, hint=_ROWS_HINT, errors=self.problems)
        if self.n_empty > _MAX_BLANK_LINES:
            raise InvalidTable(
                f"The table has over {_MAX_BLANK_LINES:,} lines of blanks.",
                hint="Remove the lines without values, and upload the table again.",
            )

    def check(self) -> None:
        """Reject the table if its end was swallowed or rows were bad."""
        if not self.is_closed:
            raise open_quote()
        if self.n_bad:
            count = f" ({self.n_bad:,} such rows)" if self.n_bad > 1 else ""
            detail = self.problems[0] + count
            raise InvalidTable(detail, hint=_ROWS_HINT, errors=self.problems)


def open_quote() -> InvalidTable:
    """Return the error for a text that ends within quotes."""
    return InvalidTable(
        'A field begins with a quote (") that is not closed before the end of the file.',
        hint='Close the quote, or write a quote within a field as ""; upload the table again.',
    )


def _wrong_length(row: int, found: int, expected: int) -> str:
    fields = "field" if found == 1 else "fields"
    return f"Row {row} has {found:,} {fields}, but the table has {expected:,} columns."


def _arrow_batches(
    chunks: Chunks, dialect: Dialect, wanted: Sequence[int], reading: _Reading
) -> Iterator[pa.RecordBatch]:
    from pyarrow import csv as arrow_csv

    # Arrow tells columns apart by name, and names may appear twice.
    names = [str(i) for i in range(dialect.n_fields)]
    file = ChunkFile(_with_end(chunks, dialect, reading.end))
    reader = arrow_csv.open_csv(
        pa.PythonFile(file, mode="r"),
        read_options=arrow_csv.ReadOptions(
            use_threads=False,
            block_size=reading.limits.max_row_bytes,
            column_names=names,
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=dialect.delimiter,
            newlines_in_values=True,
            invalid_row_handler=reading.skip_bad_row,
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=[names[i] for i in (*wanted, *dialect.unnamed)],
            null_values=dialect.missing,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return iter(reader)


def _with_end(chunks: Chunks, dialect: Dialect, end: str) -> Iterator[bytes]:
    """Yield the body of a text and, after it, a row whose cells are all `end`."""
    yield from _body(chunks(), dialect)
    cells = [end] * dialect.n_fields
    yield f"\n{dialect.delimiter.join(cells)}\n".encode()


def _body(chunks: Iterator[bytes], dialect: Dialect) -> Iterator[bytes]:
    """Yield the cleaned text of a table without its header."""
    layout = dialect.layout
    table = layout.cleaning.chunks(_without_start(chunks, layout.n_bytes_above))
    return _without_start(table, dialect.header_bytes)


def _without_start(chunks: Iterator[bytes], n_bytes: int) -> Iterator[bytes]:
    n_left = n_bytes
    for chunk in chunks:
        if n_left < len(chunk):
            yield chunk[n_left:]
        n_left = max(0, n_left - len(chunk))


def _check_unnamed(columns: Sequence[Any], dialect: Dialect, first_row: int) -> None:
    """Reject values in the columns that have no name."""
    import pyarrow.compute as pc

    for place, column in zip(dialect.unnamed, columns, strict=True):
        text = pc.fill_null(pc.utf8_trim_whitespace(column), "")
        rows = pc.indices_nonzero(pc.not_equal(text, ""))
        if len(rows):
            raise InvalidTable(
                f"Row {first_row + rows[0].as_py()} has a value in column {place + 1}, which has "
                "no name.",
                hint="Name every column that has values, and upload the table again.",
            )


def _without_end(
    found: Iterator[pa.RecordBatch], reading: _Reading
) -> Iterator[pa.RecordBatch]:
    """Yield batches without the row that was appended, and note whether it was there."""
    held = None
    for batch in found:
        if not batch.num_rows:
            continue
        if held is not None:
            yield held
        held = batch
    if held is None:
        return
    reading.is_closed = held.column(0)[-1].as_py() == reading.end
    yield held.slice(0, held.num_rows - 1) if reading.is_closed else held


def _long_row(chunks: Chunks, dialect: Dialect, limits: Limits) -> InvalidTable:
    """Return the error for the first row that is too long, reading the text once more."""
    lines = _LimitedLines(_body(chunks(), dialect), limits.max_row_bytes)
    row = 0
    try:
        for record in csv.reader(lines, delimiter=dialect.delimiter):
            row += bool(record)
            lines.of_row.clear()
    except _TooLong:
        text = "".join(lines.of_row)
        fields = next(csv.reader([text], delimiter=dialect.delimiter))
        if fields:
            return _too_long(fields, row, dialect, limits)
    except csv.Error:
        pass
    return InvalidTable(
        "The CSV text cannot be read.",
        hint="Save the table again, as CSV or as Parquet, and upload it.",
    )


def _too_long(
    fields: Sequence[str], row: int, dialect: Dialect, limits: Limits
) -> InvalidTable:
    lengths = [len(cell) for cell in fields]
    longest = lengths.index(max(lengths))
    if lengths[longest] <= limits.max_cell_bytes or longest >= len(dialect.names):
        return over(f"Row {row} is too long", limits.max_row_bytes, "MAX_CELL_BYTES")
    error = limits.long_cell(dialect.names[longest], row)
    error.hint = f'A quote (") at its start may not be closed. {error.hint}'
    return error


class _TooLong(Exception):
    """A row is longer than the limit."""


class _LimitedLines:
    """The lines of a text, as long as the lines since `of_row` was cleared are not too long.

    A character is a byte: where rows and fields end does not depend on the encoding.
    """

    def __init__(self, chunks: Iterator[bytes], max_bytes: int) -> None:
        self.of_row: list[str] = []
        self._n_chars = 0
        self._max_bytes = max_bytes
        raw = io.BufferedReader(_RawFile(chunks))
        self._file = io.TextIOWrapper(raw, "latin-1", newline="")

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(self._max_bytes):
            self._n_chars = len(line) + (self._n_chars if self.of_row else 0)
            self.of_row.append(line)
            if self._n_chars >= self._max_bytes:
                raise _TooLong
            yield line


class _RawFile(io.RawIOBase):
    """The chunks of an iterator as a raw file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._file = ChunkFile(chunks)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
