"""Excel workbooks: which sheet is read, what its cells are, and what is rejected."""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from openpyxl import Workbook
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from rowcast.errors import InvalidTable
from rowcast.tables import ReadingOptions, Sample, formats
from tests.support.costs import outcome_of
from tests.support.excel import crafted, relations_of, workbook
from tests.support.sources import LIMITS, refusal_of_rows, source

TIME = dt.datetime(2024, 2, 1, 13, 30, 15)  # noqa: DTZ001 - Excel has no zones
DAY = dt.datetime(2024, 1, 31)  # noqa: DTZ001
NOON = dt.time(12, 0, 30)
ONE_AND_A_HALF_DAYS = dt.timedelta(hours=36)


def peek(content: bytes, sheet: str | None = None) -> Sample:
    return formats.peek(
        len(content),
        lambda offset, length: content[offset : offset + length],
        LIMITS,
        ReadingOptions(sheet=sheet),
    )


def read(
    tmp_path: Any, content: bytes, reading: ReadingOptions | None = None
) -> pa.Table:
    (tmp_path / "table").write_bytes(content)
    found = formats.open_file(tmp_path / "table", LIMITS, reading or ReadingOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
    return found.read()


CELLS: dict[str, tuple[list[Any], str, list[Any]]] = {
    "whole numbers": ([1, 2.0, None], "int64", [1, 2, None]),
    "numbers": ([1, 2.5, -1e20], "double", [1.0, 2.5, -1e20]),
    "booleans": ([True, False, None], "bool", [True, False, None]),
    "text": (["a", " ü ", None], "string", ["a", " ü ", None]),
    "dates": ([DAY, TIME, None], "timestamp[us]", [DAY, TIME, None]),
    "times of day": (
        [NOON, ONE_AND_A_HALF_DAYS],
        "duration[us]",
        [dt.timedelta(hours=12, seconds=30), ONE_AND_A_HALF_DAYS],
    ),
    "errors": ([1.5, "#DIV/0!", "#N/A"], "double", [1.5, None, None]),
    "marks": ([True, "NA", ""], "bool", [True, None, None]),
    "numbers stored as text": (["1", "2.50", "7 %"], "string", ["1", "2.50", "7 %"]),
    "mixed": (
        [1, 2.5, True, DAY, TIME, NOON, "x"],
        "string",
        ["1", "2.5", "true", "2024-01-31", "2024-02-01 13:30:15", "12:00:30", "x"],
    ),
    "no value": ([None, "NA"], "null", [None, None]),
}


@pytest.mark.parametrize(("cells", "type_name", "values"), CELLS.values(), ids=CELLS)
def test_cells_have_the_type_that_all_of_a_column_have(
    cells: list[Any], type_name: str, values: list[Any], tmp_path: Any
) -> None:
    content = workbook([["n", "x"], *([i, cell] for i, cell in enumerate(cells))])
    for table in (read(tmp_path, content), peek(content).rows):
        assert table is not None
        assert str(table.schema.field("x").type) == type_name
        assert table["x"].to_pylist() == values


def test_kinds_that_meet_late_in_a_column_are_text(tmp_path: Any) -> None:
    rows = [[float(i)] * 40 for i in range(20_000)]
    rows[-1][0] = "none of these"  # type: ignore[call-overload]
    content = workbook([[f"c{i}" for i in range(40)], *rows[:50], *rows[-50:]])
    assert read(tmp_path, content)["c0"].to_pylist()[-2:] == ["19998", "none of these"]


@pytest.mark.parametrize("has_1904", [False, True])
def test_dates_of_both_calendars_are_the_same(has_1904: bool, tmp_path: Any) -> None:
    def change(book: Workbook) -> None:
        if has_1904:
            book.epoch = CALENDAR_MAC_1904
        book.active.append([DAY, 1])
        book.active.append([TIME, 2])

    table = read(tmp_path, workbook([["d", "y"]], change))
    assert table["d"].to_pylist() == [DAY, TIME]


LAYOUTS: dict[str, tuple[list[list[Any]], list[str]]] = {
    "empty rows and columns around": (
        [[], [None, None], [None, "a", "b", None], [None, 1, 2], [], [None, 3, 4, ""]],
        ["a", "b"],
    ),
    "lines above the header": (
        [["Sales of 2024"], [], ["a", "b", "c"], [1, 2, 3]],
        ["a", "b", "c"],
    ),
    "no header": ([[1, "x"], [2, "y"]], ["column_1", "column_2"]),
    "index of pandas": ([[None, "a"], [0, 5], [1, 6]], ["Unnamed: 0", "a"]),
    "an empty column between": ([["a", None, "b"], [1, None, 2]], ["a", "b"]),
}


@pytest.mark.parametrize(("rows", "names"), LAYOUTS.values(), ids=LAYOUTS)
def test_table_is_found_in_its_sheet(
    rows: list[list[Any]], names: list[str], tmp_path: Any
) -> None:
    content = workbook(rows)
    assert read(tmp_path, content).column_names == names
    sample = peek(content)
    assert sample.schema.names == names
    is_titled = rows[0] == ["Sales of 2024"]
    assert sample.format.n_lines_skipped == (1 if is_titled else None)


def of_sheets(book: Workbook) -> None:
    book.active.title = "first"
    book.active.sheet_state = "hidden"
    book.create_chartsheet("chart")
    book.create_sheet("2024").append(["p", "q"])
    book["2024"].append([1, 2])
    book.create_sheet("last").append(["last"])
    book["last"].append([5])


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (None, "2024"),
        ("first", "first"),
        ("1", "first"),
        ("2024", "2024"),
        ("4", "last"),
    ],
)
def test_sheet_is_the_first_visible_one_or_that_of_a_name_or_number(
    asked: str | None, name: str, tmp_path: Any
) -> None:
    content = workbook([["a"], [1]], of_sheets)
    assert peek(content, asked).format.sheet == name
    source_ = formats.open_file
    (tmp_path / "table").write_bytes(content)
    found = source_(tmp_path / "table", LIMITS, ReadingOptions(sheet=asked))
    assert found.format.as_dict() == {
        "name": "excel",
        "has_header": True,
        "sheet": name,
    }


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("nope", "has no sheet 'nope'"),
        ("5", "has no sheet '5'"),
        ("chart", "has no table in 'chart', which is a chart"),
    ],
)
def test_sheet_that_is_no_table_is_refused_with_the_names_of_all(
    asked: str, reason: str
) -> None:
    with pytest.raises(InvalidTable) as caught:
        peek(workbook([["a"], [1]], of_sheets), asked)
    listed = "its sheets are 'first', 'chart', '2024', 'last'."
    assert caught.value.detail == f"The workbook {reason}; {listed}"


