"""What the cells of a CSV file look like: numbers, dates, booleans, and which sign is decimal."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

Rows = Sequence[Sequence[str]]

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
# A longer cell is neither a number nor a date nor a boolean.
_MAX_VALUE_LENGTH = 1000
# Each repeat is possessive, and no two that touch match the same character.
NUMBER = re.compile(
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


def decimal_of(
    rows: Rows, delimiter: str, missing: Collection[str] = NULL_MARKERS
) -> str:
    """Return the decimal sign of the numbers in rows, the first of which may be a header."""
    if delimiter == ",":
        return "."
    below = rows[1:] or rows
    found = known_cells(below, missing, len(below[0]))
    columns = [cells for cells in found if cells]
    if any(_have_points_and_comma(cells) for cells in columns):
        return ","
    if any(_are_numbers_with(".", NUMBER, cells) for cells in columns):
        return "."
    if any(_are_numbers_with(",", _DECIMAL_COMMA, cells) for cells in columns):
        return ","
    return "."


def _are_numbers_with(sign: str, number: re.Pattern[str], cells: Sequence[str]) -> bool:
    """Return whether all cells are numbers, and at least one of them has this sign."""
    are_numbers = all(fits(number, cell) for cell in cells)
    return are_numbers and any(sign in cell for cell in cells)


def _have_points_and_comma(cells: Sequence[str]) -> bool:
    """Return whether cells are numbers such as 1.234,56, at least one of them as long."""
    are_numbers = all(
        fits(_POINTS_AND_COMMA, cell) or fits(_DECIMAL_COMMA, cell) for cell in cells
    )
    return are_numbers and any(fits(_POINTS_AND_COMMA, cell) for cell in cells)


def fits(value: re.Pattern[str], cell: str) -> bool:
    """Return whether a cell is as short as a value, and matches."""
    return len(cell) <= _MAX_VALUE_LENGTH and value.fullmatch(cell) is not None


def known_cells(rows: Rows, missing: Collection[str], n_fields: int) -> list[list[str]]:
    """Return the cells of each of `n_fields` columns that are not missing.

    Rows of another length are left out.
    """
    columns: list[list[str]] = [[] for _ in range(n_fields)]
    for row in rows:
        if len(row) == n_fields:
            for column, cell in zip(columns, row, strict=True):
                if cell.strip() not in missing:
                    column.append(cell)
    return columns


def is_value(cell: str, decimal: str) -> bool:
    """Return whether a cell is a number, an ISO date or a boolean."""
    number = _DECIMAL_COMMA if decimal == "," else NUMBER
    return any(fits(value, cell) for value in (number, _DATE, _BOOLEAN))
