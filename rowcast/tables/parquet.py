"""Parquet files: what their footers promise, and batches that stay small.

A file may promise more than it holds, and a few bytes may stand for any amount of text: the values
of a dictionary, a compressed page. What a file promises is checked before it is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from rowcast.errors import InvalidTable
from rowcast.tables.arrow import plain_schema, without_views
from rowcast.tables.file_types import WRITE_WITHOUT_ENCRYPTION
from rowcast.tables.files import Format, Read, Sample, Source
from rowcast.tables.limits import (
    BATCH_BYTES,
    Limits,
    cell_bytes,
    row_bytes,
)
from rowcast.tables.reading import ReadingOptions
from rowcast.tables.rejections import damaged, rejecting_damage, truncated

_FOOTER_BYTES = 65_536
# In a file with encrypted columns, a nonce and a tag follow a footer that can be read.
_SIGNATURE_BYTES = 28
_MIN_BATCH_ROWS = 16
# A list is a group of a group of its items, and the columns are below a root.
_LEVELS_PER_LIST = 2


def peek(size: int, read: Read, limits: Limits, reading: ReadingOptions) -> Sample:
    """Return what the footer of a Parquet file of `size` bytes shows.

    Raises:
        InvalidTable: the file is truncated, damaged or encrypted, or promises more than the limits.
        InvalidRequest: an option of reading does not apply.
    """
    reading.check("parquet")
    tail = read(max(0, size - _FOOTER_BYTES), min(size, _FOOTER_BYTES))
    n_footer = _footer_bytes(tail, size, limits)
    if len(tail) < n_footer:
        tail = read(size - n_footer, n_footer)
    file = _checked(pa.BufferReader(tail), n_footer, limits)
    schema = plain_schema(file.schema_arrow)
    return Sample(Format("parquet"), schema, n_rows=file.metadata.num_rows)


def open_file(path: Path, limits: Limits, reading: ReadingOptions) -> Source:
    """Return a Parquet file as a source of rows.

    Raises:
        InvalidTable, InvalidRequest: as `peek`.
    """
    reading.check("parquet")
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        n_footer = _footer_bytes(file.read(), size, limits)
    checked = _checked(path, n_footer, limits)
    schema = plain_schema(checked.schema_arrow)
    n_rows = checked.metadata.num_rows

    def batches(wanted: Sequence[int], max_rows: int) -> Iterator[pa.RecordBatch]:
        names = [schema.names[i] for i in wanted]
        return without_views(_batches(path, names, max_rows), max_rows)

    return Source(Format("parquet"), schema, n_rows, limits, batches, n_rows)


def _footer_bytes(tail: bytes, size: int, limits: Limits) -> int:
    """Return the length of the footer, its length field and signature included."""
    if tail[-4:] == b"PARE":
        detail = "The Parquet file is encrypted."
        raise InvalidTable(detail, hint=WRITE_WITHOUT_ENCRYPTION)
    if size < 12 or tail[-4:] != b"PAR1":
        raise truncated("Parquet")
    n_footer = int.from_bytes(tail[-8:-4], "little") + 8
    if n_footer + 4 > size:
        raise damaged("Parquet")
    limits.check_footer(n_footer)
    return n_footer


def _checked(source: Any, n_footer: int, limits: Limits) -> pq.ParquetFile:
    with rejecting_damage("Parquet"):
        file = _opened(source, limits)
        metadata = file.metadata
        # Reading an encrypted column's metadata ends the process, so its footer's length tells.
        if metadata.serialized_size + _SIGNATURE_BYTES == n_footer - 8:
            detail = "The Parquet file has encrypted columns."
            raise InvalidTable(detail, hint=WRITE_WITHOUT_ENCRYPTION)
        limits.check_columns(metadata.num_columns)
        limits.check_chunks(metadata.num_row_groups, metadata.num_columns)
        # Arrow decodes names only when they are read.
        n_columns = len(file.schema_arrow.names)

        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        sizes = [group.total_byte_size for group in groups]
        counts = [metadata.num_rows, *(group.num_rows for group in groups)]
        if min(counts + sizes) < 0:
            raise damaged("Parquet")
        limits.check_nesting(file.schema_arrow)
        limits.check_rows(metadata.num_rows, n_columns)
        limits.check_unpacked(sum(sizes))
        return file


def _opened(source: Any, limits: Limits) -> pq.ParquetFile:
    try:
        return _parquet_file(
            source,
            schema_depth_limit=limits.max_nesting * _LEVELS_PER_LIST + 2,
            thrift_container_size_limit=limits.max_column_chunks,
        )
    except OSError as error:
        # Arrow tells this by its message alone.
        if "deeply nested" in str(error):
            raise limits.nested_too_deeply() from None
        raise


def _parquet_file(source: Any, **options: Any) -> pq.ParquetFile:
    return pq.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False, **options)


def _batches(
    path: Path, wanted: Sequence[str], max_rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of these columns, given in the file's order.

    Memory does not grow with the size of row groups.
    """
    with rejecting_damage("Parquet"):
        file = _parquet_file(path)
        n_rows = _rows_per_batch(path, file, wanted, max_rows)
        # Arrow takes names for prefixes of paths, and returns every column that has one.
        found = file.iter_batches(
            n_rows, columns=list(dict.fromkeys(wanted)), use_threads=pa.cpu_count() > 1
        )
        yield from _joined((_in_order(batch, wanted) for batch in found), max_rows)