def merged(book: Workbook) -> None:
    book.active.merge_cells("B1:C1")


def without_tables(book: Workbook) -> None:
    book.create_chartsheet("chart")
    del book["Sheet"]


REFUSED: dict[str, tuple[bytes, str]] = {
    "no cell": (workbook([]), "The sheet 'Sheet' is empty."),
    "a header": (workbook([["a", "b"]]), "holds a header and no rows"),
    "no name": (workbook([["a", None], [1, 2]]), "position 2 of 2 (B) has no name."),
    "merged header": (
        workbook([["a", "b", None], [1, 2, 3]], merged),
        "position 3 of 3 (C) has no name: its cell is merged",
    ),
    "charts alone": (workbook([["a"]], without_tables), "no sheet with a table"),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_sheet_without_a_table_is_refused(
    content: bytes, reason: str, tmp_path: Any
) -> None:
    assert reason in refusal_of_rows(tmp_path, content).detail
    with pytest.raises(InvalidTable) as caught:
        peek(content)
    assert reason in caught.value.detail


def cell(place: str, value: str, kind: str = "n") -> str:
    return f'<c r="{place}" t="{kind}"><v>{value}</v></c>'


HEADER = f"<row>{cell('A1', 'x', 'str')}{cell('B1', 'y', 'str')}</row>"
BODY = f"<row>{cell('A2', '1')}{cell('B2', '2')}</row>"
PLAIN = (HEADER + BODY).encode()
UNPLACED = b"<row><c t='str'><v>x</v></c><c t='str'><v>y</v></c></row>" + (
    b"<row><c><v>1</v></c><c><v>2</v></c></row>"
)


@pytest.mark.parametrize(
    "content",
    [
        crafted(PLAIN),
        crafted(UNPLACED),
        crafted(PLAIN, compression=zipfile.ZIP_STORED),
        crafted(PLAIN.replace(b"<", b"<s:").replace(b"<s:/", b"</s:")),
        crafted(PLAIN, b'<sst uniqueCount="99999999999999"><si><t/></si></sst>'),
        crafted(PLAIN.replace(b"</row>", b"</row><row r='1048576'/>", 1)),
        crafted(PLAIN.replace(b"<v>1<", b"<f>SUM(A9:A12)</f><v>1<")),
        crafted(PLAIN, others={"xl/media/picture.png": bytes(10)}),
    ],
    ids=[
        "plain",
        "cells without places",
        "stored",
        "prefixes",
        "a number of texts that is not true",
        "a row that is formatted",
        "a formula",
        "other parts",
    ],
)
def test_unusual_workbook_is_read(content: bytes, tmp_path: Any) -> None:
    assert read(tmp_path, content).to_pydict() == {"x": [1], "y": [2]}
    assert peek(content).schema.names == ["x", "y"]


def test_value_of_an_error_that_is_new_to_excel_is_missing(tmp_path: Any) -> None:
    failed = f"<row>{cell('A3', '#SPILL!', 'e')}{cell('B3', '5')}</row>".encode()
    table = read(tmp_path, crafted(PLAIN + failed))
    assert table["x"].to_pylist() == [1, None]


LONG_TEXT = b"<sst><si><t>%b</t></si></sst>" % (b"x" * 10_000)
SHARED = "".join(
    f"<row>{cell(f'A{i}', '0', 's')}{cell(f'B{i}', '1')}</row>" for i in range(2, 900)
)
ODDLY_SHARED = SHARED.replace("<v>0</v>", "<v>5</v><v>0</v>")
NARROW = replace(LIMITS, max_excel_cells=100_000, max_excel_bytes=1 << 20)
OVER: dict[str, tuple[bytes, str]] = {
    "a cell far away": (
        crafted(PLAIN + f"<row>{cell('XFD1048576', '1')}</row>".encode()),
        "MAX_EXCEL_CELLS",
    ),
    "rows without places": (
        crafted(UNPLACED * 200 + b"<c><v>1</v></c>" * 1_000),
        "CELLS",
    ),
    "a text for many cells": (
        crafted((HEADER + SHARED).encode(), LONG_TEXT),
        "MAX_EXCEL_BYTES",
    ),
    "a text for many odd cells": (
        crafted((HEADER + ODDLY_SHARED).encode(), LONG_TEXT),
        "MAX_EXCEL_BYTES",
    ),
    "much text": (
        crafted(
            PLAIN
            + b"".join(
                b"<row>%b</row>" % cell(f"A{i}", "1").encode() for i in range(3, 40_000)
            )
        ),
        "MAX_EXCEL_BYTES",
    ),
    "a long cell": (
        crafted(PLAIN + cell("C3", "x" * 5_000_000, "str").encode()),
        "too long",
    ),
    "tags that are not clear": (
        crafted(PLAIN + b"<c s='>' r='XFD1'><v>1</v></c>"),
        "damaged",
    ),
    "a cell many times": (crafted(PLAIN + BODY.encode() * 2), "damaged"),
    "a row with an odd number": (
        crafted(PLAIN + b"<row r='ZZ900000'><c><v>1</v></c></row>"),
        "damaged",
    ),
    "many texts": (crafted(PLAIN, b"<sst>%b</sst>" % (b"<si/>" * 100_001)), "CELLS"),
    "texts that are not well-formed": (
        crafted(PLAIN, b"<sst><si><t>a</si><si>b</t></si></sst>"),
        "damaged",
    ),
    "entities": (
        crafted(
            PLAIN,
            others={"xl/workbook.xml": b"<!DOCTYPE a [<!ENTITY b 'c'>]><workbook/>"},
        ),
        "entities",
    ),
    "a missing sheet": (
        crafted(PLAIN, others={"xl/_rels/workbook.xml.rels": b"<Relationships/>"}),
        "damaged",
    ),
}


@pytest.mark.parametrize(("content", "reason"), OVER.values(), ids=OVER)
def test_workbook_that_promises_too_much_is_refused(
    content: bytes, reason: str, tmp_path: Any
) -> None:
    assert reason in refusal_of_rows(tmp_path, content, NARROW).detail
    assert outcome_of(content, tmp_path) in ("table", "invalid_table")


def test_sheet_over_a_limit_is_to_be_saved_as_another_format(tmp_path: Any) -> None:
    narrow = replace(LIMITS, max_excel_cells=3)
    error = refusal_of_rows(tmp_path, crafted(PLAIN), narrow)
    assert error.detail == (
        "The sheet reaches to row 2 and column 2; the limit is 3 cells (MAX_EXCEL_CELLS)."
    )
    assert error.hint.startswith("Save the sheet as CSV or Parquet")


def test_directory_that_is_too_long_is_not_read(tmp_path: Any) -> None:
    many = {f"part{'x' * 200}{i}": b"" for i in range(5_000)}
    assert (
        "zip or Excel" in refusal_of_rows(tmp_path, crafted(PLAIN, others=many)).detail
    )


def test_look_reads_the_first_rows_of_a_long_sheet(tmp_path: Any) -> None:
    n_rows = 30_000
    rows = "".join(
        f"<row>{cell(f'A{i}', str(i))}{cell(f'B{i}', '1')}</row>"
        for i in range(2, n_rows + 2)
    )
    content = crafted((HEADER + rows).encode())
    sample = peek(content)
    assert 0 < sample.n_rows_seen < n_rows
    assert sample.n_rows_expected(len(content)) == pytest.approx(n_rows, rel=0.1)
    assert source(tmp_path, content).n_rows == n_rows


def test_options_that_do_not_apply_are_refused_by_name() -> None:
    content = workbook([["a"], [1]])
    check: Callable[..., Any] = formats.peek
    with pytest.raises(Exception, match="'delimiter' does not apply to Excel"):
        check(
            len(content),
            lambda o, n: content[o : o + n],
            LIMITS,
            ReadingOptions(delimiter=";"),
        )


def test_header_and_missing_overrule_what_is_found(tmp_path: Any) -> None:
    content = workbook([["a", "b"], ["x", "none"]])
    reading = ReadingOptions(header=False, missing=["none"])
    assert read(tmp_path, content, reading).to_pydict() == {
        "column_1": ["a", "x"],
        "column_2": ["b", None],
    }


def test_row_of_a_sheet_without_a_header_is_not_a_title(tmp_path: Any) -> None:
    content = workbook([["k", None, None], ["a", "b", "c"], ["d", "e", "f"]])
    table = read(tmp_path, content, ReadingOptions(header=False))
    assert table["column_1"].to_pylist() == ["k", "a", "d"]


def test_duration_that_is_too_long_is_refused(tmp_path: Any) -> None:
    def change(book: Workbook) -> None:
        book.active["A3"].number_format = "[h]:mm"

    content = workbook([["x", "y"], [1, 2], [1e15, 3]], change)
    assert "damaged" in refusal_of_rows(tmp_path, content).detail
    with pytest.raises(InvalidTable, match="damaged"):
        peek(content)


def test_look_leaves_out_texts_that_are_far_behind(tmp_path: Any) -> None:
    n_texts = 18_000
    texts = b"".join(b"<si><t>%d%b</t></si>" % (i, b"x" * 1000) for i in range(n_texts))
    rows = "".join(
        f"<row>{cell(f'A{i + 2}', str(n_texts - 1 - i), 's')}{cell(f'B{i + 2}', '1')}</row>"
        for i in range(n_texts)
    )
    content = crafted((HEADER + rows).encode(), b"<sst>%b</sst>" % texts)
    shown = peek(content).rows
    assert shown is not None
    assert shown["x"][0].as_py() is None
    assert shown["x"][-1].as_py().startswith(str(n_texts - shown.num_rows))
    assert read(tmp_path, content)["x"][0].as_py().startswith("17999x")


def test_many_formats_are_read(tmp_path: Any) -> None:
    formats_ = b"<styleSheet><cellXfs>%b</cellXfs></styleSheet>" % (
        b'<xf numFmtId="0"/>' * 300_000
    )
    relations = relations_of(
        ("a", "worksheet", "worksheets/sheet1.xml"), ("c", "styles", "styles.xml")
    )
    others = {"xl/_rels/workbook.xml.rels": relations, "xl/styles.xml": formats_}
    content = crafted(PLAIN, others=others)
    assert peek(content).schema.names == ["x", "y"]
    assert read(tmp_path, content).to_pydict() == {"x": [1], "y": [2]}
