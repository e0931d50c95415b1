"""What a file is, how its rows are read, and what is refused. Files are made as their usual writers
do."""

from __future__ import annotations

import base64
import contextlib
import csv
import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from rowcast.errors import InvalidTable
from rowcast.tables import formats
from rowcast.tables.formats import Format, Limits, Sample, Source
from tests.support import ROOT
from tests.support.files import (
    arrow_file,
    arrow_stream,
    json_lines,
    parquet,
    zipped,
    zstd,
)

LIMITS = Limits(
    max_rows=1_000_000,
    max_columns=1_000,
    max_cells=100_000_000,
    max_cell_bytes=1 << 20,
    max_unpacked_bytes=64 << 20,
    max_table_bytes=256 << 20,
)
FRAME = pd.DataFrame(
    {
        "a": [1.5, None, 3.25],
        "b": ["x", 'y "z"', "ü, ö\nnext"],
        "c": [True, False, True],
    }
)
TEXT = {
    "a": ["1.5", None, "3.25"],
    "b": ["x", 'y "z"', "ü, ö\nnext"],
    "c": ["True", "False", "True"],
}
TABLE = pa.table(
    {
        "i": pa.array([1, None, 3] * 20),
        "s": ["x", "yy", None] * 20,
        "v": pa.array(["x", None, "z" * 20] * 20, pa.string_view()),
        "d": pa.array(["u", "w", "u"] * 20).dictionary_encode(),
        "a.b": [0.5, 1.5, 2.5] * 20,
    }
)


def peek(content: bytes, limits: Limits = LIMITS) -> Sample:
    return formats.peek(
        len(content), lambda offset, length: content[offset : offset + length], limits
    )


def source(tmp_path: Path, content: bytes, limits: Limits = LIMITS) -> Source:
    path = tmp_path / "table"
    path.write_bytes(content)
    return formats.open_file(path, limits)


def refusal(check: Callable[..., Any], *arguments: Any) -> InvalidTable:
    with pytest.raises(InvalidTable) as caught:
        check(*arguments)
    return caught.value


def refusal_of_rows(
    tmp_path: Path, content: bytes, limits: Limits = LIMITS
) -> InvalidTable:
    return refusal(lambda: source(tmp_path, content, limits).read())


# What is taken

BINARY = {
    "parquet": parquet(TABLE),
    "feather": arrow_file(TABLE),
    "feather with lz4": arrow_file(TABLE, "lz4"),
    "feather with zstd": arrow_file(TABLE, "zstd"),
    "stream": arrow_stream(TABLE),
}


@pytest.mark.parametrize("content", BINARY.values(), ids=BINARY)
def test_columnar_file_keeps_its_values_and_views_become_strings(
    content: bytes, tmp_path: Path
) -> None:
    found = source(tmp_path, content)
    assert found.read().to_pydict() == TABLE.to_pydict()
    assert [str(t) for t in found.schema.types[1:3]] == ["string", "string"]
    assert pa.types.is_dictionary(found.schema.field("d").type)
    assert found.n_rows == TABLE.num_rows
    assert peek(content).schema.equals(found.schema)


@pytest.mark.parametrize(
    "content", [*BINARY.values(), FRAME.to_csv().encode()], ids=[*BINARY, "csv"]
)
def test_batches_hold_the_wanted_columns_in_the_order_of_the_file(
    content: bytes, tmp_path: Path
) -> None:
    found = source(tmp_path, content)
    wanted = [found.schema.names[2], found.schema.names[0]]
    batches = list(found.batches(wanted, max_rows=2))
    assert {tuple(batch.schema.names) for batch in batches} == {(wanted[1], wanted[0])}
    assert max(batch.num_rows for batch in batches) == 2
    assert pa.Table.from_batches(batches).equals(
        found.read(wanted).replace_schema_metadata(None)
    )


