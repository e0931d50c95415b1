"""Small files of each format with a few bytes changed: each is a table or an error with a code."""

from __future__ import annotations

import gzip
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rowcast.errors import all_errors
from tests.support.costs import outcome_of
from tests.support.excel import crafted, excel
from tests.support.files import arrow_file, arrow_stream, json_lines, parquet, zstd

TABLE = pa.table(
    {
        "n": pa.array([1, 2, None] * 7),
        "x": pa.array([1.5, None, -2.5] * 7),
        "t": pa.array(["a", "bb", None] * 7),
        "v": pa.array(["longer than a view holds", "", None] * 7, pa.string_view()),
        "c": pa.array(["u", "v", "u"] * 7).dictionary_encode(),
        "d": pa.array([datetime(2026, 1, 31, tzinfo=UTC), None, None] * 7),
        "b": pa.array([True, False, None] * 7),
        "l": pa.array([[1, 2], None, []] * 7),
        "s": pa.array([{"q": 1}, None, {"q": 2}] * 7),
        "y": pa.array([0, 1, 0] * 7),
    }
)
DELTAS = {"n": "DELTA_BINARY_PACKED", "t": "DELTA_BYTE_ARRAY"}
CSV = b"n,x,t,d\n" + b'1,"1,5",a,2026-01-31\n2,,"b\n""b",\n' * 10
ROWS = [{"n": 1, "t": "a\u00e9", "b": True}, {"n": 2.5, "t": None}] * 10
SHEET = (
    b'<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>'
    b'<row r="2"><c r="A2" s="1"><v>4.5</v></c><c r="B2" t="b"><v>1</v></c></row>'
    b'<row r="3"><c r="A3" t="e"><v>#N/A</v></c><c r="B3" t="s"><v>1</v></c></row>'
)
TEXTS = b'<sst count="2" uniqueCount="2"><si><t>x</t></si><si><t>y</t></si></sst>'
FILES = {
    "parquet": parquet(TABLE),
    "parquet of plain pages": parquet(TABLE, use_dictionary=False, compression="none"),
    "parquet of deltas": parquet(
        TABLE.select(list(DELTAS)),
        use_dictionary=False,
        column_encoding=DELTAS,
        data_page_version="2.0",
        compression="zstd",
    ),
    "parquet of row groups": parquet(TABLE, row_group_size=5, write_page_index=True),
    "arrow file": arrow_file(TABLE),
    "compressed arrow file": arrow_file(TABLE, "lz4"),
    "arrow stream": arrow_stream(TABLE),
    "csv": CSV,
    "csv in utf-16": CSV.decode().encode("utf-16"),
    "csv in gzip": gzip.compress(CSV, mtime=0),
    "csv in zstd": zstd(CSV),
    "json lines": json_lines(*ROWS),
    "excel": excel(TABLE.select(["n", "x", "t", "b", "y"])),
    # Its bytes are not behind a checksum's back: the XML itself is changed.
    "excel, not compressed": crafted(SHEET, TEXTS, zipfile.ZIP_STORED),
}
OUTCOMES = {"table", *(error.code for error in all_errors())} - {"internal_error"}
TELLING = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80"]


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a file in which some bytes are others, are missing or stand there twice."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        # Places are drawn from both ends: headers are at one, footers at the other.
        place = draw(st.integers(-len(content), len(content) - 1))
        start = place % len(content)
        stop = start + draw(st.integers(0, 4))
        copied = content[-start : 8 - start]
        news = st.sampled_from([*TELLING, bytes(copied)]) | st.binary(max_size=4)
        content[start:stop] = draw(news)
        content = content or bytearray(whole)
    return bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_file_is_a_table_before_it_is_changed(name: str, tmp_path: Path) -> None:
    assert outcome_of(FILES[name], tmp_path) == "table"


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_changed_file_is_a_table_or_an_error_with_a_code(name: str) -> None:
    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=mutated(FILES[name]))
    def check(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            assert outcome_of(content, Path(folder)) in OUTCOMES

    check()
