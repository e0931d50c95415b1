"""The rows of Arrow files and streams, and batches without string views.

A file may promise more than it holds, and a few bytes may stand for any amount of text: a
dictionary's values, a compressed buffer. What is claimed is checked before it is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from pyarrow import ipc

from rowcast.errors import InvalidTable
from rowcast.tables.damage import WRITE_AGAIN, damaged, refusing_damage, truncated
from rowcast.tables.limits import BATCH_BYTES, MAX_FOOTER_BYTES, Limits, halved

Read = Callable[[int, int], bytes]

_HEAD_BYTES = 65_536


def peek_arrow_file(size: int, read: Read, limits: Limits) -> pa.Schema:
    """Return the schema of an Arrow IPC file (Feather) of `size` bytes, reading no more than its
    footer.

    Raises:
        InvalidTable: the file is truncated or damaged, or has too many columns.
    """
    end = read(max(0, size - 10), min(size, 10))
    if size < 20 or end[-6:] != b"ARROW1":
        raise truncated("Arrow")
    n_footer = int.from_bytes(end[:4], "little", signed=True)
    if not 0 < n_footer <= min(size - 18, MAX_FOOTER_BYTES):
        raise damaged("Arrow")
    footer = read(size - 10 - n_footer, n_footer)
    with refusing_damage("Arrow"):
        return _arrow_schema(ipc.open_file(_Sparse(size, footer + end)).schema, limits)


def peek_arrow_stream(size: int, read: Read, limits: Limits) -> pa.Schema:
    """Return the schema that an Arrow IPC stream begins with.

    Raises:
        InvalidTable: as `peek_arrow_file`.
    """
    head = read(0, min(size, _HEAD_BYTES))
    n_schema = int.from_bytes(head[4:8], "little", signed=True) + 8
    if not 8 < n_schema <= min(size, MAX_FOOTER_BYTES):
        raise (
            truncated("Arrow")
            if 0 < size < n_schema <= MAX_FOOTER_BYTES
            else damaged("Arrow")
        )
    if n_schema > len(head):
        head = read(0, n_schema)
    with refusing_damage("Arrow"):
        return _arrow_schema(ipc.read_schema(pa.py_buffer(head[:n_schema])), limits)


def open_arrow(path: Path, limits: Limits, *, is_file: bool) -> tuple[pa.Schema, int]:
    """Return the schema and the number of rows of an Arrow file or stream; every message is looked
    at.

    Raises:
        InvalidTable: the file is truncated or damaged, or holds more than the limits.
    """
    with path.open("rb") as file:
        peek = peek_arrow_file if is_file else peek_arrow_stream
        schema = peek(
            path.stat().st_size,
            lambda offset, length: _part(file, offset, length),
            limits,
        )
    with refusing_damage("Arrow"), pa.memory_map(str(path)) as mapped:
        # A file says its schema twice.
        if not _open_arrow(mapped, is_file).schema.equals(schema):
            raise damaged("Arrow")
        n_rows = n_bytes = 0
        for message in _messages(mapped, is_file):
            n_message_rows, n_message_bytes = _promised(message)
            n_rows += n_message_rows if message.type == "record batch" else 0
            n_bytes += n_message_bytes
            limits.check_rows(n_rows, len(schema))
            limits.check_unpacked(n_bytes)
        return schema, n_rows


def arrow_batches(
    path: Path, wanted: Sequence[int], *, is_file: bool
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the columns at these positions, in the batches that the file has."""
    with refusing_damage("Arrow"), pa.memory_map(str(path)) as mapped:
        yield from _open_arrow(mapped, is_file, included_fields=list(wanted))