def _rows_per_batch(
    path: Path, file: pq.ParquetFile, wanted: Sequence[str], max_rows: int
) -> int:
    """Return how many rows a batch may have to stay small, however its text is encoded."""
    schema = pa.schema([field for field in file.schema_arrow if field.name in wanted])
    n_rows = min(max_rows, BATCH_BYTES // max(1, row_bytes(schema)))
    texts = _text_columns(file, wanted)
    if texts:
        as_dictionary = _parquet_file(path, read_dictionary=list(texts.values()))
        longest = 1
        for group in range(file.metadata.num_row_groups):
            for column, name in texts.items():
                n_bytes = _longest_repeated(file, as_dictionary, group, column, name)
                longest = max(longest, n_bytes)
        n_rows = min(n_rows, BATCH_BYTES // longest)
    return max(_MIN_BATCH_ROWS, n_rows)


def _text_columns(file: pq.ParquetFile, wanted: Sequence[str]) -> dict[int, str]:
    """Return the positions and paths of the columns of text that Arrow reads for these names."""
    roots = {name.partition(".")[0] for name in wanted}
    found = {}
    for i in range(file.metadata.num_columns):
        column = file.metadata.schema.column(i)
        is_wanted = column.path.partition(".")[0] in roots
        if is_wanted and column.physical_type == "BYTE_ARRAY":
            found[i] = column.path
    return found


def _longest_repeated(
    file: pq.ParquetFile,
    as_dictionary: pq.ParquetFile,
    group: int,
    column: int,
    path: str,
) -> int:
    """Return the bytes of the longest value that a file holds once and a batch many times.

    At least 1. `as_dictionary` is the same file read so that the first row of a column brings all
    values of its dictionary.
    """
    # Reading the metadata of a damaged column ends the process, unless a row was read before.
    if _first_row(file, group, path) is None:
        return 1
    chunk = file.metadata.row_group(group).column(column)
    if "DELTA_BYTE_ARRAY" in chunk.encodings:
        return max(1, int(chunk.total_uncompressed_size))
    if not chunk.has_dictionary_page:
        return 1

    row = _first_row(as_dictionary, group, path)
    longest = 1
    for found in row.columns if row is not None else ():
        if pt.is_dictionary(found.type):
            lengths = cell_bytes(found.dictionary)
            longest = max(longest, int(lengths.max(initial=1)))
    return longest


def _first_row(file: pq.ParquetFile, group: int, path: str) -> pa.RecordBatch | None:
    rows = file.iter_batches(1, row_groups=[group], columns=[path], use_threads=False)
    return next(rows, None)


def _in_order(batch: pa.RecordBatch, wanted: Sequence[str]) -> pa.RecordBatch:
    """Return a batch with the wanted columns in this order; names may appear twice."""
    if batch.schema.names == wanted:
        return batch
    places: dict[str, list[int]] = {}
    for i, name in enumerate(batch.schema.names):
        places.setdefault(name, []).append(i)
    return batch.select([places[name].pop(0) for name in wanted])


def _joined(
    batches: Iterable[pa.RecordBatch], max_rows: int
) -> Iterator[pa.RecordBatch]:
    """Join small batches as long as they stay small together."""
    held: list[pa.RecordBatch] = []
    n_rows = n_bytes = 0
    for batch in batches:
        n_rows += batch.num_rows
        n_bytes += batch.nbytes
        if held and (n_rows > max_rows or n_bytes > BATCH_BYTES):
            yield _concatenated(held)
            held = []
            n_rows = batch.num_rows
            n_bytes = batch.nbytes
        held.append(batch)
    if held:
        yield _concatenated(held)


def _concatenated(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
