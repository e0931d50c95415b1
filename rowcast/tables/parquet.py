"""The rows of Parquet files: what their footers promise, and batches that stay small.

A file may promise more than it holds, and a few bytes may stand for any amount of text: a
dictionary's values, a compressed buffer. What is claimed is checked before it is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from rowcast.errors import InvalidTable
from rowcast.tables.damage import damaged, refusing_damage, truncated
from rowcast.tables.limits import (
    BATCH_BYTES,
    MAX_FOOTER_BYTES,
    Limits,
    cell_bytes,
    row_bytes,
)

Read = Callable[[int, int], bytes]

_FOOTER_BYTES = 65_536
# A footer that can be read, of a file with encrypted columns, is followed by a nonce and a tag.
_SIGNATURE_BYTES = 28
_DECRYPT = "Write the file without encryption, upload it again and submit the new id."


def peek_parquet(size: int, read: Read, limits: Limits) -> tuple[pa.Schema, int]:
    """Return the schema and the number of rows of a Parquet file of `size` bytes, reading its
    footer alone.

    Raises:
        InvalidTable: the file is truncated, damaged or encrypted, or promises more than the limits.
    """
    tail = read(max(0, size - _FOOTER_BYTES), min(size, _FOOTER_BYTES))
    n_footer = _parquet_footer_bytes(tail, size)
    if len(tail) < n_footer:
        tail = read(size - n_footer, n_footer)
    found = _checked_parquet(pa.BufferReader(tail), n_footer, limits)
    return found.schema_arrow, found.metadata.num_rows


def open_parquet(path: Path, limits: Limits) -> tuple[pa.Schema, int]:
    """Return the schema and the number of rows of a Parquet file.

    Raises:
        InvalidTable: as `peek_parquet`.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - 8))
        n_footer = _parquet_footer_bytes(file.read(), size)
    found = _checked_parquet(path, n_footer, limits)
    return found.schema_arrow, found.metadata.num_rows


def parquet_batches(
    path: Path, wanted: Sequence[str], max_rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of these columns, given in the file's order; memory does not grow with row
    groups."""
    with refusing_damage("Parquet"):
        file = _parquet(path)
        n_rows = _rows_a_batch(path, file, wanted, max_rows)
        # Paths of columns, of which Arrow takes every one that begins with these names.
        found = file.iter_batches(
            n_rows, columns=list(dict.fromkeys(wanted)), use_threads=pa.cpu_count() > 1
        )
        yield from _coalesced((_ordered(batch, wanted) for batch in found), max_rows)


def _parquet_footer_bytes(tail: bytes, size: int) -> int:
    if tail[-4:] == b"PARE":
        raise InvalidTable("The Parquet file is encrypted.", hint=_DECRYPT)
    if size < 12 or tail[-4:] != b"PAR1":
        raise truncated("Parquet")
    n_footer = int.from_bytes(tail[-8:-4], "little") + 8
    if n_footer + 4 > size or n_footer > MAX_FOOTER_BYTES:
        raise damaged("Parquet")
    return n_footer


def _parquet(source: Any, **options: Any) -> pq.ParquetFile:
    return pq.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False, **options)


def _checked_parquet(source: Any, n_footer: int, limits: Limits) -> pq.ParquetFile:
    with refusing_damage("Parquet"):
        file = _parquet(source)
        metadata = file.metadata
        # Looking at an encrypted column's metadata ends the process, so this is found out
        # otherwise.
        if metadata.serialized_size + _SIGNATURE_BYTES == n_footer - 8:
            raise InvalidTable("The Parquet file has encrypted columns.", hint=_DECRYPT)
        limits.check_columns(metadata.num_columns)
        # Names are decoded only when they are asked for.
        n_columns = len(file.schema_arrow.names)
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        if metadata.num_rows < 0 or any(
            group.num_rows < 0 or group.total_byte_size < 0 for group in groups
        ):
            raise damaged("Parquet")
        limits.check_rows(metadata.num_rows, n_columns)
        limits.check_unpacked(sum(group.total_byte_size for group in groups))
        return file


def _rows_a_batch(
    path: Path, file: pq.ParquetFile, wanted: Collection[str], max_rows: int
) -> int:
    """Return of how many rows every batch stays small, however its text is packed."""
    metadata = file.metadata
    schema = pa.schema([field for field in file.schema_arrow if field.name in wanted])
    n_rows = min(max_rows, BATCH_BYTES // max(1, row_bytes(schema)))
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    roots = {name.partition(".")[0] for name in wanted}
    texts = [
        i
        for i, path_in_file in enumerate(paths)
        if path_in_file.partition(".")[0] in roots
        and metadata.schema.column(i).physical_type == "BYTE_ARRAY"
    ]
    if texts:
        packed = _parquet(path, read_dictionary=[paths[i] for i in texts])
        groups = range(metadata.num_row_groups)
        lengths = (
            _longest(file, packed, group, i, paths[i])
            for group in groups
            for i in texts
        )
        n_rows = min(n_rows, BATCH_BYTES // max(lengths, default=1))
    return max(16, n_rows)


def _longest(
    file: pq.ParquetFile, packed: pq.ParquetFile, group: int, column: int, path: str
) -> int:
    """Return how long a value may be that stands in the file once, and in a batch many times; at
    least 1.

    `packed` gives the column as a dictionary, of which the first row brings all values.
    """
    # Looking at the metadata of a damaged column ends the process, unless rows could be read
    # before.
    if _first_row(file, group, path) is None:
        return 1
    chunk = file.metadata.row_group(group).column(column)
    if "DELTA_BYTE_ARRAY" in chunk.encodings:
        return max(1, int(chunk.total_uncompressed_size))
    row = _first_row(packed, group, path) if chunk.has_dictionary_page else None
    columns = (
        [found for found in row.columns if pt.is_dictionary(found.type)]
        if row is not None
        else []
    )
    return max(
        (int(cell_bytes(found.dictionary).max(initial=1)) for found in columns),
        default=1,
    )


def _first_row(file: pq.ParquetFile, group: int, path: str) -> pa.RecordBatch | None:
    return next(
        file.iter_batches(1, row_groups=[group], columns=[path], use_threads=False),
        None,
    )


def _ordered(batch: pa.RecordBatch, wanted: Sequence[str]) -> pa.RecordBatch:
    """Return a batch with the wanted columns in this order; names may appear twice."""
    if batch.schema.names == wanted:
        return batch
    places: dict[str, list[int]] = {}
    for i, name in enumerate(batch.schema.names):
        places.setdefault(name, []).append(i)
    return batch.select([places[name].pop(0) for name in wanted])


def _coalesced(
    found: Iterable[pa.RecordBatch], max_rows: int
) -> Iterator[pa.RecordBatch]:
    """Join small batches, as long as they stay small together."""
    held: list[pa.RecordBatch] = []
    n_rows = n_bytes = 0
    for batch in found:
        size = batch.nbytes
        if held and (
            n_rows + batch.num_rows > max_rows or n_bytes + size > BATCH_BYTES
        ):
            yield _joined(held)
            held, n_rows, n_bytes = [], 0, 0
        held.append(batch)
        n_rows, n_bytes = n_rows + batch.num_rows, n_bytes + size
    if held:
        yield _joined(held)


def _joined(held: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return held[0] if len(held) == 1 else pa.concat_batches(held)
