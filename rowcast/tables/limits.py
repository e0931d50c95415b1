"""How large a table may be, and the errors for larger ones.

Sizes are those of Arrow arrays. A category counts as the text that it stands for, because a few
values in a dictionary can promise any amount of text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from pyarrow import lib

from rowcast.errors import InvalidTable

# The most that a reader decodes before it passes rows on.
BATCH_BYTES = 64 << 20
BATCH_CELLS = 8_000_000
# The most that is shown of the beginning of a file.
SAMPLE_CELLS = 2_000_000

# A table may have ten thousand columns, so types are told apart by their numbers.
_LARGE_TEXT = frozenset({lib.Type_LARGE_STRING, lib.Type_LARGE_BINARY})
_VIEWS = frozenset({lib.Type_STRING_VIEW, lib.Type_BINARY_VIEW})
_TEXT = frozenset({lib.Type_STRING, lib.Type_BINARY}) | _LARGE_TEXT | _VIEWS
_DICTIONARY = lib.Type_DICTIONARY


@dataclass(frozen=True)
class Limits:
    """The largest supported table; each number is the setting of the same name."""

    max_rows: int
    max_columns: int
    max_cells: int
    max_cell_bytes: int
    max_unpacked_bytes: int
    max_table_bytes: int
    max_footer_bytes: int
    max_column_chunks: int
    max_nesting: int
    max_excel_cells: int
    max_excel_bytes: int

    @classmethod
    def of(cls, settings: Any) -> Limits:
        """Return the limits from settings of the same names."""
        names = [limit.name for limit in fields(cls)]
        return cls(**{name: getattr(settings, name) for name in names})

    @property
    def max_row_bytes(self) -> int:
        """Return the longest row of a text file, in bytes."""
        return max(2 << 20, 2 * self.max_cell_bytes)

    def check_columns(self, n_columns: int, *, is_all: bool = True) -> None:
        """Reject a table with no columns or too many.

        `is_all` is false while only a part of the columns has been counted.
        """
        if n_columns == 0:
            raise InvalidTable("The table has no columns.")
        if n_columns > self.max_columns:
            at_least = "" if is_all else "at least "
            what = f"The table has {at_least}{n_columns:,} columns"
            raise over(what, self.max_columns, "MAX_COLUMNS")

    def check_rows(self, n_rows: int, n_columns: int, *, is_all: bool = True) -> None:
        """Reject a table with too many rows or cells.

        `is_all` is false while only a part of the rows has been counted.
        """
        number = f"{n_rows:,}" if is_all else f"more than {n_rows - 1:,}"
        if n_rows > self.max_rows:
            raise over(f"The table has {number} rows", self.max_rows, "MAX_ROWS")
        if n_rows * n_columns > self.max_cells:
            what = f"The table has {number} rows of {n_columns:,} columns"
            raise over(what, self.max_cells, "MAX_CELLS", unit=" cells")

    def check_footer(self, n_bytes: int) -> None:
        """Reject a file whose footer or schema is too long to decode."""
        if n_bytes > self.max_footer_bytes:
            what = f"The description of the columns has {n_bytes:,} bytes"
            raise over(what, self.max_footer_bytes, "MAX_FOOTER_BYTES")

    def check_chunks(self, n_groups: int, n_columns: int) -> None:
        """Reject a Parquet file with too many row groups for its columns."""
        if n_groups * n_columns > self.max_column_chunks:
            what = f"The file has {n_groups:,} row groups of {n_columns:,} columns"
            error = over(
                what, self.max_column_chunks, "MAX_COLUMN_CHUNKS", " column chunks"
            )
            error.hint = f"Write larger row groups. {error.hint}"
            raise error

    def check_nesting(self, schema: pa.Schema) -> None:
        """Reject a table with a column of lists within lists within lists."""
        for field in schema:
            if _nesting(field.type) > self.max_nesting:
                raise self.nested_too_deeply()

    def nested_too_deeply(self) -> InvalidTable:
        """Return the error for a column with too many levels."""
        what = "A column has lists or structs within each other"
        return over(what, self.max_nesting, "MAX_NESTING", " levels")

    def check_unpacked(self, n_bytes: int) -> None:
        """Reject a file whose content is too long after decompression."""
        if n_bytes > self.max_unpacked_bytes:
            what = "The file is too large after decompression"
            raise over(what, self.max_unpacked_bytes, "MAX_UNPACKED_BYTES")

    def check_sheet(self, n_rows: int, n_columns: int) -> None:
        """Reject an Excel sheet that is too large to read, which is done as a whole."""
        if n_rows * n_columns > self.max_excel_cells:
            what = f"The sheet reaches to row {n_rows:,} and column {n_columns:,}"
            raise _over_sheet(what, self.max_excel_cells, "MAX_EXCEL_CELLS", " cells")

    def check_texts(self, n_texts: int) -> None:
        """Reject an Excel workbook with more texts than a sheet may have cells."""
        if n_texts > self.max_excel_cells:
            what = f"The workbook has {n_texts:,} different texts"
            raise _over_sheet(what, self.max_excel_cells, "MAX_EXCEL_CELLS", " cells")

    def check_workbook(self, n_bytes: int) -> None:
        """Reject an Excel workbook whose sheet and texts are too long to read."""
        if n_bytes > self.max_excel_bytes:
            what = "The sheet is too large after decompression"
            raise _over_sheet(what, self.max_excel_bytes, "MAX_EXCEL_BYTES")

    def check_table(self, n_bytes: int) -> None:
        """Reject a table that is too large to hold in memory."""
        if n_bytes > self.max_table_bytes:
            what = "The table is too large to read into memory"
            raise over(what, self.max_table_bytes, "MAX_TABLE_BYTES")

    def check_cells(self, batch: pa.RecordBatch, first_row: int) -> None:
        """Reject a batch with a cell that is too long.

        `first_row` is the number of the batch's first row in the table.
        """
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if not _may_hold_text(column.type):
                continue
            rows = self._long_rows(column)
            if len(rows):
                raise self.long_cell(name, first_row + int(rows[0]))

    def long_cell(self, name: str, row: int) -> InvalidTable:
        """Return the error for a cell that is too long."""
        what = f"The cell in row {row}, column {name!r}, is too long"
        return over(what, self.max_cell_bytes, "MAX_CELL_BYTES")

    def _long_rows(self, column: pa.Array) -> np.ndarray:
        if column.nbytes <= self.max_cell_bytes:
            return np.array([], np.int64)
        return np.flatnonzero(cell_bytes(column) > self.max_cell_bytes)


def over(what: str, limit: int, setting: str, unit: str = "") -> InvalidTable:
    """Return the error for a table over a limit, which names the setting."""
    if setting.endswith("_BYTES"):
        unit = " bytes"
    return InvalidTable(
        f"{what}; the limit is {limit:,}{unit} ({setting}).",
        hint=f"Make the table smaller, or ask the operator to raise {setting}.",
    )


def _over_sheet(what: str, limit: int, setting: str, unit: str = "") -> InvalidTable:
    error = over(what, limit, setting, unit)
    error.hint = (
        f"Save the sheet as CSV or Parquet, which are read in parts. {error.hint}"
    )
    return error


def cell_bytes(column: pa.Array) -> np.ndarray:
    """Return the bytes of each cell's text, shape (n_rows,); zeros where a column is not text."""
    found = column.type.id
    if found == _DICTIONARY:
        return _category_bytes(column)
    if found not in _TEXT or not len(column):
        return np.zeros(len(column), np.int64)
    if found in _VIEWS:
        return _view_bytes(column)

    width = np.dtype(np.int64 if found in _LARGE_TEXT else np.int32)
    buffer = column.buffers()[1]
    start = width.itemsize * column.offset
    offsets = np.frombuffer(buffer, width, len(column) + 1, start)
    return np.diff(offsets).astype(np.int64)


