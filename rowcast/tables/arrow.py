"""Arrow files (Feather) and streams, and batches in which string views are plain strings.

A file may promise more than it holds, and a few bytes may stand for any amount of text: the values
of a dictionary, a compressed buffer. What a file promises is checked before it is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from pyarrow import ipc

from rowcast.errors import InvalidTable
from rowcast.tables.files import Format, Read, Sample, Source
from rowcast.tables.limits import (
    BATCH_BYTES,
    Limits,
    halved,
    views_of,
)
from rowcast.tables.reading import ReadingOptions
from rowcast.tables.rejections import WRITE_AGAIN, damaged, rejecting_damage, truncated

_HEAD_BYTES = 65_536
# A file is a stream between two signatures, the first of them padded to 8 bytes.
_STREAM_STARTS_AT = 8


def peek_file(size: int, read: Read, limits: Limits, reading: ReadingOptions) -> Sample:
    """Return what the footer of an Arrow file of `size` bytes shows.

    Raises:
        InvalidTable: the file is truncated or damaged, or has too many columns.
        InvalidRequest: an option of reading does not apply.
    """
    reading.check("arrow")
    return Sample(Format("arrow"), plain_schema(_file_schema(size, read, limits)))


def peek_stream(
    size: int, read: Read, limits: Limits, reading: ReadingOptions
) -> Sample:
    """Return what the schema at the start of an Arrow stream shows.

    Raises:
        InvalidTable, InvalidRequest: as `peek_file`.
    """
    reading.check("arrow")
    return Sample(Format("arrow"), plain_schema(_stream_schema(size, read, limits)))


def open_file(path: Path, limits: Limits, reading: ReadingOptions) -> Source:
    """Return an Arrow file as a source of rows, with every message checked.

    Raises:
        InvalidTable: the file is truncated, damaged or over a limit.
        InvalidRequest: an option of reading does not apply.
    """
    reading.check("arrow")
    return _open(path, limits, is_file=True)


def open_stream(path: Path, limits: Limits, reading: ReadingOptions) -> Source:
    """Return an Arrow stream as a source of rows, with every message checked.

    Raises:
        InvalidTable, InvalidRequest: as `open_file`.
    """
    reading.check("arrow")
    return _open(path, limits, is_file=False)


def without_views(
    batches: Iterator[pa.RecordBatch], max_rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield batches in small parts with strings for string views, which Arrow cannot filter.

    Raises:
        InvalidTable: a column is damaged or holds text that is not Unicode.
    """
    for batch in batches:
        _check_values(batch)
        schema = plain_schema(batch.schema)
        for part in halved(batch, max_rows, BATCH_BYTES):
            if schema == batch.schema:
                yield part
            else:
                columns = [_plain(column) for column in part.columns]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with strings in place of string views."""
    fields = [field.with_type(_plain_type(field.type)) for field in schema]
    return pa.schema(fields, schema.metadata)


def _file_schema(size: int, read: Read, limits: Limits) -> pa.Schema:
    end = read(max(0, size - 10), min(size, 10))
    if size < 20 or end[-6:] != b"ARROW1":
        raise truncated("Arrow")
    n_footer = int.from_bytes(end[:4], "little", signed=True)
    if not 0 < n_footer <= size - 18:
        raise damaged("Arrow")
    limits.check_footer(n_footer)
    footer = read(size - 10 - n_footer, n_footer)
    with rejecting_damage("Arrow"):
        schema = ipc.open_file(_FileEnd(size, footer + end)).schema
        limits.check_columns(len(schema.names))
        limits.check_nesting(schema)
        return schema


def _stream_schema(size: int, read: Read, limits: Limits) -> pa.Schema:
    head = read(0, min(size, _HEAD_BYTES))
    n_schema = int.from_bytes(head[4:8], "little", signed=True) + 8
    if n_schema <= 8:
        raise damaged("Arrow")
    limits.check_footer(n_schema)
    if n_schema > size:
        raise truncated("Arrow")
    if n_schema > len(head):
        head = read(0, n_schema)
    with rejecting_damage("Arrow"):
        schema = ipc.read_schema(pa.py_buffer(head[:n_schema]))
        limits.check_columns(len(schema.names))
        limits.check_nesting(schema)
        return schema


def _open(path: Path, limits: Limits, *, is_file: bool) -> Source:
    with path.open("rb") as file:
        read_schema = _file_schema if is_file else _stream_schema
        schema = read_schema(path.stat().st_size, partial(_part, file), limits)
    n_rows = _checked_rows(path, schema, limits, is_file=is_file)

    def batches(wanted: Sequence[int], max_rows: int) -> Iterator[pa.RecordBatch]:
        return without_views(_batches(path, wanted, is_file=is_file), max_rows)

    return Source(
        Format("arrow"), plain_schema(schema), n_rows, limits, batches, n_rows
    )


def _checked_rows(
    path: Path, schema: pa.Schema, limits: Limits, *, is_file: bool
) -> int:
    """Return the number of rows, after checking what every message promises."""
    with rejecting_damage("Arrow"), pa.memory_map(str(path)) as mapped:
        # A file contains its schema twice.
        if not _reader(mapped, is_file).schema.equals(schema):
            raise damaged("Arrow")
        n_rows = n_bytes = 0
        for message in _messages(mapped, is_file):
            n_message_rows, n_message_bytes = _promised(message)
            n_rows += n_message_rows
            n_bytes += n_message_bytes
            limits.check_rows(n_rows, len(schema))
            limits.check_unpacked(n_bytes)
        return n_rows


def _batches(
    path: Path, wanted: Sequence[int], *, is_file: bool
) -> Iterator[pa.RecordBatch]:
    with rejecting_damage("Arrow"), pa.memory_map(str(path)) as mapped:
        yield from _reader(mapped, is_file, included_fields=list(wanted))


def _reader(mapped: Any, is_file: bool, **options: Any) -> Any:
    mapped.seek(_STREAM_STARTS_AT if is_file else 0)
    read_options = ipc.IpcReadOptions(use_threads=pa.cpu_count() > 1, **options)
    return ipc.open_stream(mapped, options=read_options)


def _messages(mapped: Any, is_file: bool) -> Iterator[ipc.Message]:
    mapped.seek(_STREAM_STARTS_AT if is_file else 0)
    yield from ipc.MessageReader.open_stream(mapped)


def _part(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


# The layout of a message is that of Message.fbs and Schema.fbs of the Arrow format, whose tables
# are laid out as https://flatbuffers.dev/internals/ says. The numbers are places of members there.


def _promised(message: ipc.Message) -> tuple[int, int]:
    """Return the rows and the decompressed bytes that a message promises."""
    if message.type not in ("record batch", "dictionary"):
        return 0, 0
    data = message.metadata.to_pybytes()
    header = _member(data, _target(data, 0), 2)
    if message.type == "dictionary":
        header = _member(data, _target(data, header), 1)
    batch = _target(data, header)

    length = _member(data, batch, 0)
    n_rows = struct.unpack_from("<q", data, length)[0] if length else 0
    if n_rows < 0:
        raise damaged("Arrow")
    n_bytes = sum(_decompressed_sizes(message.body, data, batch))
    return (n_rows if message.type == "record batch" else 0), n_bytes


def _decompressed_sizes(body: pa.Buffer, data: bytes, batch: int) -> Iterator[int]:
    is_compressed = bool(_member(data, batch, 3))
    buffers = _member(data, batch, 2)
    if not buffers:
        return
    vector = _target(data, buffers)
    (n_buffers,) = struct.unpack_from("<I", data, vector)
    start = vector + 4
    places = data[start : start + 16 * n_buffers]
    for offset, length in struct.iter_unpack("<qq", places):
        if not 0 <= offset <= offset + length <= body.size:
            raise damaged("Arrow")
        if is_compressed and length >= 8:
            # The buffer begins with its decompressed size; -1 says that it is not compressed.
            (promised,) = struct.unpack_from("<q", body, offset)
            yield promised if promised >= 0 else length
        else:
            yield length


def _target(data: bytes, place: int) -> int:
    """Return where the offset at `place` leads."""
    return int(place + struct.unpack_from("<I", data, place)[0])


def _member(data: bytes, table: int, index: int) -> int:
    """Return the place of a table's member, 0 if it is left out."""
    (back,) = struct.unpack_from("<i", data, table)
    offsets = table - back
    (n_bytes,) = struct.unpack_from("<H", data, offsets)
    start = 4 + 2 * index
    if start + 2 > n_bytes:
        return 0
    (offset,) = struct.unpack_from("<H", data, offsets + start)
    return int(table + offset) if offset else 0