def test_odd_columns_of_parquet_are_told_apart(tmp_path: Path) -> None:
    table = pa.table(
        [[{"x": 1}] * 3, [2] * 3, ["k"] * 3, [3] * 3], names=["a", "a.x", "s", "s"]
    )
    found = source(tmp_path, parquet(table, row_group_size=1))
    assert found.read(["a.x"]).to_pydict() == {"a.x": [2] * 3}
    assert found.read().schema.names == ["a", "a.x", "s", "s"]
    assert [column.to_pylist() for column in found.read(["s"]).columns] == [
        ["k"] * 3,
        [3] * 3,
    ]
    assert [batch.num_rows for batch in found.batches(["s"])] == [3]


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


def test_manifest_form_leaves_out_what_does_not_apply() -> None:
    assert Format("parquet").as_dict() == {"name": "parquet"}
    assert (
        Format("csv", None, "utf-8", ",", ".", False).as_dict()["has_header"] is False
    )


# JSON Lines


def test_json_lines_get_the_types_of_their_values(tmp_path: Path) -> None:
    rows = [
        {"i": 1, "f": 1, "s": "x", "b": True, "n": None},
        {"f": 2.5, "late": "y", "i": None},
    ]
    found = source(tmp_path, json_lines(*rows))
    assert dict(zip(found.schema.names, map(str, found.schema.types), strict=True)) == {
        "i": "int64",
        "f": "double",
        "s": "string",
        "b": "bool",
        "n": "null",
        "late": "string",
    }
    assert found.read().to_pylist()[1] == {
        "i": None,
        "f": 2.5,
        "s": None,
        "b": None,
        "n": None,
        "late": "y",
    }
    assert found.n_rows == 2


@pytest.mark.parametrize(
    "pack",
    [
        lambda c: c,
        gzip.compress,
        zstd,
        lambda c: b"\xef\xbb\xbf" + c,
        lambda c: c.replace(b"\n", b"\r\n"),
    ],
)
def test_json_lines_may_be_packed_or_marked(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    content = pack(json_lines({"a": 1}, {"a": 2}))
    assert source(tmp_path, content).read().to_pydict() == {"a": [1, 2]}
    assert peek(content).format.name == "jsonl"


def test_every_batch_of_json_lines_has_the_types_of_the_whole(tmp_path: Path) -> None:
    rows = [{"a": None}] * 40_000 + [{"a": 1}] * 40_000 + [{"a": 0.5, "b": "x"}]
    batches = list(source(tmp_path, json_lines(*rows)).batches())
    assert len(batches) > 2
    assert {str(batch.schema) for batch in batches} == {"a: double\nb: string"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["9223372036854775807", "-9223372036854775808"], "int64"),
        (["18446744073709551615", "0"], "uint64"),
        (["18446744073709551615", "-1"], "double"),
        (["18446744073709551616"], "double"),
        (["9007199254740993", "0.5"], "double"),
        (["NaN", "-Infinity"], "double"),
        (["1e999"], "double"),
        (["1" + "0" * 400, "NaN"], "double"),
    ],
)
def test_json_numbers_get_a_type_that_holds_them(
    values: list[str], expected: str, tmp_path: Path
) -> None:
    content = "".join(f'{{"a": {value}}}\n' for value in values).encode()
    table = source(tmp_path, content).read()
    assert str(table.schema.field("a").type) == expected
    assert table.num_rows == len(values)


def test_mixed_types_are_named_with_the_rarer_one(tmp_path: Path) -> None:
    rows: list[Any] = [{"a": i, "b": "x"} for i in range(50_000)]
    rows[30_000]["a"] = rows[40_000]["a"] = "secret"
    rows[49_999]["b"] = True
    error = refusal(source, tmp_path, json_lines(*rows))
    assert error.errors == [
        "The column 'a' mixes numbers with text: text in 2 rows, first in row 30000.",
        "The column 'b' mixes text with booleans: booleans in 1 row, first in row 49999.",
    ]


