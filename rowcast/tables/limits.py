"""How large a table may be, and how a larger one is refused.

Sizes are those of Arrow arrays. A category counts as the text that it stands for, because a few
values in a dictionary can promise any amount of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from rowcast.errors import InvalidTable

# Batches of rows are cut into parts of at most this size.
BATCH_BYTES = 64 << 20
MAX_FOOTER_BYTES = 64 << 20


@dataclass(frozen=True)
class Limits:
    """The largest table that is taken; each number is the setting of the same name."""

    max_rows: int
    max_columns: int
    max_cells: int
    max_cell_bytes: int
    max_unpacked_bytes: int
    max_table_bytes: int

    @classmethod
    def of(cls, settings: Any) -> Limits:
        """Return the limits among the settings, which have their names."""
        return cls(
            **{limit.name: getattr(settings, limit.name) for limit in fields(cls)}
        )

    @property
    def max_row_bytes(self) -> int:
        """Return how long a row of text may be."""
        return max(2 << 20, 2 * self.max_cell_bytes)

    def check_columns(self, n_columns: int, *, is_all: bool = True) -> None:
        """Refuse a table that is too wide or has no columns; `is_all` tells whether these are
        all."""
        if n_columns == 0:
            raise InvalidTable("The table has no columns.")
        if n_columns > self.max_columns:
            raise over(
                f"The table has {'' if is_all else 'at least '}{n_columns:,} columns",
                self.max_columns,
                "MAX_COLUMNS",
            )

    def check_rows(self, n_rows: int, n_columns: int, *, is_all: bool = True) -> None:
        """Refuse a table with too many rows or cells; `is_all` tells whether these are all of its
        rows."""
        number = f"{n_rows:,}" if is_all else f"more than {n_rows - 1:,}"
        if n_rows > self.max_rows:
            raise over(f"The table has {number} rows", self.max_rows, "MAX_ROWS")
        if n_rows * n_columns > self.max_cells:
            cells = f"The table has {number} rows of {n_columns:,} columns"
            raise over(cells, self.max_cells, "MAX_CELLS", unit=" cells")

    def check_unpacked(self, n_bytes: int) -> None:
        """Refuse a file whose content is too long once it is unpacked."""
        if n_bytes > self.max_unpacked_bytes:
            raise over(
                "The file is too large once it is unpacked",
                self.max_unpacked_bytes,
                "MAX_UNPACKED_BYTES",
            )

    def check_table(self, n_bytes: int) -> None:
        """Refuse a table that is too large to be held in memory."""
        if n_bytes > self.max_table_bytes:
            raise over(
                "The table is too large to be read into memory",
                self.max_table_bytes,
                "MAX_TABLE_BYTES",
            )

    def check_cells(self, batch: pa.RecordBatch, first_row: int) -> None:
        """Refuse a batch with a cell that is too long; `first_row` is the number of its first
        row."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            rows = self._long_rows(column)
            if len(rows):
                raise self.long_cell(name, first_row + int(rows[0]))

    def long_cell(self, name: str, row: int) -> InvalidTable:
        """Return the refusal of a cell that is too long."""
        cell = f"The cell in row {row}, column {name!r}, is too long"
        return over(cell, self.max_cell_bytes, "MAX_CELL_BYTES")

    def _long_rows(self, column: pa.Array) -> np.ndarray:
        if column.nbytes <= self.max_cell_bytes:
            return np.array([], np.int64)
        return np.flatnonzero(cell_bytes(column) > self.max_cell_bytes)


def over(what: str, limit: int, setting: str, unit: str | None = None) -> InvalidTable:
    """Return the refusal of what is over a limit, which names the setting."""
    unit = unit if unit is not None else " bytes" if setting.endswith("BYTES") else ""
    return InvalidTable(
        f"{what}; the limit is {limit:,}{unit} ({setting}).",
        hint=f"Make the table smaller, or ask the operator to raise {setting}.",
    )


def cell_bytes(column: pa.Array) -> np.ndarray:
    """Return the length in bytes of each cell of text, of shape (n_rows,); of other columns,
    zeros."""
    if pt.is_dictionary(column.type):
        if not _is_text(column.type.value_type) or not len(column.dictionary):
            return np.zeros(len(column), np.int64)
        places: np.ndarray = column.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return np.take(cell_bytes(column.dictionary), places.astype(np.int64))
    if not _is_text(column.type) or not len(column):
        return np.zeros(len(column), np.int64)
    buffer = column.buffers()[1]
    if _is_view(column.type):
        # A view begins with its length, as an int32 among four; that of a missing value may be
        # anything.
        views = np.frombuffer(buffer, np.int32, 4 * len(column), 16 * column.offset)
        known: np.ndarray = column.is_valid().to_numpy(zero_copy_only=False)
        return views[::4] * known.astype(np.int64)
    is_large = pt.is_large_string(column.type) or pt.is_large_binary(column.type)
    width = np.dtype(np.int64 if is_large else np.int32)
    offsets = np.frombuffer(
        buffer, width, len(column) + 1, width.itemsize * column.offset
    )
    return np.diff(offsets).astype(np.int64)


def decoded_bytes(batch: pa.RecordBatch) -> int:
    """Return how much memory a batch takes with its categories and views written out."""
    return sum(_decoded_bytes(column) for column in batch.columns)


def text_bytes(batch: pa.RecordBatch) -> int:
    """Return how much text a batch holds, with its categories written out."""
    return sum(int(cell_bytes(column).sum()) for column in batch.columns)


def halved(
    batch: pa.RecordBatch, max_rows: int, max_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Yield a batch in parts of at most `max_rows` rows and `max_bytes` bytes, but at least a row
    each."""
    if batch.num_rows > max_rows:
        for start in range(0, batch.num_rows, max_rows):
            yield from halved(batch.slice(start, max_rows), max_rows, max_bytes)
    elif batch.num_rows > 1 and decoded_bytes(batch) > max_bytes:
        middle = batch.num_rows // 2
        yield from halved(batch.slice(0, middle), max_rows, max_bytes)
        yield from halved(batch.slice(middle), max_rows, max_bytes)
    else:
        yield batch


def row_bytes(schema: pa.Schema) -> int:
    """Return how much memory a row takes at least."""
    return sum(_width(field.type) for field in schema)


def _decoded_bytes(column: pa.Array) -> int:
    if pt.is_dictionary(column.type):
        return int(cell_bytes(column).sum()) + len(column) * _width(
            column.type.value_type
        )
    if _is_view(column.type):
        return int(cell_bytes(column).sum()) + 16 * len(column)
    return int(column.nbytes)


def _is_text(found: pa.DataType) -> bool:
    tests = (pt.is_string, pt.is_large_string, pt.is_binary, pt.is_large_binary)
    return any(test(found) for test in tests) or _is_view(found)


def _is_view(found: pa.DataType) -> bool:
    return bool(pt.is_string_view(found) or pt.is_binary_view(found))


def _width(found: Any) -> int:
    try:
        return max(1, int(found.bit_width) // 8)
    except ValueError:
        return 4 if _is_text(found) else 1
