"""What a file is, how its rows are read, and what is rejected."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rowcast.errors import InvalidTable
from rowcast.tables import Format, formats
from tests.support import ROOT
from tests.support.excel import crafted, excel
from tests.support.files import (
    arrow_file,
    arrow_stream,
    json_lines,
    parquet,
    zipped,
    zstd,
)
from tests.support.sources import (
    BINARY,
    FRAME,
    LIMITS,
    TABLE,
    peek,
    refusal,
    refusal_of_rows,
    source,
)


def test_manifest_form_leaves_out_what_does_not_apply() -> None:
    assert Format("parquet").as_dict() == {"name": "parquet"}
    assert (
        Format("csv", None, "utf-8", ",", ".", False).as_dict()["has_header"] is False
    )


HEADER = b"a,b\n1,2\n"
FRAME_OF_TWO = pa.table({"a": [1], "b": [2]})
UNSUPPORTED: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "empty file", ""),
    "nothing, packed": (gzip.compress(b""), "empty file", ""),
    "blanks": (b" \n\n", "only blanks", ""),
    "a header": (b"a,b\n", "a header and no rows", ""),
    "ods": (zipped("mimetype", "content.xml"), "an OpenDocument file", ".xlsx"),
    "xlsb": (
        crafted(b"", main="workbook.bin"),
        "(.xlsb)",
        "CSV or Parquet",
    ),
    "docx": (
        crafted(b"", main="document.xml"),
        "Office document without sheets",
        ".xlsx",
    ),
    "xls": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "(.xls)", ".xlsx"),
    "xlsx with a password": (
        bytes.fromhex("d0cf11e0a1b11ae1")
        + bytes(600)
        + "EncryptedPackage".encode("utf-16-le"),
        "with a password",
        "without a password",
    ),
    "half of xlsx": (
        excel(FRAME_OF_TWO)[:-100],
        "truncated",
        "Upload the whole file",
    ),
    "xlsx in gzip": (gzip.compress(crafted(b"")), "compressed zip", "Unpack"),
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


@pytest.mark.parametrize(
    ("content", "reason", "hint"), UNSUPPORTED.values(), ids=UNSUPPORTED
)
def test_unsupported_file_says_what_to_do(
    content: bytes, reason: str, hint: str, tmp_path: Path
) -> None:
    for error in (refusal(peek, content), refusal_of_rows(tmp_path, content)):
        assert reason in error.detail
        assert hint in error.hint


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


@pytest.mark.parametrize(
    "content", [parquet(TABLE), b"a,b\n" + b"1,2\n" * 1_000], ids=["parquet", "csv"]
)
def test_table_that_does_not_fit_is_refused(content: bytes, tmp_path: Path) -> None:
    found = source(tmp_path, content, replace(LIMITS, max_table_bytes=1_000))
    assert "(MAX_TABLE_BYTES)" in refusal(found.read).detail
    assert sum(batch.num_rows for batch in found.batches()) > 0


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


def test_peeking_loads_neither_pandas_nor_scikit_learn(tmp_path: Path) -> None:
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


FUZZED = {
    **BINARY,
    "csv": FRAME.to_csv().encode() * 3,
    "utf-16": FRAME.to_csv().encode("utf-16"),
    "gzip": gzip.compress(FRAME.to_csv().encode()),
    "zstd": zstd(FRAME.to_csv().encode()),
    "jsonl": json_lines(*({"a": i, "b": "x", "c": None} for i in range(20))),
    "excel": excel(pa.Table.from_pandas(FRAME)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZED)
def test_damaged_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """Use another process, because Arrow may end it on damaged bytes."""
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