def test_nested_values_are_lists_and_structs_in_the_schema(tmp_path: Path) -> None:
    content = json_lines({"a": [1], "b": {"c": 1}, "d": 1})
    found = source(tmp_path, content)
    assert [pa.types.is_nested(t) for t in peek(content).schema.types] == [
        True,
        True,
        False,
    ]
    assert found.read(["d"]).to_pydict() == {"d": [1]}
    assert len(refusal(found.read).errors) == 2


JSON_REFUSED = {
    "no object": (b'{"a": 1}\n7\n', "Row 1 is not a JSON object"),
    "cut off": (b'{"a": 1}\n\n{"a": \n', "Row 1 is not valid JSON"),
    "pretty printed": (b'{\n  "a": 1\n}\n', "Row 0 is not valid JSON"),
    "half a pair": (b'{"a": "\\ud800"}\n', "Row 0 holds text that is not Unicode"),
    "half a pair as a name": (
        b'{"\\ud800": 1}\n',
        "Row 0 holds text that is not Unicode",
    ),
    "deep": (b'{"a":' + b"[" * 100_000 + b"\n", "Row 0 is not valid JSON"),
    "no members": (b"{}\n{}\n", "no columns"),
    "array": (b'[{"a": 1}]', "JSON array"),
    "long array": (b'\n [\n {"a": 1}\n]', "JSON array"),
}


@pytest.mark.parametrize(("content", "reason"), JSON_REFUSED.values(), ids=JSON_REFUSED)
def test_json_that_is_no_table_is_refused(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    assert reason in refusal(peek, content).detail
    assert reason in refusal(source, tmp_path, content).detail


# What is not taken

HEADER = b"a,b\n1,2\n"
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "empty file", ""),
    "nothing, packed": (gzip.compress(b""), "empty file", ""),
    "blanks": (b" \n\n", "only blanks", ""),
    "a header": (b"a,b\n", "a header and no rows", ""),
    "xlsx": (zipped("xl/workbook.xml"), "Excel", "read_excel"),
    "xlsx by its list": (zipped("[Content_Types].xml"), "Excel", "CSV"),
    "ods": (
        zipped("mimetype").replace(
            b"x" * 46, b"application/vnd.oasis.opendocument.spreadsheet"
        ),
        "Open",
        "CSV",
    ),
    "xls": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "(.xls)", "read_excel"),
    "zip": (zipped("table.csv"), "zip archive", "Unpack"),
    "bzip2": (b"BZh91AY&SY" + bytes(50), "bzip2", "Unpack"),
    "xz": (b"\xfd7zXZ\0" + bytes(50), "xz", "Unpack"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "7z", "Unpack"),
    "tar": (b"table.csv" + bytes(248) + b"ustar" + bytes(250), "tar archive", "Unpack"),
    "tar in gzip": (
        gzip.compress(b"table.csv" + bytes(248) + b"ustar" + bytes(250)),
        "tar archive",
        "Unpack",
    ),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5", "to_parquet"),
    "SQLite": (b"SQLite format 3\0" + bytes(50), "SQLite", "to_parquet"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3", "PDF", "CSV"),
    "Feather 1": (b"FEA1" + bytes(50), "version 1", "version 2"),
    "Avro": (b"Obj\x01" + bytes(50), "Avro", "to_parquet"),
    "ORC": (b"ORC\x11\0\0\x0a" + bytes(50), "ORC", "to_parquet"),
    "pickle": (b"\x80\x05\x95" + bytes(50), "pickle", "to_parquet"),
    "HTML": (b"\n<!doctype html><html></html>", "web page", "Upload the table"),
    "XML": (b"<?xml version='1.0'?><a/>", "XML", "Upload the table"),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "Git LFS",
        "git lfs pull",
    ),
    "encrypted": (b"PARE" + bytes(100) + b"PARE", "encrypted", "without encryption"),
    "Parquet in gzip": (
        gzip.compress(parquet(TABLE)),
        "compressed Parquet",
        "Decompress",
    ),
    "Arrow in zstd": (zstd(arrow_file(TABLE)), "compressed Arrow", "Decompress"),
    "packed twice": (gzip.compress(gzip.compress(HEADER)), "compressed twice", "once"),
    "zeros": (bytes(100), "not text", "CSV"),
    "noise": (np.random.default_rng(0).bytes(10_000), "not text", "CSV"),
    "magic only": (b"PAR1", "truncated", "Upload the whole file"),
    "half of Parquet": (parquet(TABLE)[:-100], "truncated", "Upload the whole file"),
    "half of Feather": (
        arrow_file(TABLE)[:-10],
        "truncated",
        "Upload the whole file",
    ),
    "half of a stream": (
        arrow_stream(TABLE)[:100],
        "truncated",
        "Upload the whole file",
    ),
    "half of gzip": (gzip.compress(HEADER)[:-6], "damaged or truncated", "again"),
    "half of zstd": (zstd(HEADER)[:-2], "damaged or truncated", "again"),
    "zeros as footer": (
        b"PAR1" + bytes(100) + (100).to_bytes(4, "little") + b"PAR1",
        "damaged",
        "again",
    ),
    "long footer": (
        b"PAR1" + bytes(100) + b"\xff\xff\xff\xff" + b"PAR1",
        "damaged",
        "again",
    ),
    "not UTF-16": (b"\xff\xfea\0\0\xd8a\0", "not UTF-16", "UTF-8"),
    "not UTF-8": (b"\xef\xbb\xbfa,b\n\xff,1\n", "not UTF-8", "UTF-8"),
    "no encoding": (b"a,b\n\x81,1\n", "neither UTF-8 nor Windows-1252", "UTF-8"),
    "open quote": (b'a,b\n1,2\n3,"4\n5,6\n', "not closed", "Close the quote"),
    "open quote in the header": (b'"a,b\n1,2\n', "not closed", "Close the quote"),
    "no name": (b"a,,b,\n1,2,3,4\n", "position 2 of 4", "Name every column"),
}


