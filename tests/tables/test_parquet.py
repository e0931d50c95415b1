"""Parquet and Arrow files: their values, and what their footers promise."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from tests.support.files import (
    arrow_file,
    arrow_stream,
    parquet,
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


def test_text_that_is_not_unicode_is_refused_and_its_column_named(
    tmp_path: Path,
) -> None:
    raw = pa.array([b"\xff\xfe", b"a"])
    table = pa.table({"s": pa.Array.from_buffers(pa.string(), 2, raw.buffers())})
    for content in (parquet(table), arrow_stream(table)):
        assert "'s'" in refusal_of_rows(tmp_path, content).detail


def test_footer_that_promises_too_much_is_refused_before_reading() -> None:
    content = parquet(pa.table({"x": np.arange(100_000)}))
    assert "MAX_ROWS" in refusal(peek, content, replace(LIMITS, max_rows=99_999)).detail
    assert (
        "MAX_UNPACKED_BYTES"
        in refusal(peek, content, replace(LIMITS, max_unpacked_bytes=99_999)).detail
    )


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


def test_long_footer_is_read_with_one_more_read() -> None:
    table = pa.table(
        {f"a column with a rather long name, number {i}": [1] for i in range(1_000)}
    )
    assert len(peek(parquet(table)).schema) == 1_000
    assert len(peek(arrow_stream(table)).schema) == 1_000