def _check_values(batch: pa.RecordBatch) -> None:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowException:
            raise InvalidTable(
                f"The column {name!r} is damaged or holds text that is not Unicode.",
                hint=WRITE_AGAIN,
            ) from None


def _plain_type(found: pa.DataType) -> pa.DataType:
    if pt.is_dictionary(found):
        values = _plain_type(found.value_type)
        return pa.dictionary(found.index_type, values, found.ordered)
    return pa.string() if pt.is_string_view(found) else found


def _plain(column: pa.Array) -> pa.Array:
    found = column.type
    if pt.is_dictionary(found) and pt.is_string_view(found.value_type):
        values = _plain(column.dictionary)
        return pa.DictionaryArray.from_arrays(
            column.indices, values, ordered=found.ordered
        )
    if not pt.is_string_view(found):
        return column

    # Arrow also follows the views of missing values, and never checks where those lead.
    known = column.is_valid().to_numpy(zero_copy_only=False)
    _, _, *texts = column.buffers()
    views = np.where(known[:, None], views_of(column), 0).astype(np.int32)
    mask = np.packbits(known, bitorder="little")
    buffers = [pa.py_buffer(mask), pa.py_buffer(views), *texts]
    safe = pa.Array.from_buffers(pa.string_view(), len(column), buffers)
    return safe.cast(pa.string())


class _FileEnd:
    """A file of `size` bytes whose last bytes alone can be read."""

    def __init__(self, size: int, end: bytes) -> None:
        self._size = size
        self._end = end
        self._place = 0
        self.closed = False

    def read(self, n_bytes: int = -1) -> bytes:
        """Return the next bytes; a place before the end of the file is damage."""
        start = self._place - (self._size - len(self._end))
        if start < 0:
            raise damaged("Arrow")
        stop = len(self._end) if n_bytes < 0 else start + n_bytes
        content = self._end[start:stop]
        self._place += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        origins = (0, self._place, self._size)
        self._place = offset + origins[whence]
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readable(self) -> bool:
        """Return True, as Arrow asks."""
        return True

    def seekable(self) -> bool:
        """Return True, as Arrow asks."""
        return True

    def close(self) -> None:
        """Mark the file as closed."""
        self.closed = True
