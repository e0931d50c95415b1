"""How a CSV file is written: what stands above its rows, its delimiter, header and decimal sign."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rowcast.tables import csv_header, csv_values
from rowcast.tables.csv_cleaning import Cleaning
from rowcast.tables.csv_preamble import Comment, preamble_of
from rowcast.tables.csv_values import NULL_MARKERS
from rowcast.tables.reading import GUESS, ReadingOptions

BLANK = " "
_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 1000
_SAMPLE_FIELDS = 200_000
_DELIMITER_ROWS = 200
_HEAD_CHARACTERS = 65_536
# str.splitlines also breaks at these, which end no row.
_UNUSUAL_BREAKS = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")

_QUOTED = re.compile('"(?:[^"]|"")*+"')
_STRAY_END = re.compile("\r(?!\n)")
_BETWEEN = Cleaning("between")
_PLAIN = Cleaning()

# A cell may be as long as a sample; Python's own limit is 128 KiB.
csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class Layout:
    """What a text looks like as a whole.

    The table begins after `n_bytes_above`, as UTF-8, of which `n_lines_above` are comments. Its
    text is cleaned, and then has this delimiter.
    """

    delimiter: str
    cleaning: Cleaning = _PLAIN
    n_bytes_above: int = 0
    n_lines_above: int = 0

    def table_in(self, text: str) -> str:
        """Return the cleaned text of the table."""
        table = text.encode()[self.n_bytes_above :]
        return self.cleaning.cleaned(table).decode()

    @property
    def shown_delimiter(self) -> str:
        """The delimiter of the text as it was written."""
        return BLANK if self.cleaning.blanks == "between" else self.delimiter


@dataclass(frozen=True)
class Dialect:
    """What a sample shows.

    `header_bytes` is the length of the cleaned text before the body, as UTF-8. A row has
    `n_fields`: as many as there are names, and empty ones after those. `missing` are the texts that
    stand for a missing value.
    """

    layout: Layout
    decimal: str
    has_header: bool
    names: tuple[str, ...]
    header_bytes: int
    n_fields: int
    n_lines_skipped: int = 0
    missing: tuple[str, ...] = NULL_MARKERS

    @property
    def unnamed(self) -> range:
        """The positions of the columns that have no name."""
        return range(len(self.names), self.n_fields)

    @property
    def delimiter(self) -> str:
        """The delimiter of the cleaned text."""
        return self.layout.delimiter


def layout_of(text: str, reading: ReadingOptions = GUESS) -> Layout:
    """Return how a text is laid out of which this is the beginning."""
    above = preamble_of(text)
    table = text[above.n_characters :]
    delimiter = reading.delimiter or above.delimiter or delimiter_of(table, reading)
    cleaning = _cleaning(table, delimiter, reading)
    parsed = "\t" if delimiter == BLANK else delimiter
    start, n_lines = above.n_characters, len(above.comments)
    if above.comments and reading.header is not False:
        rows = records(cleaning.text(_head(table)), parsed, _DELIMITER_ROWS)
        header = _header_in(above.comments, delimiter, rows) if rows else None
        if header:
            start = header.start
            n_lines = sum(each.start < start for each in above.comments)
    return Layout(parsed, cleaning, len(text[:start].encode()), n_lines)


def _header_in(
    comments: Sequence[Comment], delimiter: str, rows: csv_values.Rows
) -> Comment | None:
    """Return the comment above the records of a table that is its header, None if none is.

    It is the first from which on all have as many fields as the records: others may be data.
    """
    if delimiter == BLANK:
        words = comments[-1].text.lstrip("# \t")
        start = comments[-1].start + len(comments[-1].text) - len(words)
        comments = [Comment(words, start)]
    found = None
    for comment in reversed(comments):
        fields = (
            comment.text.split()
            if delimiter == BLANK
            else next(iter(records(comment.text, delimiter, 1)), [])
        )
        if not csv_header.is_header_of(fields, rows):
            break
        found = comment
    return found


def dialect_of(text: str, layout: Layout, reading: ReadingOptions = GUESS) -> Dialect:
    """Return the dialect of a text of complete rows, as `Layout.table_in` returns it.

    Raises:
        InvalidTable: a column has no name; every such column is listed.
    """
    rows = records(text, layout.delimiter)
    missing = _missing(reading)
    decimal = reading.decimal or csv_values.decimal_of(rows, layout.delimiter, missing)
    header = csv_header.header_of(rows, decimal, missing, reading.header)
    before = text[: _end_of_records(text, layout.delimiter, header.n_before)]
    return Dialect(
        layout,
        decimal,
        header.is_there,
        header.names,
        len(before.encode()),
        header.n_fields,
        layout.n_lines_above + header.n_titles,
        missing,
    )


def _missing(reading: ReadingOptions) -> tuple[str, ...]:
    texts = reading.missing_texts()
    # An empty value is missing in every format.
    return NULL_MARKERS if texts is None else ("", *texts)


def delimiter_of(text: str, reading: ReadingOptions = GUESS) -> str:
    """Return the delimiter that gives most rows the same number of fields.

    Runs of blanks are one where no other is, and names and values tell that they are.
    """
    if not text.strip():
        return ","
    ranks = {delimiter: _rank(text, delimiter) for delimiter in _DELIMITERS}
    best = max(ranks, key=lambda delimiter: ranks[delimiter])
    share, _, _ = ranks[best]
    if share > 0.5:
        return best
    head = _head(text)
    first, _, _ = head.strip().partition("\n")
    if first.strip() == reading.fitted_column:
        return ","
    rows = records(_BETWEEN.text(head), "\t", _DELIMITER_ROWS)
    return BLANK if csv_header.are_separated_by_blanks(rows) else ","


def _head(text: str) -> str:
    """Return complete lines at the beginning of a text, or a part of its first line."""
    head = text[:_HEAD_CHARACTERS]
    return head if head == text else head[: head.rfind("\n") + 1] or head


def _cleaning(text: str, delimiter: str, reading: ReadingOptions) -> Cleaning:
    """Return how the text of a table is to be changed, of which this is the beginning."""
    head = _head(text)
    joins_lines = _has_stray_ends(head, delimiter)
    if delimiter == BLANK:
        return Cleaning("between", joins_lines=joins_lines)
    is_after = not reading.fitted_blanks and _has_blanks_after(head, delimiter)
    return Cleaning("after" if is_after else "kept", delimiter, joins_lines)


def _has_blanks_after(text: str, delimiter: str) -> bool:
    """Return whether every delimiter outside of quotes is followed by a blank."""
    if delimiter not in ",;|" or f"{delimiter} " not in text:
        return False
    unquoted = _QUOTED.sub('""', text)
    return unquoted.count(delimiter) == unquoted.count(f"{delimiter} ")


def _has_stray_ends(text: str, delimiter: str) -> bool:
    """Return whether carriage returns within lines cut rows into parts."""
    joined = _STRAY_END.sub(" ", text)
    if joined == text or "\n" not in text:
        return False
    lengths = {len(row) for row in records(text, delimiter)}
    joined_lengths = {len(row) for row in records(joined, delimiter)}
    return len(joined_lengths) == 1 < len(lengths)


def records(
    text: str,
    delimiter: str,
    n_max: int = _SAMPLE_ROWS,
    *,
    skips_blanks: bool = False,
) -> list[list[str]]:
    """Return the first records of a text, without empty lines.

    At most `n_max`, and of wide ones fewer: two, or as many as have 200,000 fields together.
    """
    found: list[list[str]] = []
    n_fields = 0
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=skips_blanks)
    for record in reader:
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
    body = text.encode()[dialect.header_bytes :].decode()
    (row,) = records(body, dialect.delimiter, 1)
    cells = zip(dialect.names, row, strict=False)
    name, _ = max(cells, key=lambda named: len(named[1]))
    return name


def _rank(text: str, delimiter: str) -> tuple[float, bool, int]:
    """Return the share of rows with the usual number of fields, and what decides a tie."""
    # After blanks, quotes are part of a field unless blanks are skipped.
    skips_blanks = f'{delimiter} "' in text
    rows = records(text, delimiter, _DELIMITER_ROWS, skips_blanks=skips_blanks)
    # The last row of a text that was cut off counts little, unless it is the only one.
    [(n_fields, n_rows)] = Counter(map(len, rows)).most_common(1)
    if n_fields == 1:
        return 0.0, False, n_fields
    # "1,5;2,5" has as many commas as semicolons in every row.
    has_comma = csv_values.decimal_of(rows, delimiter) == ","
    return n_rows / len(rows), has_comma, n_fields


def _end_of_records(text: str, delimiter: str, n_records: int) -> int:
    """Return where the first records end, without empty lines after them."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(iter(lines.readline, ""), delimiter=delimiter)
    for _ in range(n_records):
        next(record for record in reader if record)
    return lines.tell()
