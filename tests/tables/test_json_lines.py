"""JSON Lines: the types of their values, and what is rejected."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.files import (
    json_lines,
    zstd,
)
from tests.support.sources import (
    peek,
    refusal,
    source,
)


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
def test_json_that_is_not_a_table_is_refused(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    assert reason in refusal(peek, content).detail
    assert reason in refusal(source, tmp_path, content).detail
