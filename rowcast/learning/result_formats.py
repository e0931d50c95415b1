"""The formats of predictions: files that jobs write, and bodies of online answers.

A new format is one entry in _FORMATS. If jobs write it, it also has a suffix and a word in
FileFormat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from rowcast.errors import InvalidTable
from rowcast.tables import columns

# What `format` of /predict may be: the formats with a suffix.
FileFormat = Literal["parquet", "csv", "jsonl"]

# January 2 of the year 1, and December 31 of 9999, in seconds since 1970.
_YEAR_1_S, _YEAR_9999_S = -62_135_510_400, 253_402_214_400

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

# Writes a batch behind those before it.
Write = Callable[[pa.RecordBatch], None]


@dataclass(frozen=True)
class ResultFormat:
    """A format of predictions: the media type of an online answer in it, and how it is written.

    `writer` writes batches of a schema to an open file. `suffix` ends the name of a job's result
    file; None if jobs do not write the format. `is_text`: it has no durations, which become
    seconds, and its times lie in the years 1 to 9999.
    """

    name: str
    media_type: str
    writer: Callable[[pa.NativeFile, pa.Schema], AbstractContextManager[Write]]
    suffix: str | None = None
    is_text: bool = False

    def type_of(self, found: pa.DataType) -> pa.DataType:
        """Return the type in which a column of this type is written."""
        return pa.float64() if self.is_text and pt.is_duration(found) else found

    def column(self, name: str, values: pa.Array) -> pa.Array:
        """Return the values of a kept column as they are written.

        Raises:
            InvalidTable: the format is text, and cannot express the column's times.
        """
        if pt.is_dictionary(values.type) and values.dictionary.null_count:
            # Parquet does not support a missing value among the categories.
            values = columns.decoded(values).dictionary_encode().cast(values.type)
        if not self.is_text:
            return values
        if not _has_times_as_text(values):
            raise InvalidTable(
                f"The column {name!r}, which keep names, holds times that cannot be "
                f"written as {self.name}: beyond the years 1 to 9999, or in an unknown zone.",
                hint="Use format=parquet, or leave the column out of keep.",
            )
        return columns.seconds(values) if pt.is_duration(values.type) else values


def _has_times_as_text(values: pa.Array) -> bool:
    """Return whether times lie in the years that text and Python support, in a known zone."""
    import pyarrow.compute as pc

    if not (pt.is_timestamp(values.type) or pt.is_date(values.type)):
        return True
    zone = getattr(values.type, "tz", None)
    try:
        pa.lib.string_to_tzinfo(zone or "UTC")
        if pt.is_date(values.type):
            values = values.cast(pa.timestamp("s"), safe=False)
        ends = pc.min_max(values.cast(pa.int64())).as_py()
    except (pa.ArrowException, KeyError):
        # Where pytz is installed, Arrow asks it for zones, and its error is a KeyError.
        return False
    least, most = ends["min"], ends["max"]
    if least is None:
        return True
    per_second = _PER_SECOND[values.type.unit]
    return bool(least >= _YEAR_1_S * per_second and most < _YEAR_9999_S * per_second)


@contextmanager
def _json(file: pa.NativeFile, _: pa.Schema) -> Iterator[Write]:
    n_rows = 0

    def write(batch: pa.RecordBatch) -> None:
        nonlocal n_rows
        for row in batch.to_pylist():
            file.write((b"," if n_rows else b"[") + _object(row))
            n_rows += 1

    yield write
    file.write(b"]" if n_rows else b"[]")


@contextmanager
def _json_lines(file: pa.NativeFile, _: pa.Schema) -> Iterator[Write]:
    def write(batch: pa.RecordBatch) -> None:
        lines = [_object(row) + b"\n" for row in batch.to_pylist()]
        file.write(b"".join(lines))

    yield write


def _object(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row, default=str)


@contextmanager
def _csv(file: pa.NativeFile, schema: pa.Schema) -> Iterator[Write]:
    import pyarrow.csv

    with pyarrow.csv.CSVWriter(file, schema) as writer:
        yield writer.write_batch


@contextmanager
def _parquet(file: pa.NativeFile, schema: pa.Schema) -> Iterator[Write]:
    with pq.ParquetWriter(file, schema) as writer:
        yield writer.write_batch


@contextmanager
def _arrow(file: pa.NativeFile, schema: pa.Schema) -> Iterator[Write]:
    with pa.ipc.new_stream(file, schema) as writer:
        yield writer.write_batch


# Online answers have the first format if the request prefers none.
_FORMATS = (
    ResultFormat("json", "application/json", _json, is_text=True),
    ResultFormat(
        "jsonl", "application/x-ndjson", _json_lines, suffix="jsonl", is_text=True
    ),
    ResultFormat("csv", "text/csv", _csv, suffix="csv", is_text=True),
    ResultFormat(
        "parquet", "application/vnd.apache.parquet", _parquet, suffix="parquet"
    ),
    ResultFormat("arrow", "application/vnd.apache.arrow.stream", _arrow),
)
RESULT_FORMATS = {each.name: each for each in _FORMATS}


def of_media_type(media_type: str) -> ResultFormat:
    """Return the format of online answers with this media type."""
    return next(each for each in _FORMATS if each.media_type == media_type)
