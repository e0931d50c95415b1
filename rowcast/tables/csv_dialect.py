"""How a CSV file is written: its delimiter, its header, its decimal sign."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rowcast.errors import InvalidTable

# What pandas reads as missing.
NULL_MARKERS = (
    *(
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
    ),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 1000
_NUMBER = re.compile(
    r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*|\s*[+-]?(inf|infinity)\s*",
    re.IGNORECASE,
)
_DECIMAL_COMMA = re.compile(r"\s*[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?\s*")
_DATE = re.compile(
    r"\s*\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?\s*"
)
_TRUTH = re.compile(r"\s*(true|false)\s*", re.IGNORECASE)

# A sample holds cells as long as itself; Python's own limit is 128 KiB.
csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class Dialect:
    """What a sample shows; `header_bytes` is how much of the text, as UTF-8, comes before the
    body."""

    delimiter: str
    decimal: str
    has_header: bool
    names: tuple[str, ...]
    header_bytes: int


def dialect_of(text: str) -> Dialect:
    """Return the dialect of a text of complete rows.

    Raises:
        InvalidTable: a column has no name; every such column is listed.
    """
    delimiter = delimiter_of(text)
    rows = records(text, delimiter)
    first, body = rows[0], rows[1:]
    decimal = _decimal(rows, delimiter)
    has_header = not _is_data(first, body, decimal)
    names = (
        _names(first)
        if has_header
        else tuple(f"column_{i + 1}" for i in range(len(first)))
    )
    header_bytes = (
        len(text[: _end_of_first_record(text, delimiter)].encode()) if has_header else 0
    )
    return Dialect(delimiter, decimal, has_header, names, header_bytes)


def records(text: str, delimiter: str, n_max: int = _SAMPLE_ROWS) -> list[list[str]]:
    """Return the first records of a text, without empty lines."""
    found: list[list[str]] = []
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        if record:
            found.append(record)
        if len(found) == n_max:
            break
    return found


def complete_part(text: str, delimiter: str) -> str:
    """Return a text that was cut off somewhere without its last record, which may be a part of
    one."""
    lines = text.splitlines(keepends=True) if _only_usual_breaks(text) else _lines(text)
    reader = csv.reader(iter(lines), delimiter=delimiter)
    end = last = 0
    for _ in reader:
        last, end = end, reader.line_num
    return "".join(lines[:last])


def first_fields(text: str) -> int:
    """Return how many fields a row that was cut off has at least."""
    return 1 + max(text.count(delimiter) for delimiter in _DELIMITERS)


def is_quote_open(text: str, delimiter: str) -> bool:
    """Tell whether a text ends within quotes."""
    end = "end of text"
    *_, last = csv.reader(
        io.StringIO(f"{text}\n{end}", newline=""), delimiter=delimiter
    )
    return last != [end]


def longest_field(text: str, dialect: Dialect) -> str:
    """Return the name of the column of the longest cell in the first row of the body."""
    start = dialect.has_header
    row = records(text, dialect.delimiter, 1 + start)[start:][0]
    return max(zip(row, dialect.names, strict=False), key=lambda pair: len(pair[0]))[1]


def _only_usual_breaks(text: str) -> bool:
    # str.splitlines also breaks at these, at which no row ends.
    return not re.search("[\v\f\x1c-\x1e\x85\u2028\u2029]", text)


def _lines(text: str) -> list[str]:
    return list(io.StringIO(text, newline=""))


def delimiter_of(text: str) -> str:
    """Return the delimiter of a text: the one that gives most rows the same number of fields."""

    def rank(delimiter: str) -> tuple[float, bool, int]:
        rows = records(text, delimiter, 200)
        # Of a text that was cut off, the last row counts little; of one row, it is all there is.
        n_fields, n_rows = Counter(map(len, rows)).most_common(1)[0]
        share = n_rows / len(rows) if n_fields > 1 else 0.0
        # "1,5;2,5" has as many commas as semicolons in every row.
        return share, share > 0 and _decimal(rows, delimiter) == ",", n_fields

    if not text.strip():
        return ","
    ranks = {delimiter: rank(delimiter) for delimiter in _DELIMITERS}
    best = max(ranks, key=lambda delimiter: ranks[delimiter])
    return best if ranks[best][0] > 0.5 else ","


def _columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the known cells of each column; rows of another length than the first are left out."""
    whole = [row for row in rows if len(row) == len(rows[0])]
    return [
        [cell for cell in column if cell.strip() not in NULL_MARKERS]
        for column in zip(*whole, strict=True)
    ]


def _decimal(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    # The first row may be the header.
    columns = [cells for cells in _columns(rows[1:] or rows) if cells]
    if any(
        _all(_NUMBER, cells) and any("." in cell for cell in cells) for cells in columns
    ):
        return "."
    has_comma = any(
        _all(_DECIMAL_COMMA, cells) and any("," in cell for cell in cells)
        for cells in columns
    )
    return "," if has_comma else "."


def _all(pattern: re.Pattern[str], cells: Sequence[str]) -> bool:
    return all(pattern.fullmatch(cell) for cell in cells)


def _is_data(first: Sequence[str], body: Sequence[Sequence[str]], decimal: str) -> bool:
    """Tell whether the first row is one of the body: each column of values begins with a value."""
    columns = _columns([first, *body[:_SAMPLE_ROWS]])
    is_missing = [cell.strip() in NULL_MARKERS for cell in first]
    below = [
        cells if missing else cells[1:]
        for cells, missing in zip(columns, is_missing, strict=True)
    ]
    typed = [
        i
        for i, cells in enumerate(below)
        if cells and all(_is_value(cell, decimal) for cell in cells)
    ]
    known = [i for i in typed if not is_missing[i]]
    return (
        bool(known)
        and all(_is_value(first[i], decimal) for i in known)
        and not _is_default(first)
    )


def _is_value(cell: str, decimal: str) -> bool:
    number = _DECIMAL_COMMA if decimal == "," else _NUMBER
    return any(pattern.fullmatch(cell) for pattern in (number, _DATE, _TRUTH))


def _is_default(first: Sequence[str]) -> bool:
    # pandas numbers columns that have no name, and leaves the name of its index empty.
    names = first[1:] if first[0] == "" else first
    return list(names) == [str(i) for i in range(len(names))]


def _names(first: Sequence[str]) -> tuple[str, ...]:
    # pandas writes its index as a first column without a name, and reads it by this one.
    names = [
        "Unnamed: 0" if i == 0 and name == "" and len(first) > 1 else name
        for i, name in enumerate(first)
    ]
    problems = [
        f"The column at position {i + 1} of {len(names)} has no name."
        for i, name in enumerate(names)
        if not name
    ]
    if problems:
        count = f" ({len(problems)} problems)" if len(problems) > 1 else ""
        hint = (
            "Name every column in the first row, or remove the empty columns; upload the "
            "table again."
        )
        raise InvalidTable(problems[0] + count, hint=hint, errors=problems[:100])
    return tuple(names)


def _end_of_first_record(text: str, delimiter: str) -> int:
    lines = io.StringIO(text, newline="")
    reader = csv.reader(iter(lines.readline, ""), delimiter=delimiter)
    next(record for record in reader if record)
    return lines.tell()