@pytest.mark.parametrize(("content", "reason", "hint"), REFUSED.values(), ids=REFUSED)
def test_file_that_is_not_taken_says_what_to_do(
    content: bytes, reason: str, hint: str, tmp_path: Path
) -> None:
    for error in (refusal(peek, content), refusal_of_rows(tmp_path, content)):
        assert reason in error.detail
        assert hint in error.hint


class Kms(pe.KmsClient):  # type: ignore[misc]
    """A key service that keeps no secrets."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


def test_parquet_with_encrypted_columns_is_refused(tmp_path: Path) -> None:
    how = pe.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["i"]}, plaintext_footer=True
    )
    keys = pe.CryptoFactory(lambda _: Kms()).file_encryption_properties(
        pe.KmsConnectionConfig(), how
    )
    with pq.ParquetWriter(
        tmp_path / "written", TABLE.schema, encryption_properties=keys
    ) as writer:
        writer.write_table(TABLE)
    content = (tmp_path / "written").read_bytes()
    assert "encrypted columns" in refusal(peek, content).detail
    assert "encrypted columns" in refusal(source, tmp_path, content).detail


def test_rows_of_a_wrong_length_are_all_counted_and_named(tmp_path: Path) -> None:
    rows = ["1,2"] * 300_000
    rows[5], rows[299_999] = "secret", "4,5,6"
    error = refusal_of_rows(tmp_path, "\n".join(["a,b", "", *rows]).encode())
    assert (
        error.detail == "Row 5 has 1 field, but the table has 2 columns. (2 such rows)"
    )
    assert error.errors[1] == "Row 299999 has 3 fields, but the table has 2 columns."
    assert "secret" not in str(error.problem(None))


def test_text_that_is_no_unicode_is_refused_and_its_column_named(
    tmp_path: Path,
) -> None:
    raw = pa.array([b"\xff\xfe", b"a"])
    table = pa.table({"s": pa.Array.from_buffers(pa.string(), 2, raw.buffers())})
    for content in (parquet(table), arrow_stream(table)):
        assert "'s'" in refusal_of_rows(tmp_path, content).detail


# Limits


def wide(n_columns: int) -> pa.Table:
    return pa.table({f"c{i}": [1] for i in range(n_columns)})


@pytest.mark.parametrize(
    "content",
    [
        parquet(wide(5_000)),
        arrow_stream(wide(5_000)),
        arrow_file(wide(5_000)),
        (
            ",".join(f"c{i}" for i in range(100_000)) + "\n" + ",".join("1" * 100_000)
        ).encode(),
        (
            ",".join(
                f"a long name, number {i}".replace(",", "") for i in range(100_000)
            )
            + "\n1,2"
        ).encode(),
        json_lines({f"c{i}": 1 for i in range(100_000)}),
        json_lines(*({f"c{i}": 1} for i in range(2_000))),
    ],
    ids=[
        "parquet",
        "stream",
        "feather",
        "csv",
        "long csv",
        "jsonl",
        "jsonl, one a line",
    ],
)
def test_too_many_columns_are_refused(content: bytes, tmp_path: Path) -> None:
    assert "(MAX_COLUMNS)" in refusal(peek, content).detail
    assert "(MAX_COLUMNS)" in refusal(source, tmp_path, content).detail


@pytest.mark.parametrize(
    ("limit", "setting"),
    [({"max_rows": 50}, "MAX_ROWS"), ({"max_cells": 150}, "MAX_CELLS")],
)
@pytest.mark.parametrize(
    "content",
    [*BINARY.values(), b"a,b,c\n" + b"1,2,3\n" * 60, b'{"a":1,"b":2,"c":3}\n' * 60],
    ids=[*BINARY, "csv", "jsonl"],
)
def test_too_many_rows_or_cells_are_refused(
    content: bytes, limit: dict[str, int], setting: str, tmp_path: Path
) -> None:
    limits = replace(LIMITS, **limit)
    error = refusal_of_rows(tmp_path, content, limits)
    assert f"({setting})" in error.detail
    assert setting in error.hint


def test_footer_that_promises_too_much_is_refused_before_reading() -> None:
    content = parquet(pa.table({"x": np.arange(100_000)}))
    assert "MAX_ROWS" in refusal(peek, content, replace(LIMITS, max_rows=99_999)).detail
    assert (
        "MAX_UNPACKED_BYTES"
        in refusal(peek, content, replace(LIMITS, max_unpacked_bytes=99_999)).detail
    )


LONG = "x" * 10_000_000
LONG_CELLS = {
    "parquet": parquet(pa.table({"a": [1, 2], "b": ["x", LONG]})),
    "feather": arrow_file(pa.table({"a": [1, 2], "b": ["x", LONG]}), "lz4"),
    "csv": f"a,b\n1,x\n2,{LONG}\n".encode(),
    "csv, quoted": f'a,b\n1,x\n2,"{LONG[:5_000_000]}\n{LONG[:5_000_000]}"\n'.encode(),
    "csv, a little too long": f"a,b\n1,x\n2,{LONG[:1_500_000]}\n".encode(),
    "jsonl": json_lines({"a": 1, "b": "x"}, {"a": 2, "b": LONG}),
    "jsonl, a little too long": json_lines(
        {"a": 1, "b": "x"}, {"a": 2, "b": LONG[:1_500_000]}
    ),
}


@pytest.mark.parametrize("content", LONG_CELLS.values(), ids=LONG_CELLS)
def test_long_cell_is_refused_with_its_row_and_column(
    content: bytes, tmp_path: Path
) -> None:
    detail = refusal_of_rows(tmp_path, content).detail
    assert (
        detail
        == "The cell in row 1, column 'b', is too long; the limit is 1,048,576 bytes "
        "(MAX_CELL_BYTES)."
    )


def test_long_first_row_is_refused_with_its_column() -> None:
    assert "column 'b'" in refusal(peek, f"a,b\n1,{LONG}\n3,4\n".encode()).detail


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_bomb_is_stopped(compression: str, tmp_path: Path) -> None:
    text = b"a,b\n" + b"1,2\n" * (20 << 20)
    content = gzip.compress(text, 1) if compression == "gzip" else zstd(text)
    assert peek(content).schema.names == ["a", "b"]
    assert "(MAX_UNPACKED_BYTES)" in refusal(source, tmp_path, content).detail


def test_compressed_arrow_buffers_are_measured_before_they_are_unpacked(
    tmp_path: Path,
) -> None:
    content = arrow_file(pa.table({"x": np.zeros(1_000_000)}), "zstd")
    error = refusal(
        source, tmp_path, content, replace(LIMITS, max_unpacked_bytes=1_000_000)
    )
    assert "(MAX_UNPACKED_BYTES)" in error.detail


def repeated(n_rows: int, *, keep: bool) -> bytes:
    """Return a small Parquet file in which a text of 100 kB stands in every row."""
    places = pa.array(np.zeros(n_rows, np.int32))
    table = pa.table({"s": pa.DictionaryArray.from_arrays(places, ["x" * 100_000])})
    return parquet(table, store_schema=keep)


@pytest.mark.parametrize("keep", [True, False], ids=["category", "string"])
def test_dictionary_that_stands_for_too_much_text_is_refused(
    keep: bool, tmp_path: Path
) -> None:
    content = repeated(100_000, keep=keep)
    assert len(content) < 100_000
    assert "(MAX_UNPACKED_BYTES)" in refusal_of_rows(tmp_path, content).detail


def test_batches_of_long_text_stay_small(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_unpacked_bytes=1 << 30)
    sizes = [
        batch.nbytes
        for batch in source(tmp_path, repeated(2_000, keep=False), limits).batches()
    ]
    assert len(sizes) > 2
    assert max(sizes) <= 64 << 20


def test_text_that_repeats_the_one_before_is_read_in_small_batches(
    tmp_path: Path,
) -> None:
    table = pa.table({"s": ["x" * 500_000] * 500})
    content = parquet(table, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY")
    limits = replace(LIMITS, max_unpacked_bytes=1 << 30)
    assert len(content) < 1_000_000
    batches = list(source(tmp_path, content, limits).batches())
    assert max(batch.nbytes for batch in batches) <= 64 << 20
    assert pa.Table.from_batches(batches).equals(table)


@pytest.mark.parametrize(
    "content", [parquet(TABLE), b"a,b\n" + b"1,2\n" * 1_000], ids=["parquet", "csv"]
)
def test_table_that_does_not_fit_is_refused(content: bytes, tmp_path: Path) -> None:
    found = source(tmp_path, content, replace(LIMITS, max_table_bytes=1_000))
    assert "(MAX_TABLE_BYTES)" in refusal(found.read).detail
    assert sum(batch.num_rows for batch in found.batches()) > 0


# Reads


@pytest.mark.parametrize(
    "content", [*BINARY.values(), b"a,b\n" + b"1,2\n" * 1_000_000], ids=[*BINARY, "csv"]
)
def test_peek_reads_little(content: bytes) -> None:
    lengths: list[int] = []

    def read(offset: int, length: int) -> bytes:
        lengths.append(length)
        return content[offset : offset + length]

    formats.peek(len(content), read, LIMITS)
    assert len(lengths) <= 3
    assert max(lengths) <= 1 << 20


@pytest.mark.parametrize(
    "content", [*BINARY.values(), b"a,b\n1,2\n"], ids=[*BINARY, "csv"]
)
def test_peek_reads_a_small_object_once(content: bytes) -> None:
    reads: list[int] = []

    def read(offset: int, length: int) -> bytes:
        reads.append(length)
        return content[offset : offset + length]

    formats.peek(len(content), read, LIMITS)
    assert reads == [len(content)]


def test_long_footer_is_read_with_one_more_read() -> None:
    table = pa.table(
        {f"a column with a rather long name, number {i}": [1] for i in range(1_000)}
    )
    assert len(peek(parquet(table)).schema) == 1_000
    assert len(peek(arrow_stream(table)).schema) == 1_000


def run(code: str, *arguments: str, timeout_s: float = 300) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LIMITS_CODE = f"""
import json, random, resource, sys
from pathlib import Path
from rowcast.tables import formats
from rowcast.errors import InvalidTable
limits = formats.{LIMITS!r}
path = Path(sys.argv[1])
"""


def test_looking_at_files_loads_neither_pandas_nor_scikit_learn(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"a,b\n1,2\n")
    code = f"""{LIMITS_CODE}
