"""Where the rows of a CSV file begin, and what its header says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from rowcast.tables.csv_values import NULL_MARKERS, Rows, is_value, known_cells
from rowcast.tables.rejections import reject

ROW_NAMES = "row_names"
# More lines than these are not titles of a table.
_MAX_TITLES = 50
# A date with a time, a number with blanks before thousands.
_ONE_VALUE = re.compile(r"(?=\S*?\d[-/.]\S)\S++ \d\d?:\S++|[+-]?\d{1,3} \d{3}\S*+")
_YEAR = re.compile("1[5-9][0-9]{2}|20[0-9]{2}|2100")


@dataclass(frozen=True)
class Header:
    """What is found: `n_before` records stand before the body, `n_titles` of them above the header.

    `names` are those of the columns; a body may have more fields in each row, which are empty.
    """

    names: tuple[str, ...]
    is_there: bool
    n_before: int
    n_titles: int
    n_fields: int


def header_of(
    rows: Rows, decimal: str, missing: Collection[str], asked: bool | None
) -> Header:
    """Return the header of a text that begins with these records; `asked` says if there is one.

    Raises:
        InvalidTable: a column has no name; every such column is listed.
    """
    seen = _Seen(decimal, missing, asked)
    start = seen.start(rows)
    body = rows[start:]
    n_fields = len(body[0])
    if start and seen.is_short(rows[start - 1], body):
        names = _with_row_names(rows[start - 1], body)
        return Header(names, True, start, start - 1, n_fields)
    if not seen.has_header(body):
        names = tuple(f"column_{i + 1}" for i in range(n_fields))
        return Header(names, False, start, start, n_fields)
    named = body[0][: _n_named(body)]
    return Header(_names(named, n_fields), True, start + 1, start, n_fields)


@dataclass(frozen=True)
class _Seen:
    """How cells are read, and whether there is a header, None if that is to be found."""

    decimal: str
    missing: Collection[str]
    asked: bool | None

    def start(self, rows: Rows) -> int:
        """Return the number of the record that begins the table, below titles or a short header.

        0 if those above it are neither.
        """
        n_fields = _usual_length(rows)
        start = 0
        while start < len(rows) and self._is_above(rows[start], n_fields):
            start += 1
        above, body = rows[:start], rows[start:]
        if not body or not 0 < start <= _MAX_TITLES:
            return 0
        if self.is_short(above[-1], body):
            return start
        are_titles = all(_n_filled(row) <= 1 for row in above) or self._names_values(
            body
        )
        is_told = self.asked is False or self.has_header(body)
        are_shorter = all(len(row) <= n_fields for row in above)
        return start if are_titles and is_told and are_shorter else 0

    def is_short(self, header: Sequence[str], body: Rows) -> bool:
        """Return whether a header leaves out the name of row names, or a last empty column."""
        n_fields = len(body[0])
        if self.asked is False or len(header) != n_fields - 1:
            return False
        if not all(header) or len(set(header)) < len(header):
            return False
        if _is_empty(body, n_fields - 1):
            return True
        # Row names differ. Two fields may be a number with a decimal comma.
        first = [row[0] for row in body]
        are_row_names = n_fields > 2 and len(set(first)) == len(first)
        return are_row_names and not self._names_values(body)

    def has_header(self, body: Rows) -> bool:
        """Return whether the first record names the columns."""
        if self.asked is not None:
            return self.asked
        return not is_data(body, self.decimal, self.missing)

    def _is_above(self, row: Sequence[str], n_fields: int) -> bool:
        """Return whether a record may be one above the table: of another length, or a padded title.

        Without a header, a record as long as the others is data.
        """
        if len(row) != n_fields:
            return True
        if n_fields <= 2 or self.asked is False:
            return False
        n_filled = _n_filled(row)
        return n_filled == 0 or (n_filled == 1 and bool(row[0].strip()))

    def _names_values(self, body: Rows) -> bool:
        return _names_values(body, self.decimal, self.missing)


def is_header_of(header: Sequence[str], rows: Rows) -> bool:
    """Return whether a comment above these records names their columns.

    It does if it has as many fields, unless the first record has names above values.
    """
    n_fields = _usual_length(rows) or len(rows[0])
    if len(header) != n_fields:
        return False
    are_names = all(cell.strip() for cell in rows[0])
    return not (are_names and _names_values(rows, ".", NULL_MARKERS))


def are_separated_by_blanks(rows: Rows) -> bool:
    """Return whether records, of which blanks separate the fields, are a table.

    They are if each has as many fields, and the first has words above values, or all are values.
    Dates with a time, and numbers with blanks before thousands, are single values.
    """
    n_fields = len(rows[-1]) if len(rows) > 1 else 0
    if n_fields < 2 or any(len(row) != n_fields for row in rows[1:]):
        return False
    if n_fields == 2 and any(map(_is_one_value, rows[1:])):
        return False
    below = known_cells(rows[1:], NULL_MARKERS, n_fields)
    are_values = [
        bool(cells) and all(is_value(cell, ".") for cell in cells) for cells in below
    ]
    if len(rows[0]) == n_fields - 1:
        return n_fields > 2 and any(are_values)
    if len(rows[0]) != n_fields:
        return False
    return _names_values(rows, ".", NULL_MARKERS) or all(are_values)


def _is_one_value(row: Sequence[str]) -> bool:
    return bool(_ONE_VALUE.fullmatch(" ".join(row)))


def is_data(rows: Rows, decimal: str, missing: Collection[str]) -> bool:
    """Return whether the first row is data: columns of values all begin with a value."""
    if _is_default_header(rows[0]):
        return False
    found = _value_columns(rows, decimal, missing)
    known = [pair for pair in found if pair[0].strip() not in missing]
    if not known or _are_years(known):
        return False
    return all(is_value(cell, decimal) for cell, _ in known)


def _names_values(rows: Rows, decimal: str, missing: Collection[str]) -> bool:
    """Return whether the first record has words, where all below are values."""
    found = _value_columns(rows, decimal, missing)
    return bool(found) and not any(
        cell.strip() in missing or is_value(cell, decimal) for cell, _ in found
    )


def _value_columns(
    rows: Rows, decimal: str, missing: Collection[str]
) -> list[tuple[str, list[str]]]:
    """Return the first cell, and the known ones below it, of columns that have values below it."""
    below_each = known_cells(rows[1:], missing, len(rows[0]))
    columns = zip(rows[0], below_each, strict=True)
    return [
        (cell, below)
        for cell, below in columns
        if below and all(is_value(each, decimal) for each in below)
    ]


def _are_years(found: Sequence[tuple[str, Sequence[str]]]) -> bool:
    """Return whether names are years in order, above values of which most are not years."""
    names = [cell for cell, _ in found]
    if len(names) < 2 or not all(map(_is_year, names)):
        return False
    years = [int(name) for name in names]
    rise = {after > before for before, after in pairwise(years)}
    are_in_order = len(rise) == 1 and len(set(years)) == len(years)
    below = list(chain.from_iterable(cells for _, cells in found))
    return are_in_order and sum(map(_is_year, below)) < len(below) / 2


def _is_year(cell: str) -> bool:
    return bool(_YEAR.fullmatch(cell.strip()))


def _is_default_header(first: Sequence[str]) -> bool:
    # pandas numbers columns that have no name, and leaves the name of its index empty.
    names = first[1:] if first[0] == "" else first
    return list(names) == [str(i) for i in range(len(names))]


def _usual_length(rows: Rows) -> int:
    """Return how many fields most records have below the first, 0 if no number is that frequent."""
    below = rows[1:] or rows
    [(n_fields, n_rows)] = Counter(map(len, below)).most_common(1)
    return n_fields if n_rows > len(below) / 2 and n_fields > 1 else 0


def _n_filled(row: Sequence[str]) -> int:
    return sum(bool(cell.strip()) for cell in row)


def _is_empty(rows: Rows, place: int) -> bool:
    """Return whether no row as long as the first has a value at this place."""
    n_fields = len(rows[0])
    return not any(row[place].strip() for row in rows if len(row) == n_fields)


def _with_row_names(header: Sequence[str], body: Rows) -> tuple[str, ...]:
    if _is_empty(body, len(header)):
        return tuple(header)
    name = ROW_NAMES
    while name in header:
        name += "_"
    return (name, *header)


def _n_named(body: Rows) -> int:
    """Return how many columns there are, without last ones that have neither name nor value."""
    n_named = len(body[0])
    while n_named > 1 and not body[0][n_named - 1] and _is_empty(body, n_named - 1):
        n_named -= 1
    return n_named


def _names(header: Sequence[str], n_fields: int) -> tuple[str, ...]:
    names = list(header)
    if n_fields > 1 and names[0] == "":
        # pandas writes its index as a first column without a name, and reads it by this one.
        names[0] = "Unnamed: 0"
    problems = [
        f"The column at position {i + 1} of {n_fields} has no name."
        for i, name in enumerate(names)
        if not name
    ]
    reject(
        problems,
        "Name every column in the first row, or remove the empty columns; upload the table again.",
    )
    return tuple(names)