def views_of(column: pa.Array) -> np.ndarray:
    """Return the views of a column of text, int32 (n_rows, 4); each begins with its length."""
    buffer = column.buffers()[1]
    start = 16 * column.offset
    views = np.frombuffer(buffer, np.int32, 4 * len(column), start)
    return views.reshape(-1, 4)


def decoded_bytes(batch: pa.RecordBatch) -> int:
    """Return the memory of a batch whose categories and views are written out, in bytes."""
    return sum(_decoded_bytes(column) for column in batch.columns)


def text_bytes(batch: pa.RecordBatch) -> int:
    """Return the bytes of a batch's text, with its categories written out."""
    texts = (column for column in batch.columns if _may_hold_text(column.type))
    return sum(int(cell_bytes(column).sum()) for column in texts)


def halved(
    batch: pa.RecordBatch, max_rows: int, max_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Yield a batch in parts of at most `max_rows` rows and `max_bytes` bytes.

    A part has at least one row, however long that is.
    """
    n_rows = batch.num_rows
    if n_rows > max_rows:
        for start in range(0, n_rows, max_rows):
            yield from halved(batch.slice(start, max_rows), max_rows, max_bytes)
    elif n_rows > 1 and decoded_bytes(batch) > max_bytes:
        middle = n_rows // 2
        yield from halved(batch.slice(0, middle), max_rows, max_bytes)
        yield from halved(batch.slice(middle), max_rows, max_bytes)
    else:
        yield batch


def row_bytes(schema: pa.Schema) -> int:
    """Return the least memory that a row takes, in bytes."""
    return sum(_width(field.type) for field in schema)


def _category_bytes(column: pa.DictionaryArray) -> np.ndarray:
    if not len(column.dictionary):
        return np.zeros(len(column), np.int64)
    codes: np.ndarray = column.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return np.take(cell_bytes(column.dictionary), codes.astype(np.int64))


def _view_bytes(column: pa.Array) -> np.ndarray:
    # The length in the view of a missing value may be any number.
    lengths = views_of(column)[:, 0]
    known: np.ndarray = column.is_valid().to_numpy(zero_copy_only=False)
    return lengths * known.astype(np.int64)


def _decoded_bytes(column: pa.Array) -> int:
    found = column.type.id
    if found == _DICTIONARY:
        width = _width(column.type.value_type)
    elif found in _VIEWS:
        width = 16
    else:
        return int(column.nbytes)
    n_text_bytes = int(cell_bytes(column).sum())
    return n_text_bytes + width * len(column)


def _nesting(found: pa.DataType) -> int:
    """Return the levels of lists and structs in a type."""
    if not pt.is_nested(found):
        return 0
    return 1 + max(map(_nesting, _children(found)), default=0)


def _children(found: pa.DataType) -> list[pa.DataType]:
    return [found.field(i).type for i in range(found.num_fields)]


def _may_hold_text(found: pa.DataType) -> bool:
    return found.id in _TEXT or found.id == _DICTIONARY


def _width(found: Any) -> int:
    """Return the bytes of a value; of text, of its offset alone."""
    try:
        return max(1, int(found.bit_width) // 8)
    except ValueError:
        return 4 if found.id in _TEXT else 1
