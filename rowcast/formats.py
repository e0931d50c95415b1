"""Stub."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Limits:
    max_rows: int
    max_columns: int
    max_cells: int
    max_cell_bytes: int
    max_unpacked_bytes: int
    max_table_bytes: int


def limits_of(settings: Any) -> Limits:
    """Return the limits among the settings."""
    return Limits(**{f.name: getattr(settings, f.name) for f in fields(Limits)})


@dataclass(frozen=True)
class Format:
    name: str
    decimal: str | None = None

    def as_dict(self):
        return {"name": self.name}


@dataclass(frozen=True)
class Sample:
    format: Format
    schema: pa.Schema
    rows: Any = None


@dataclass
class Source:
    format: Format
    schema: pa.Schema
    table: Any
    n_rows: Any
    sample: Any = None

    def read(self, columns=None):
        return self.table

    def batches(self, columns=None, max_rows=65536):
        t = (
            self.table.select([c for c in self.table.column_names if c in columns])
            if columns is not None
            else self.table
        )
        yield from t.combine_chunks().to_batches(max_rows)


def peek(size, read, limits):
    s = open_bytes(read(0, size))
    return Sample(s.format, s.schema, s.table if s.format.name == "csv" else None)


def open_bytes(b):
    if b[:4] == b"PAR1":
        t = pq.read_table(pa.BufferReader(b))
        return Source(Format("parquet"), t.schema, t, t.num_rows)
    names = b.split(b"\n")[0].decode().strip().split(",")
    t = pc.read_csv(
        pa.BufferReader(b),
        convert_options=pc.ConvertOptions(
            column_types={n: pa.string() for n in names},
            strings_can_be_null=True,
            null_values=["", "NA"],
            quoted_strings_can_be_null=False,
        ),
    )
    return Source(Format("csv"), t.schema, t, None)


def open_file(path, limits):
    return open_bytes(Path(path).read_bytes())
