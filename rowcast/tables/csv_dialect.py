"""How a CSV file is written: its delimiter, header and decimal sign."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rowcast.tables.reading import GUESS, ReadingOptions
from rowcast.tables.rejections import reject

# What pandas reads as missing.
NULL_MARKERS = (
    "",
    "#N/A",
    "#N/A N/A",
    "#NA",
    "-1.#IND",
    "-1.#QNAN",
    "-NaN",
    "-nan",
    "1.#IND",
    "1.#QNAN",
    "<NA>",
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "None",
    "n/a",
    "nan",
    "null",
)

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 1000
_SAMPLE_FIELDS = 200_000
_DELIMITER_ROWS = 200
# A longer cell is neither a number nor a date nor a boolean.
_MAX_VALUE_LENGTH = 1000
# Each repeat is possessive, and no two that touch match the same character.
_NUMBER = re.compile(
    r"\s*+[+-]?(?:(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?|inf|infinity)\s*+",
    re.IGNORECASE,
)
_DECIMAL_COMMA = re.compile(r"\s*+[+-]?(?:\d++(?:,\d*+)?|,\d++)(?:[eE][+-]?\d++)?\s*+")
_POINTS_AND_COMMA = re.compile(r"\s*+[+-]?[1-9]\d{0,2}(?:\.\d{3})++,\d++\s*+")
_DATE = re.compile(
    r"\s*+\d{4}-\d{2}-\d{2}"
    r"(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d++)?)?\s*+(?:Z|[+-]\d{2}:?\d{2})?)?\s*+"
)
_BOOLEAN = re.compile(r"\s*+(?:true|false)\s*+", re.IGNORECASE)
# str.splitlines also breaks at these, which end no row.
_UNUSUAL_BREAKS = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")

# A cell may be as long as a sample; Python's own limit is 128 KiB.
csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class Dialect:
    """What a sample shows.

    `header_bytes` is the length of the text before the body, as UTF-8. `missing` are the texts that
    stand for a missing value.
    """

    delimiter: str
    decimal: str
    has_header: bool
    names: tuple[str, ...]
    header_bytes: int
    missing: tuple[str, ...] = NULL_MARKERS


def dialect_of(text: str, reading: ReadingOptions = GUESS) -> Dialect:
    """Return the dialect of a text of complete rows.

    Raises:
        InvalidTable: a column has no name; every such column is listed.
    """
    delimiter = reading.delimiter or delimiter_of(text)
    rows = records(text, delimiter)
    missing = _missing(reading)
    decimal = reading.decimal or _decimal(rows, delimiter, missing)
    has_header = reading.header
    if has_header is None:
        has_header = not _is_data(rows, decimal, missing)
    if not has_header:
        names = tuple(f"column_{i + 1}" for i in range(len(rows[0])))
        return Dialect(delimiter, decimal, False, names, 0, missing)

    header = text[: _end_of_first_record(text, delimiter)]
    header_bytes = len(header.encode())
    return Dialect(delimiter, decimal, True, _names(rows[0]), header_bytes, missing)


def _missing(reading: ReadingOptions) -> tuple[str, ...]:
    texts = reading.missing_texts()
    # An empty value is missing in every format.
    return NULL_MARKERS if texts is None else ("", *texts)


def delimiter_of(text: str) -> str:
    """Return the delimiter that gives most rows the same number of fields."""
    if not text.strip():
        return ","
    ranks = {delimiter: _rank(text, delimiter) for delimiter in _DELIMITERS}
    best = max(ranks, key=lambda delimiter: ranks[delimiter])
    share, _, _ = ranks[best]
    return best if share > 0.5 else ","


def records(text: str, delimiter: str, n_max: int = _SAMPLE_ROWS) -> list[list[str]]:
    """Return the first records of a text, without empty lines.

    At most `n_max`, and of wide ones fewer: two, or as many as have 200,000 fields together.
    """
    found: list[list[str]] = []
    n_fields = 0
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        if record:
            found.append(record)
            n_fields += len(record)
        is_enough = n_fields >= _SAMPLE_FIELDS and len(found) > 1
        if len(found) == n_max or is_enough:
            break
    return found


def complete_part(text: str, delimiter: str) -> str:
    """Return a text that was cut off without its last record, which may be incomplete."""
    if _UNUSUAL_BREAKS.search(text):
        lines = list(io.StringIO(text, newline=""))
    else:
        lines = text.splitlines(keepends=True)
    reader = csv.reader(iter(lines), delimiter=delimiter)
    end = last = 0
    for _ in reader:
        last = end
        end = reader.line_num
    return "".join(lines[:last])


def n_fields_at_least(text: str) -> int:
    """Return the least number of fields of a row that was cut off."""
    return 1 + max(text.count(delimiter) for delimiter in _DELIMITERS)


def is_quote_open(text: str, delimiter: str) -> bool:
    """Return whether a text ends within quotes."""
    end = "end of text"
    lines = io.StringIO(f"{text}\n{end}", newline="")
    *_, last = csv.reader(lines, delimiter=delimiter)
    return last != [end]


def longest_field(text: str, dialect: Dialect) -> str:
    """Return the column of the longest cell in the first row of the body."""
    n_before = int(dialect.has_header)
    row = records(text, dialect.delimiter, n_before + 1)[n_before]
    cells = zip(dialect.names, row, strict=False)
    name, _ = max(cells, key=lambda named: len(named[1]))
    return name


def _rank(text: str, delimiter: str) -> tuple[float, bool, int]:
    """Return the share of rows with the usual number of fields, and what decides a tie."""
    rows = records(text, delimiter, _DELIMITER_ROWS)
    # The last row of a text that was cut off counts little, unless it is the only one.
    [(n_fields, n_rows)] = Counter(map(len, rows)).most_common(1)
    if n_fields == 1:
        return 0.0, False, n_fields
    # "1,5;2,5" has as many commas as semicolons in every row.
    return n_rows / len(rows), _decimal(rows, delimiter) == ",", n_fields


def _decimal(
    rows: Sequence[Sequence[str]],
    delimiter: str,
    missing: Collection[str] = NULL_MARKERS,
) -> str:
    if delimiter == ",":
        return "."
    # The first row may be the header.
    columns = [cells for cells in _known_cells(rows[1:] or rows, missing) if cells]
    if any(_have_points_and_comma(cells) for cells in columns):
        return ","
    if any(_are_numbers_with(".", _NUMBER, cells) for cells in columns):
        return "."
    if any(_are_numbers_with(",", _DECIMAL_COMMA, cells) for cells in columns):
        return ","
    return "."


def _are_numbers_with(sign: str, number: re.Pattern[str], cells: Sequence[str]) -> bool:
    """Return whether all cells are numbers, and at least one of them has this sign."""
    are_numbers = all(_fits(number, cell) for cell in cells)
    return are_numbers and any(sign in cell for cell in cells)


def _have_points_and_comma(cells: Sequence[str]) -> bool:
    """Return whether cells are numbers such as 1.234,56, at least one of them as long."""
    are_numbers = all(
        _fits(_POINTS_AND_COMMA, cell) or _fits(_DECIMAL_COMMA, cell) for cell in cells
    )
    return are_numbers and any(_fits(_POINTS_AND_COMMA, cell) for cell in cells)


def _fits(value: re.Pattern[str], cell: str) -> bool:
    return len(cell) <= _MAX_VALUE_LENGTH and value.fullmatch(cell) is not None


def _known_cells(
    rows: Sequence[Sequence[str]], missing: Collection[str]
) -> list[list[str]]:
    """Return the cells of each column that are not missing.

    Rows of another length than the first are left out.
    """
    whole = [row for row in rows if len(row) == len(rows[0])]
    return [
        [cell for cell in column if cell.strip() not in missing]
        for column in zip(*whole, strict=True)
    ]


def _is_data(
    rows: Sequence[Sequence[str]], decimal: str, missing: Collection[str]
) -> bool:
    """Return whether the first row is data: columns of values all begin with a value."""
    first = rows[0]
    if _is_default_header(first):
        return False
    columns = _known_cells(rows[: _SAMPLE_ROWS + 1], missing)
    known = []
    for cell, cells in zip(first, columns, strict=True):
        if cell.strip() in missing:
            continue
        below = cells[1:]
        if below and all(_is_value(each, decimal) for each in below):
            known.append(cell)
    return bool(known) and all(_is_value(cell, decimal) for cell in known)


def _is_value(cell: str, decimal: str) -> bool:
    number = _DECIMAL_COMMA if decimal == "," else _NUMBER
    return any(_fits(value, cell) for value in (number, _DATE, _BOOLEAN))


def _is_default_header(first: Sequence[str]) -> bool:
    # pandas numbers columns that have no name, and leaves the name of its index empty.
    names = first[1:] if first[0] == "" else first
    return list(names) == [str(i) for i in range(len(names))]


def _names(header: Sequence[str]) -> tuple[str, ...]:
    names = list(header)
    if len(names) > 1 and names[0] == "":
        # pandas writes its index as a first column without a name, and reads it by this one.
        names[0] = "Unnamed: 0"
    problems = [
        f"The column at position {i + 1} of {len(names)} has no name."
        for i, name in enumerate(names)
        if not name
    ]
    reject(
        problems,
        "Name every column in the first row, or remove the empty columns; upload the table again.",
    )
    return tuple(names)


def _end_of_first_record(text: str, delimiter: str) -> int:
    lines = io.StringIO(text, newline="")
    reader = csv.reader(iter(lines.readline, ""), delimiter=delimiter)
    next(record for record in reader if record)
    return lines.tell()
