"""Small files that are made to cost much: each is read, or refused, for little."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rowcast.errors import InvalidTable
from tests.support.costs import LIMITS, peek_cost, peeked, read_cost
from tests.support.files import arrow_file, arrow_stream, parquet

# The files need a tenth of these. An inspection may take 3 s and about 500 MB.
MAX_S = 3.0
MAX_BYTES = 300_000_000
N_COLUMNS = 9_999
WIDE_ROW = json.dumps({f"c{i}": 1 for i in range(N_COLUMNS)}).encode() + b"\n"


def wide_csv(cell: bytes, delimiter: bytes, n_rows: int) -> bytes:
    head = delimiter.join(b"c%d" % i for i in range(N_COLUMNS))
    row = delimiter.join([cell] * N_COLUMNS)
    return head + b"\n" + (row + b"\n") * n_rows


HOSTILE: dict[str, Callable[[], bytes]] = {
    "digits that end in a letter": lambda: b"x;y\n" + b"1" * 100_000 + b"a;1\n2;0\n",
    "fraction of a second without an end": (
        lambda: b"x\n2024-01-01 00:00:00." + b"1" * 100_000 + b"a\n2024-01-01\n"
    ),
    "blanks that end in a letter": lambda: b"x;y\n" + b" " * 100_000 + b"a;1\n2;0\n",
    "decimal comma with many digits": (
        lambda: b"x;y\n" + b"1" * 100_000 + b"a;1\n2,5;0\n"
    ),
    "JSON string of quotes that is not closed": lambda: b'{"a' + b'\\"' * 600_000,
    "one wide row, then empty ones": lambda: WIDE_ROW + b"{}\n" * 20_000,
    "a member in each row, another each time": (
        lambda: b"".join(b'{"c%d":1}\n' % (i % N_COLUMNS) for i in range(40_000))
    ),
    "empty objects": lambda: b'{"x":1}\n' + b"{}\n" * 340_000,
    "nested lists": (
        lambda: (b'{"x":' + b"[" * 500 + b"]" * 500 + b',"y":1}\n') * 1_000
    ),
    "lists without an end": lambda: b'{"x":' + b"[" * 900_000 + b"\n",
    "number of a million digits": lambda: b'{"x":' + b"1" * 1_000_000 + b"}\n",
    "fraction of a million digits": lambda: b'{"x":1.' + b"1" * 1_000_000 + b"}\n",
    "wide CSV of nothing": lambda: wide_csv(b"", b",", 100),
    "wide CSV of numbers": lambda: wide_csv(b"1", b";", 50),
    "wide CSV of words": lambda: wide_csv(b"a", b",", 50),
    "header of 500,000 columns": lambda: b"c," * 500_000,
    "all delimiters in each row": lambda: (b"1,;\t|" * 1_000 + b"\n") * 200,
    "rows of a wrong length": lambda: b"x,y\n1,2\n" + b"1\n" * 500_000,
    "lines of blanks": lambda: b"x,y\n1,2\n" + b" \n" * 500_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_look_at_a_hostile_text_costs_little(name: str) -> None:
    error, cpu_s, n_bytes = peek_cost(HOSTILE[name]())
    assert "Error" not in error
    assert cpu_s < MAX_S
    assert n_bytes < MAX_BYTES


def test_bad_rows_and_lines_of_blanks_are_counted_up_to_a_limit() -> None:
    bad = peek_cost(HOSTILE["rows of a wrong length"]()).error
    assert bad.startswith("Row 1 has 1 field, but the table has 2 columns.")
    assert bad.endswith("(over 10,000 such rows)")
    blank = peek_cost(HOSTILE["lines of blanks"]()).error
    assert blank == "The table has over 100,000 lines of blanks."


def test_sparse_rows_cost_what_they_hold(tmp_path: Path) -> None:
    content = WIDE_ROW + b'{"c1":1}\n{"c2":0}\n' * 10_000
    error, cpu_s, n_bytes = read_cost(content, tmp_path)
    assert error == ""
    assert cpu_s < 20
    # Written out, they are 1.6 GB.
    assert n_bytes < 2 * MAX_BYTES


def test_sparse_rows_over_the_limit_are_refused_before_they_are_read(
    tmp_path: Path,
) -> None:
    content = WIDE_ROW + b"{}\n" * 100_000
    error, cpu_s, n_bytes = read_cost(content, tmp_path)
    assert "MAX_TABLE_BYTES" in error
    assert cpu_s < MAX_S
    assert n_bytes < MAX_BYTES


def test_sparse_cells_over_the_limit_are_refused_by_a_look() -> None:
    error, cpu_s, n_bytes = peek_cost(WIDE_ROW + b"{}\n" * 300_000)
    assert "MAX_CELLS" in error
    assert cpu_s < MAX_S
    assert n_bytes < MAX_BYTES


def test_look_shows_fewer_rows_of_more_columns() -> None:
    sample = peeked(WIDE_ROW + b"{}\n" * 20_000)
    assert sample.rows is not None
    assert sample.rows.num_rows == 200
    assert sample.n_rows_expected(len(WIDE_ROW) + 60_000) == 20_001


def of_row_groups(n_columns: int, n_groups: int) -> bytes:
    data = pa.table({f"c{i}": pa.array([1.5]) for i in range(n_columns)})
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, data.schema) as writer:
        for _ in range(n_groups):
            writer.write_table(data)
    return buffer.getvalue()


def test_footer_over_a_limit_is_refused_before_it_is_decoded() -> None:
    # A footer whose length alone is true.
    n_footer = 33_000_000
    footer = bytes(n_footer) + n_footer.to_bytes(4, "little") + b"PAR1"
    error, cpu_s, n_bytes = peek_cost(b"PAR1" + footer)
    assert "MAX_FOOTER_BYTES" in error
    assert cpu_s < MAX_S
    assert n_bytes < MAX_BYTES


@pytest.mark.parametrize("write", [arrow_file, arrow_stream])
def test_schema_over_a_limit_is_refused(write: Callable[[pa.Table], bytes]) -> None:
    content = write(pa.table({"c" * 100_000: [1]}))
    with pytest.raises(InvalidTable, match="MAX_FOOTER_BYTES"):
        peeked(content, dataclasses.replace(LIMITS, max_footer_bytes=50_000))


def test_many_row_groups_of_many_columns_are_refused() -> None:
    narrow = dataclasses.replace(LIMITS, max_column_chunks=99)
    with pytest.raises(InvalidTable) as caught:
        peeked(of_row_groups(10, 10), narrow)
    assert caught.value.detail == (
        "The file has 10 row groups of 10 columns; the limit is 99 column chunks "
        "(MAX_COLUMN_CHUNKS)."
    )
    assert caught.value.hint.startswith("Write larger row groups.")


@pytest.mark.parametrize(("n_columns", "n_groups"), [(10_000, 1), (200, 100)])
def test_wide_table_of_row_groups_is_looked_at_for_little(
    n_columns: int, n_groups: int
) -> None:
    error, cpu_s, n_bytes = peek_cost(of_row_groups(n_columns, n_groups))
    assert error == ""
    assert cpu_s < MAX_S
    assert n_bytes < MAX_BYTES


@pytest.mark.parametrize("write", [parquet, arrow_file, arrow_stream])
@pytest.mark.parametrize("n_levels", [16, 17, 40])
def test_column_that_is_nested_too_deeply_is_refused(
    write: Callable[[pa.Table], bytes], n_levels: int
) -> None:
    found: pa.DataType = pa.int64()
    for level in range(n_levels):
        found = pa.list_(found) if level % 2 else pa.struct([("a", found)])
    content = write(pa.table({"x": pa.array([None], found), "y": [1]}))
    if n_levels == 16:
        assert peeked(content).schema.names == ["x", "y"]
        return
    with pytest.raises(InvalidTable, match="MAX_NESTING"):
        peeked(content)
