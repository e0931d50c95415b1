"""How CSV files are written and read."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.files import (
    zstd,
)
from tests.support.sources import (
    FRAME,
    LIMITS,
    peek,
    refusal_of_rows,
    source,
)

TEXT = {
    "a": ["1.5", None, "3.25"],
    "b": ["x", 'y "z"', "ü, ö\nnext"],
    "c": ["True", "False", "True"],
}
CSV_FILES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "comma": (
        FRAME.to_csv(index=False).encode(),
        {"encoding": "utf-8", "delimiter": ",", "decimal": "."},
    ),
    "semicolon and Windows-1252": (
        FRAME.to_csv(index=False, sep=";").encode("cp1252"),
        {"encoding": "cp1252", "delimiter": ";"},
    ),
    "tab": (FRAME.to_csv(index=False, sep="\t").encode(), {"delimiter": "\t"}),
    "bar": (FRAME.to_csv(index=False, sep="|").encode(), {"delimiter": "|"}),
    "byte order mark": (
        FRAME.to_csv(index=False).encode("utf-8-sig"),
        {"encoding": "utf-8"},
    ),
    "UTF-16 LE": (
        FRAME.to_csv(index=False).encode("utf-16"),
        {"encoding": "utf-16-le"},
    ),
    "UTF-16 BE": (
        b"\xfe\xff" + FRAME.to_csv(index=False).encode("utf-16-be"),
        {"encoding": "utf-16-be"},
    ),
    "no final newline": (FRAME.to_csv(index=False).encode().rstrip(), {}),
    "blank lines": (b"\n\n" + FRAME.to_csv(index=False).encode() + b"\n  \n", {}),
    "gzip": (
        gzip.compress(FRAME.to_csv(index=False).encode()),
        {"compression": "gzip"},
    ),
    "gzip of two members": (
        b"".join(
            map(
                gzip.compress,
                (
                    FRAME.to_csv(index=False).encode()[:20],
                    FRAME.to_csv(index=False).encode()[20:],
                ),
            )
        ),
        {"compression": "gzip"},
    ),
    "zstd of two frames": (
        b"".join(
            map(
                zstd,
                (
                    FRAME.to_csv(index=False).encode()[:20],
                    FRAME.to_csv(index=False).encode()[20:],
                ),
            )
        ),
        {"compression": "zstd"},
    ),
    "UTF-16 in gzip": (
        gzip.compress(FRAME.to_csv(index=False).encode("utf-16")),
        {"encoding": "utf-16-le"},
    ),
}


@pytest.mark.parametrize(("content", "expected"), CSV_FILES.values(), ids=CSV_FILES)
def test_csv_is_read_as_the_text_that_it_is(
    content: bytes, expected: dict[str, Any], tmp_path: Path
) -> None:
    sample, found = peek(content), source(tmp_path, content)
    assert found.read().to_pydict() == TEXT
    assert sample.rows is not None
    assert sample.rows.to_pydict() == TEXT
    assert set(found.schema.types) == {pa.string()}
    assert sample.format == found.format
    assert (
        found.format.as_dict().items()
        >= {"name": "csv", "has_header": True, **expected}.items()
    )


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_csv_takes_any_line_end(end: str, tmp_path: Path) -> None:
    content = end.join(["a,b", "1,2", "3,4"]).encode()
    assert source(tmp_path, content).read().to_pydict() == {
        "a": ["1", "3"],
        "b": ["2", "4"],
    }


def test_csv_row_may_lie_across_any_blocks(tmp_path: Path) -> None:
    rows = [f'{i},"{"é" * (i % 50)}\r\n{i}"' for i in range(100_000)]
    content = ("\r\n".join(["number,text", *rows])).encode()
    table = source(tmp_path, content).read()
    assert len(content) > 2 * LIMITS.max_row_bytes
    assert table["number"].to_pylist() == [str(i) for i in range(100_000)]
    assert table["text"][-1].as_py() == f"{'é' * 49}\r\n99999"


def test_quoted_values_are_never_missing(tmp_path: Path) -> None:
    content = b'a,b\n"",""\n"NA",NA\n,null\n'
    assert source(tmp_path, content).read().to_pydict() == {
        "a": ["", "NA", None],
        "b": ["", None, None],
    }


def test_csv_with_all_fields_quoted(tmp_path: Path) -> None:
    content = FRAME.to_csv(index=False, quoting=csv.QUOTE_ALL).encode()
    assert source(tmp_path, content).read()["a"].to_pylist() == ["1.5", "", "3.25"]


def test_late_bytes_decide_the_encoding_of_the_whole(tmp_path: Path) -> None:
    content = b"a,b\n" + b"1,x\n" * 400_000 + "2,ü\n".encode("cp1252")
    assert peek(content).format.encoding == "utf-8"
    found = source(tmp_path, content)
    assert found.format.encoding == "cp1252"
    assert found.read()["b"][-1].as_py() == "ü"


def test_sample_may_end_within_a_character() -> None:
    content = b"name\n" + "ü\n".encode() * 500_000
    assert peek(content).format.encoding == "utf-8"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b\n1,x\n2,y\n", ["a", "b"]),
        ("a,b\nx,y\n", ["a", "b"]),
        ("1,x\n2,y\n", ["column_1", "column_2"]),
        ("2020-01-31,x\n2020-02-01,y\n", ["column_1", "column_2"]),
        ("true,x\nfalse,y\n", ["column_1", "column_2"]),
        (",1.5\n2,2.5\n", ["column_1", "column_2"]),
        ("0,1\n1.5,2.5\n", ["0", "1"]),
        (",0,1\n0,1.5,2.5\n", ["Unnamed: 0", "0", "1"]),
        (",a\n0,1\n", ["Unnamed: 0", "a"]),
        (" a , b\n1,2\n", [" a ", " b"]),
        ("a,a\n1,2\n", ["a", "a"]),
        ("größe,日本\n1,2\n", ["größe", "日本"]),
        ("[a],[b]\n1,2\n", ["[a]", "[b]"]),
        ("PAR1,ORC,ARROW1\n1,2,3\n", ["PAR1", "ORC", "ARROW1"]),
        ('"two\nlines",b\n1,2\n', ["two\nlines", "b"]),
    ],
)
def test_header_is_told_from_data(text: str, names: list[str]) -> None:
    assert peek(text.encode()).schema.names == names


@pytest.mark.parametrize(
    ("text", "delimiter", "decimal"),
    [
        ("a;b\n1,5;2\n3;4\n", ";", ","),
        ("1,5;2,5\n3,5;4,5\n", ";", ","),
        ("a\tb\n1,5\tx\n", "\t", ","),
        ("a;b\n1,5;2.5\n", ";", "."),
        ("a;b\n1,5;x\n2,x;y\n", ";", "."),
        ("a;b\n1;2\n", ";", "."),
        ("a;b\n1.234,56;1.500\n12,5;2.500\n", ";", ","),
        ("a,b,c\n1|2,x,y\n3|4,x,y\n", ",", "."),
        ('a,b\n"x;y",2\n', ",", "."),
        ("x\n1\n2\n", ",", "."),
        ("word\nhello\ngood day\n", ",", "."),
    ],
)
def test_delimiter_and_decimal_sign_are_found(
    text: str, delimiter: str, decimal: str
) -> None:
    found = peek(text.encode()).format
    assert (found.delimiter, found.decimal) == (delimiter, decimal)


def test_one_column_without_its_empty_lines(tmp_path: Path) -> None:
    assert source(tmp_path, b"x\n1\n\n2\n").read().to_pydict() == {"x": ["1", "2"]}


def test_numbers_in_text_stay_exactly_as_written(tmp_path: Path) -> None:
    values = ["0.1", "1e-320", "9007199254740993", " 7", "1.50"]
    content = ("x,y\n" + "".join(f"{value},a\n" for value in values)).encode()
    assert source(tmp_path, content).read()["x"].to_pylist() == values


def test_rows_of_a_wrong_length_are_all_counted_and_named(tmp_path: Path) -> None:
    rows = ["1,2"] * 300_000
    rows[5], rows[299_999] = "secret", "4,5,6"
    error = refusal_of_rows(tmp_path, "\n".join(["a,b", "", *rows]).encode())
    assert (
        error.detail == "Row 5 has 1 field, but the table has 2 columns. (2 such rows)"
    )
    assert error.errors[1] == "Row 299999 has 3 fields, but the table has 2 columns."
    assert "secret" not in str(error.problem(None))