def without_views(
    found: Iterator[pa.RecordBatch], max_rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield batches in small parts, in which string views are strings; Arrow cannot filter views.

    Raises:
        InvalidTable: a column holds text that is not Unicode, or is damaged.
    """
    for batch in found:
        _check_values(batch)
        schema = plain_schema(batch.schema)
        for part in halved(batch, max_rows, BATCH_BYTES):
            if schema == batch.schema:
                yield part
            else:
                yield pa.RecordBatch.from_arrays(
                    [_plain(column) for column in part.columns], schema=schema
                )


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with strings in place of string views."""
    return pa.schema(
        [field.with_type(_plain_type(field.type)) for field in schema], schema.metadata
    )


def _plain_type(found: pa.DataType) -> pa.DataType:
    if pt.is_dictionary(found):
        return pa.dictionary(
            found.index_type, _plain_type(found.value_type), found.ordered
        )
    return pa.string() if pt.is_string_view(found) else found


def _plain(column: pa.Array) -> pa.Array:
    if pt.is_dictionary(column.type) and pt.is_string_view(column.type.value_type):
        words = _plain(column.dictionary)
        return pa.DictionaryArray.from_arrays(
            column.indices, words, ordered=column.type.ordered
        )
    if not pt.is_string_view(column.type):
        return column
    # Arrow follows the views of missing values, too, and never checks where those lead.
    known = column.is_valid().to_numpy(zero_copy_only=False)
    _, buffer, *texts = column.buffers()
    views = (
        np.frombuffer(buffer, np.int32, 4 * len(column), 16 * column.offset).reshape(
            -1, 4
        )
        * known[:, None]
    )
    bits = np.packbits(known, bitorder="little")
    parts = [pa.py_buffer(bits), pa.py_buffer(views.astype(np.int32)), *texts]
    return pa.Array.from_buffers(pa.string_view(), len(column), parts).cast(pa.string())


def _check_values(batch: pa.RecordBatch) -> None:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowException:
            detail = (
                f"The column {name!r} is damaged, or holds text that is not Unicode."
            )
            raise InvalidTable(detail, hint=WRITE_AGAIN) from None


def _arrow_schema(schema: pa.Schema, limits: Limits) -> pa.Schema:
    limits.check_columns(len(schema.names))
    return schema


def _open_arrow(mapped: Any, is_file: bool, **options: Any) -> Any:
    # Between its marks, a file is a stream; its footer only tells where the batches lie.
    mapped.seek(8 if is_file else 0)
    return ipc.open_stream(
        mapped, options=ipc.IpcReadOptions(use_threads=pa.cpu_count() > 1, **options)
    )


def _messages(mapped: Any, is_file: bool) -> Iterator[ipc.Message]:
    mapped.seek(8 if is_file else 0)
    yield from ipc.MessageReader.open_stream(mapped)


def _part(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _promised(message: ipc.Message) -> tuple[int, int]:
    """Return the rows and the unpacked bytes that a message promises.

    The layout is that of Message.fbs and Schema.fbs of the Arrow format, read as flatbuffers lay
    out tables: https://flatbuffers.dev/internals/.
    """
    if message.type not in ("record batch", "dictionary"):
        return 0, 0
    data = message.metadata.to_pybytes()
    batch = _member(data, _at(data, 0), 2)
    if message.type == "dictionary":
        batch = _member(data, _at(data, batch), 1)
    batch = _at(data, batch)
    length = _member(data, batch, 0)
    n_rows = struct.unpack_from("<q", data, length)[0] if length else 0
    if n_rows < 0:
        raise damaged("Arrow")
    return n_rows, sum(_unpacked_sizes(message.body, data, batch))


def _unpacked_sizes(body: pa.Buffer, data: bytes, batch: int) -> Iterator[int]:
    is_packed = bool(_member(data, batch, 3))
    places = _member(data, batch, 2)
    if not places:
        return
    vector = _at(data, places)
    (n_buffers,) = struct.unpack_from("<I", data, vector)
    for offset, length in struct.iter_unpack(
        "<qq", data[vector + 4 : vector + 4 + 16 * n_buffers]
    ):
        if not 0 <= offset <= offset + length <= body.size:
            raise damaged("Arrow")
        if is_packed and length >= 8:
            # -1 says that this buffer was left as it is.
            (promised,) = struct.unpack_from("<q", body, offset)
            yield promised if promised >= 0 else length
        else:
            yield length


def _at(data: bytes, place: int) -> int:
    return int(place + struct.unpack_from("<I", data, place)[0])


def _member(data: bytes, table: int, index: int) -> int:
    """Return where a table's member lies, 0 if it is left out."""
    (back,) = struct.unpack_from("<i", data, table)
    (n_bytes,) = struct.unpack_from("<H", data, table - back)
    if 4 + 2 * index + 2 > n_bytes:
        return 0
    (offset,) = struct.unpack_from("<H", data, table - back + 4 + 2 * index)
    return int(table + offset) if offset else 0


class _Sparse:
    """A file of which only the end is there."""

    def __init__(self, size: int, end: bytes) -> None:
        self._size, self._end, self._place = size, end, 0
        self.closed = False

    def read(self, n_bytes: int = -1) -> bytes:
        """Return bytes of the end."""
        start = self._place - (self._size - len(self._end))
        if start < 0:
            raise damaged("Arrow")
        content = (
            self._end[start:] if n_bytes < 0 else self._end[start : start + n_bytes]
        )
        self._place += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readable(self) -> bool:
        """Tell that this file can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that this file has places."""
        return True

    def close(self) -> None:
        """Let go of the file."""
        self.closed = True
