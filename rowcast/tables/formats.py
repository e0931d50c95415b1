"""The supported file formats: each is a module with `peek` and `open_file`, and an entry below.

A file is what its content says, whatever its name. The server reads its footer or its first
megabyte (`peek`), and the job reads all of it (`open_file`); both raise the same errors. A new
format is one module, one entry in `READERS`, its name in `files.Format`, and its signature in
`file_types`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from rowcast.tables import arrow, excel, file_types, json_lines, parquet, text_files
from rowcast.tables.file_types import Kind
from rowcast.tables.files import Format, Read, Sample, Source
from rowcast.tables.limits import Limits
from rowcast.tables.reading import GUESS, ReadingOptions

# A file of at most this size is read by one request.
_SMALL_BYTES = 262_144


@dataclass(frozen=True)
class Reader:
    """How files of a kind are read, with limits and options: by parts, or from a path."""

    peek: Callable[[int, Read, Limits, ReadingOptions], Sample]
    open_file: Callable[[Path, Limits, ReadingOptions], Source]


READERS: dict[Kind, Reader] = {
    "parquet": Reader(parquet.peek, parquet.open_file),
    "arrow file": Reader(arrow.peek_file, arrow.open_file),
    "arrow stream": Reader(arrow.peek_stream, arrow.open_stream),
    "zip": Reader(excel.peek, excel.open_file),
    "csv": Reader(text_files.peek, text_files.open_file),
    "jsonl": Reader(text_files.peek, text_files.open_file),
    "gzip": Reader(
        partial(text_files.peek, compression="gzip"),
        partial(text_files.open_file, compression="gzip"),
    ),
    "zstd": Reader(
        partial(text_files.peek, compression="zstd"),
        partial(text_files.open_file, compression="zstd"),
    ),
}


def peek(
    size: int, read: Read, limits: Limits, reading: ReadingOptions = GUESS
) -> Sample:
    """Return what an object of `size` bytes is; `read(offset, length)` returns a part of it.

    Raises:
        InvalidTable: the object is not a table, or the part that is read shows a problem.
        InvalidRequest: an option of reading does not apply to the object's format.
    """
    if size <= _SMALL_BYTES:
        read = _read_all(size, read)
    kind = file_types.kind_of(read(0, min(size, file_types.HEAD_BYTES)))
    return READERS[kind].peek(size, read, limits, reading)


def open_file(path: Path, limits: Limits, reading: ReadingOptions = GUESS) -> Source:
    """Return a file as a source of rows.

    Raises:
        InvalidTable: the file is not a table, damaged, or over a limit, as far as that can be found
            without reading all rows. A text is read once, to find how it is written.
        InvalidRequest: as `peek`.
    """
    with path.open("rb") as file:
        kind = file_types.kind_of(file.read(file_types.HEAD_BYTES))
    return READERS[kind].open_file(path, limits, reading)


def of_records(
    content: bytes, limits: Limits, reading: ReadingOptions = GUESS
) -> Source:
    """Return a JSON array of objects as a source of rows, with the types that JSON Lines have.

    Raises:
        InvalidTable: the content is not such an array, columns mix types, or it is over a limit.
        InvalidRequest: any option of reading is given.
    """
    reading.check("json")
    groups = [json_lines.records(content)]
    scan = json_lines.scan_rows(groups, limits)
    schema = scan.schema()

    def batches(wanted: Sequence[int], max_rows: int) -> Iterator[pa.RecordBatch]:
        return json_lines.batches_of_rows(lambda: groups, schema, wanted, max_rows)

    return Source(Format("jsonl"), schema, scan.n_rows, limits, batches, scan.n_rows)


def _read_all(size: int, read: Read) -> Read:
    content = read(0, size)
    return lambda offset, length: content[offset : offset + length]
