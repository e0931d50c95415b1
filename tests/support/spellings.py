"""Spellings of numbers, dates and missing values, and what is read from each.

docs/tables.md has the same table; `python -m tests.support.spellings` prints it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spelling:
    """A value as people write it, other values of its column, and what is read.

    `kind` is that of the column, and `value` what its first value is: a number, the seconds of a
    duration, a date in ISO 8601, None for missing; or text that stays as it is.
    """

    written: str
    beside: tuple[str, ...]
    kind: str
    value: Any
    remark: str = ""

    @property
    def column(self) -> list[str]:
        """Return all values of the column."""
        return [self.written, *self.beside]

    def row(self) -> str:
        """Return the row of the document."""
        others = " ".join(map(_code, self.beside))
        value = _shown(self.value) if self.kind != "text" else "as it is"
        cells = [_code(self.written), others, self.kind, value, self.remark, _TEST]
        return f"| {' | '.join(cells)} |"


_TEST = "`test_spelling_is_read_as_documented`"
HEADER = "| written | beside | read as | value | remark | test |"


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def number(
    written: str, value: float | None, *beside: str, remark: str = ""
) -> Spelling:
    """Return a spelling of a number."""
    return Spelling(written, beside or ("7",), "numeric", value, remark)


def date(written: str, value: str | None, *beside: str, remark: str = "") -> Spelling:
    """Return a spelling of a date or time, whose value is in ISO 8601."""
    return Spelling(written, beside, "datetime", value, remark)


def duration(
    written: str, value: float | None, *beside: str, remark: str = ""
) -> Spelling:
    """Return a spelling of a duration or a time of day, whose value is in seconds."""
    return Spelling(written, beside, "duration", value, remark)


def text(written: str, *beside: str, remark: str = "") -> Spelling:
    """Return what stays text, or a category."""
    return Spelling(written, beside, "text", written, remark)


NUMBERS = (
    number("12", 12.0),
    number("+12", 12.0),
    number(" 12 ", 12.0),
    number("1.5e3", 1500.0),
    number(".5", 0.5),
    number("5.", 5.0),
    number("\u22125", -5.0, remark="the minus sign of Unicode"),
    number("5-", -5.0),
    number("(5)", -5.0, remark="as accountants write"),
    number("(1,234.50)", -1234.5),
    number("($1,234)", -1234.0, "$7"),
    number("1,234.50", 1234.5),
    number("1,234,567", 1234567.0),
    number("1,234", 1234.0, remark="a note says that commas were taken for thousands"),
    number("1,234", 1.234, "1,5", remark="`1,5` shows that the comma is decimal"),
    number("0,123", 0.123, remark="no thousands begin with 0"),
    number("12,34,567.5", 1234567.5, remark="as written in India"),
    number("1.234,56", 1234.56),
    number("1.234.567", 1234567.0),
    number("1.234", 1234.0, "1.234,5"),
    number("1.234", 1.234),
    number("1,5", 1.5),
    number("1'234.50", 1234.5),
    number("1\u2019234,50", 1234.5),
    number("1 234,5", 1234.5),
    number("1\u00a0234", 1234.0, remark="a blank that does not break"),
    number("1\u202f234", 1234.0, remark="a narrow blank"),
    number("1_234", 1234.0),
    number("$5", 5.0),
    number("$ 1,234.50", 1234.5),
    number("-$5", -5.0),
    number("$-5", -5.0),
    number("US$ 5", 5.0),
    number("5 €", 5.0),
    number("€5", 5.0, "5 €"),
    number("EUR 5", 5.0),
    number("5 usd", 5.0),
    number("£1,234", 1234.0),
    number("1.234,50 €", 1234.5, "5 €"),
    number("Rs. 500", 500.0),
    number("500 zł", 500.0),
    number("5 CHF", 5.0),
    number("45%", 45.0, "7%", remark="45, not 0.45"),
    number("4,5 %", 4.5, "7 %"),
    number("12 kg", 12.0, "7 kg"),
    number("12kg", 12.0, "7 kg"),
    number("100 km/h", 100.0, "7 km/h"),
    number("20 °C", 20.0, "-7 °C"),
    number("1 year", 1.0, "7 years"),
    number("1,200 sq ft", 1200.0, "7 sq ft"),
    number("$1,200 /month", 1200.0, "$7 /month"),
    number("1.2K", 1200.0, remark="thousands"),
    number("3M", 3e6, "7K", remark="millions"),
    number("1.5B", 1.5e9, "7M", remark="billions"),
    number("$2.5m", 2.5e6, "$7k"),
    number("2 Mio €", 2e6, "7 €"),
    number("5 m", 5.0, "7 m", remark="meters"),
)
_MISSING = (
    *(
        "?",
        "-",
        "--",
        "\u2013",
        ".",
        "...",
        "*",
        "n.a.",
        "N/A",
        "NA",
        "\\N",
        "n.d.",
        "null",
    ),
    *(
        "None",
        "NaN",
        "nil",
        "unknown",
        "missing",
        "#DIV/0!",
        "#VALUE!",
        "#REF!",
        "#N/A",
    ),
)
MISSING = tuple(number(mark, None) for mark in _MISSING)
TEXT = (
    text("007", "123", remark="leading zeros"),
    text("$007", "$123"),
    text("1,234.5", "1.234,5", remark="two conventions; a note says so"),
    text("$5", "€5", remark="two currencies"),
    text("12 kg", "7 lb", remark="two units"),
    text("45%", "0.45", remark="percent, and a share"),
    text("12 kg", "7", "8", "9", remark="most have no unit"),
    text("12A", "13B"),
    text("2. Midwest", "2. Midwest", remark="a point before the word"),
    text("B5", "7", "8", remark="a letter before the number"),
    text("A12", "A13"),
    text("1st", "2nd"),
    text("<5", "7", remark="not a number"),
    text("~5", "7"),
    text("5-10", "7-9", remark="ranges"),
    text("1/2", "3/4"),
    text("10.0.0.1", "10.0.0.2"),
    text("1.2.3", "1.2.4"),
    text("555 123 456", "555 234 567", remark="all of one length: telephone numbers"),
    text("(5", "7"),
    text("--5", "7"),
    text("?", "-", remark="marks without a number"),
    text("about 5", "7", "8", "9", remark="a note says that 1 of 4 is not a number"),
)
DATES = (
    date("2024-01-31", "2024-01-31", "2024-02-01"),
    date("2024/01/31", "2024-01-31", "2024/02/01"),
    date("2024-01-31T12:30:15+02:00", "2024-01-31T10:30:15", "2024-02-01"),
    date("31.01.2024", "2024-01-31", "1.2.2024"),
    date("31/01/2024 12:30", "2024-01-31T12:30", "01/02/2024 00:00"),
    date("01/31/2024", "2024-01-31", "02/01/2024"),
    date("31.12.99", "1999-12-31", "01.02.05", remark="as POSIX reads two digits"),
    date("12/31/68", "2068-12-31", "1/2/69"),
    date("31-Dec-99", "1999-12-31", "1-Jan-05"),
    date("31 January 2024", "2024-01-31", "1 May 2024"),
    date("Jan. 31, 2024", "2024-01-31", "September 1, 2024"),
    date("3rd Sept 2024", "2024-09-03", "21st May 2024"),
    date("Jan-31-2024", "2024-01-31", "Feb-1-2024"),
    date("31JAN2024", "2024-01-31", "01FEB2024"),
    date("Wed, 31 Jan 2024", "2024-01-31", "Thu, 1 Feb 2024"),
    date("Wednesday, January 31, 2024", "2024-01-31", "Thursday, May 2, 2024"),
    date("Wed Jan 31 12:30:15 2024", "2024-01-31T12:30:15", "Thu Feb 01 00:00:00 2024"),
    date(
        "Fri, 21 Nov 1997 09:55:06 -0600",
        "1997-11-21T15:55:06",
        "Sat, 22 Nov 1997 09:55:06 GMT",
        remark="RFC 2822",
    ),
    date("1/31/2024 1:30 PM", "2024-01-31T13:30", "2/1/2024 12:00 AM"),
    date("1/31/2024 1:30:15 p.m.", "2024-01-31T13:30:15", "2/1/2024 12:00:00 a.m."),
    date("Jan 2024", "2024-01-01", "May 2024", remark="the first day"),
    date("Jan-24", "2024-01-01", "Feb-99"),
    date("2024M01", "2024-01-01", "2024M12"),
    date("01/2024", "2024-01-01", "12/2024"),
    date("2024Q1", "2024-01-01", "2024Q4", remark="the first day of the quarter"),
    date("2024-Q2", "2024-04-01", "2024-Q4"),
    date("Q3 2024", "2024-07-01", "Q1 2025"),
    date(
        "20240131",
        "2024-01-31",
        *("20240201", "20240301", "20240401", "20240501"),
        remark="if five differ, or the name has the word `date`",
    ),
    date("2024-01-31", "2024-01-31", "?", "1.2.2024", remark="several formats"),
    date("?", None, "2024-01-31", "2024-02-01"),
    date("n.a.", None, "31 Jan 2024", "1 Feb 2024"),
    duration("1:23:45", 5025.0, "0:59:01"),
    duration("-1:23:45", -5025.0, "0:59:01"),
    duration("12:30", 45000.0, "13:30", remark="hours and minutes"),
    duration("12:30", 750.0, "1:02:15", remark="minutes and seconds"),
    duration("59:30.5", 3570.5, "12:00.0"),
    duration("1:30 PM", 48600.0, "12:00 AM"),
    duration("12:05 a.m.", 300.0, "1:00 p.m."),
    duration("2 days 03:00:00", 183600.0, "0 days 00:00:01", remark="as pandas writes"),
    duration("-1 days +23:59:50", -10.0, "1 days 00:00:00"),
    duration("-", None, "1:23:45"),
    text("01/02/2024", "03/04/2024", remark="day or month first; a note says so"),
    text("01/02/03", "04/05/06"),
    text("1.2.10", "1.3.11", remark="versions"),
    text("2024-02-30", "2024-01-01", remark="there is no such day"),
    number("20240131", 20240131.0, "1"),
    text("2024-W05", "2024-W06"),
    text("16:9", "4:3"),
    text("12:75", "12:30"),
)
SPELLINGS = (*NUMBERS, *MISSING, *TEXT, *DATES)


def main() -> None:
    """Print the table of the document."""
    lines = [HEADER, "| --- | --- | --- | --- | --- | --- |"]
    lines += [spelling.row() for spelling in SPELLINGS]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
