"""A table in a file: how it is written, what its beginning shows, and all of its rows.

A format's module makes a `Sample` of a file's beginning and a `Source` of the whole file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa

from rowcast.tables.limits import (
    BATCH_BYTES,
    Limits,
    decoded_bytes,
    halved,
    row_bytes,
    text_bytes,
)

Compression = Literal["gzip", "zstd"]

# Returns a part of a file: offset and length in bytes.
Read = Callable[[int, int], bytes]
# Yields the columns at these positions, with at most this many rows at a time.
Batches = Callable[[Sequence[int], int], Iterator[pa.RecordBatch]]
# Called with the rows done, the rows of the file if it says, and otherwise the rows to expect.
OnProgress = Callable[[int, int | None, int | None], None]


def ignore_progress(done: int, total: int | None, expected: int | None) -> None:
    """Do nothing about progress."""


@dataclass(frozen=True)
class Format:
    """How a table is written; `n_lines_skipped` are comments and titles above it."""

    name: Literal["parquet", "arrow", "csv", "jsonl", "excel"]
    compression: Compression | None = None
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    has_header: bool | None = None
    n_lines_skipped: int | None = None
    sheet: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a manifest contains."""
        members = asdict(self)
        return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True)
class Sample:
    """What the footer or the first megabyte of a file shows.

    `n_rows` comes from the footer of a Parquet file. The first `n_bytes` of a text file hold
    `n_rows_seen` rows; `rows` are the first of them, at most about two million cells.
    """

    format: Format
    schema: pa.Schema
    rows: pa.Table | None = None
    n_rows: int | None = None
    n_bytes: int = 0
    n_rows_seen: int = 0

    def n_rows_expected(self, size: int) -> int:
        """Return the rows of a file of `size` bytes; an estimate where its footer does not say."""
        if self.n_rows is not None:
            return self.n_rows
        if self.n_bytes:
            return max(1, self.n_rows_seen * size // self.n_bytes)
        return max(1, size // max(1, row_bytes(self.schema)))


@dataclass(frozen=True)
class Source:
    """A file whose rows can be read any number of times.

    `n_rows` is None for CSV, which does not say; `n_rows_expected` is then an estimate.
    """

    format: Format
    schema: pa.Schema
    n_rows: int | None
    limits: Limits = field(repr=False)
    _batches: Batches = field(repr=False)
    n_rows_expected: int | None = None

    def batches(
        self, columns: Collection[str] | None = None, max_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows of these columns, in the file's order and in the schema's types.

        Raises:
            InvalidTable: the file is damaged or over a limit.
        """
        wanted = self._positions(columns)
        if not wanted:
            return
        n_rows = n_bytes = 0
        for batch in self._batches(wanted, max_rows):
            for part in halved(batch, max_rows, BATCH_BYTES):
                self.limits.check_cells(part, n_rows)
                n_rows += part.num_rows
                n_bytes += text_bytes(part)
                self.limits.check_rows(n_rows, len(self.schema), is_all=False)
                # A dictionary of a few values may stand for any amount of text.
                self.limits.check_unpacked(n_bytes)
                if part.num_rows:
                    yield part

    def read(
        self,
        columns: Collection[str] | None = None,
        on_progress: OnProgress = ignore_progress,
    ) -> pa.Table:
        """Return all rows of these columns, calling `on_progress` after each batch.

        Raises:
            InvalidTable: as `batches`; or the table is too large for memory.
        """
        fields = [self.schema.field(i) for i in self._positions(columns)]
        schema = pa.schema(fields, self.schema.metadata)
        self.limits.check_table((self.n_rows or 0) * row_bytes(schema))

        found = []
        n_bytes = n_rows = 0
        for batch in self.batches(columns):
            n_bytes += decoded_bytes(batch)
            self.limits.check_table(n_bytes)
            found.append(batch.replace_schema_metadata(self.schema.metadata))
            n_rows += batch.num_rows
            on_progress(n_rows, self.n_rows, self.n_rows_expected)
        return pa.Table.from_batches(found, schema=schema)

    def _positions(self, columns: Collection[str] | None) -> list[int]:
        names = self.schema.names
        return [i for i, name in enumerate(names) if columns is None or name in columns]