content = path.read_bytes()
formats.peek(len(content), lambda offset, length: content[offset:offset + length], limits)
print(sorted({{"pandas", "sklearn", "scipy"}} & set(sys.modules)))
"""
    assert run(code, str(tmp_path / "table")) == "[]\n"


def test_memory_does_not_grow_with_the_row_group(tmp_path: Path) -> None:
    table = pa.table(
        {f"x{i}": np.random.default_rng(i).random(5_000_000) for i in range(4)}
    )
    pq.write_table(table, tmp_path / "table", row_group_size=5_000_000)
    code = f"""{LIMITS_CODE}
import dataclasses
limits = dataclasses.replace(limits, max_rows=10**7, max_unpacked_bytes=1 << 40)
import pyarrow.compute
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
n_rows = sum(batch.num_rows for batch in formats.open_file(path, limits).batches())
print(json.dumps([n_rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""
    n_rows, grown_kib = json.loads(run(code, str(tmp_path / "table")))
    assert n_rows == 5_000_000
    assert grown_kib < 100 << 10


# Any bytes

FUZZED = {
    **BINARY,
    "csv": FRAME.to_csv().encode() * 3,
    "utf-16": FRAME.to_csv().encode("utf-16"),
    "gzip": gzip.compress(FRAME.to_csv().encode()),
    "zstd": zstd(FRAME.to_csv().encode()),
    "jsonl": json_lines(*({"a": i, "b": "x", "c": None} for i in range(20))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZED)
def test_damaged_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """Arrow may end the process on damaged bytes, so it is not this one."""
    (tmp_path / "table").write_bytes(FUZZED[name])
    code = f"""{LIMITS_CODE}
whole = path.read_bytes()
refused = 0
for seed in range(150):
    chance = random.Random(seed)
    content = bytearray(whole)
    if chance.random() < 0.3:
        del content[chance.randrange(len(content)):]
    else:
        for _ in range(chance.choice([1, 1, 2, 5, 20])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    content = bytes(content)
    path.write_bytes(content)
    for act in (
        lambda: formats.peek(
            len(content), lambda offset, length: content[offset:offset + length], limits
        ),
        lambda: formats.open_file(path, limits).read(),
    ):
        try:
            act()
        except InvalidTable as error:
            refused += bool(error.detail and error.hint)
print(refused)
"""
    assert int(run(code, str(tmp_path / "table"))) > 0


def test_noise_behind_any_mark_is_refused_or_read(tmp_path: Path) -> None:
    marks = [
        b"PAR1",
        b"ARROW1\0\0",
        b"\xff\xff\xff\xff",
        b"\x1f\x8b\x08",
        b"\x28\xb5\x2f\xfd",
        b"{",
        b"\xff\xfe",
    ]
    chance = random.Random(0)
    for mark in marks:
        for _ in range(30):
            content = (
                mark
                + chance.randbytes(chance.randrange(200))
                + chance.choice([b"", mark, b"PAR1", b"ARROW1"])
            )
            (tmp_path / "table").write_bytes(content)
            with contextlib.suppress(InvalidTable):
                peek(content)
            with contextlib.suppress(InvalidTable):
                assert formats.open_file(tmp_path / "table", LIMITS).read().num_columns
