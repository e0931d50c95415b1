"""Samples and sources of files, and the errors that they raise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from rowcast.errors import InvalidTable
from rowcast.tables import Limits, Sample, Source, formats
from tests.support.files import (
    arrow_file,
    arrow_stream,
    parquet,
)

LIMITS = Limits(
    max_rows=1_000_000,
    max_columns=1_000,
    max_cells=100_000_000,
    max_cell_bytes=1 << 20,
    max_unpacked_bytes=64 << 20,
    max_table_bytes=256 << 20,
    max_footer_bytes=32 << 20,
    max_column_chunks=250_000,
    max_nesting=16,
    max_excel_cells=1_000_000,
    max_excel_bytes=64 << 20,
)
FRAME = pd.DataFrame(
    {
        "a": [1.5, None, 3.25],
        "b": ["x", 'y "z"', "ü, ö\nnext"],
        "c": [True, False, True],
    }
)
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
    """Return what the server sees of a file."""
    return formats.peek(
        len(content), lambda offset, length: content[offset : offset + length], limits
    )


def source(tmp_path: Path, content: bytes, limits: Limits = LIMITS) -> Source:
    """Return a file as a source of rows."""
    path = tmp_path / "table"
    path.write_bytes(content)
    return formats.open_file(path, limits)


def refusal(check: Callable[..., Any], *arguments: Any) -> InvalidTable:
    """Return the error that a check raises."""
    with pytest.raises(InvalidTable) as caught:
        check(*arguments)
    return caught.value


def refusal_of_rows(
    tmp_path: Path, content: bytes, limits: Limits = LIMITS
) -> InvalidTable:
    """Return the error that reading all rows of a file raises."""
    return refusal(lambda: source(tmp_path, content, limits).read())


BINARY = {
    "parquet": parquet(TABLE),
    "feather": arrow_file(TABLE),
    "feather with lz4": arrow_file(TABLE, "lz4"),
    "feather with zstd": arrow_file(TABLE, "zstd"),
    "stream": arrow_stream(TABLE),
}
