"""Arrow and Parquet files as no writer makes them: built from the formats' own messages.

An Arrow message is a FlatBuffer (https://flatbuffers.dev/internals/), in which several tables may
lead to the same one; the members are those of Message.fbs and Schema.fbs. The footer and the page
headers of Parquet are structs of Thrift's compact protocol; the members are those of
parquet.thrift.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

SCHEMA_MESSAGE, BATCH_MESSAGE = 1, 3
INT, STRUCT = 2, 13
VERSION_5 = 4


class FlatBuffer:
    """Tables, vectors and texts by name; those that are referred to come later."""

    def __init__(self, root: str) -> None:
        """Begin with the offset of the table `root`."""
        self._data = bytearray(4)
        self._places: dict[str, int] = {}
        self._offsets = [(0, root)]

    def table(self, name: str, members: dict[int, int | str]) -> None:
        """Add a table; its members are numbers, or the names of what they refer to."""
        n_members = max(members, default=-1) + 1
        places = [8 + 8 * i if i in members else 0 for i in range(n_members)]
        sizes = [4 + 2 * n_members, 8 + 8 * n_members]
        self._align()
        vtable = len(self._data)
        self._data += struct.pack(f"<{2 + n_members}H", *sizes, *places)
        self._align()
        self._places[name] = len(self._data)
        self._data += struct.pack("<ixxxx", len(self._data) - vtable)
        for i in range(n_members):
            self._value(members.get(i, 0))

    def _value(self, value: int | str) -> None:
        if isinstance(value, str):
            self._offsets.append((len(self._data), value))
            value = 0
        self._data += struct.pack("<q", value)

    def vector(self, name: str, names: Sequence[str]) -> None:
        """Add a vector of what is referred to by names."""
        self._begin(name, len(names))
        for each in names:
            self._offsets.append((len(self._data), each))
            self._data += bytes(4)

    def structs(self, name: str, format_: str, rows: Sequence[tuple[int, ...]]) -> None:
        """Add a vector of structs."""
        # Their alignment is 8, after the four bytes of their number.
        self._align()
        self._data += bytes(4)
        self._begin(name, len(rows))
        for row in rows:
            self._data += struct.pack(format_, *row)

    def text(self, name: str, content: bytes) -> None:
        """Add a text."""
        self._begin(name, len(content))
        self._data += content + b"\0"

    def content(self) -> bytes:
        """Return all of it."""
        for place, name in self._offsets:
            struct.pack_into("<I", self._data, place, self._places[name] - place)
        self._align()
        return bytes(self._data)

    def _begin(self, name: str, n_items: int) -> None:
        self._data += bytes(-len(self._data) % 4)
        self._places[name] = len(self._data)
        self._data += struct.pack("<I", n_items)

    def _align(self) -> None:
        self._data += bytes(-len(self._data) % 8)


def add_shared_schema(
    buffer: FlatBuffer,
    *,
    n_columns: int = 1,
    n_levels: int = 0,
    n_children: int = 2,
    n_padding: int = 0,
) -> None:
    """Add a schema whose columns are all the same field, and so are all the children of each.

    It stands for n_columns * n_children ** n_levels fields, and takes n_columns * 4 bytes and the
    `n_padding` bytes of its metadata: readers allow more tables in a longer message.
    """
    buffer.table("schema", {1: "columns", 2: "metadata"})
    buffer.vector("columns", ["level 0"] * n_columns)
    members: dict[int, int | str]
    for level in range(n_levels):
        members = {0: "name", 1: 1, 2: STRUCT, 3: "struct", 5: f"children {level}"}
        buffer.table(f"level {level}", members)
        buffer.vector(f"children {level}", [f"level {level + 1}"] * n_children)
    members = {0: "name", 1: 1, 2: INT, 3: "int", 5: "none"}
    buffer.table(f"level {n_levels}", members)
    buffer.table("struct", {})
    buffer.table("int", {0: 64, 1: 1})
    buffer.vector("none", [])
    buffer.vector("metadata", ["pair"])
    buffer.table("pair", {0: "name", 1: "padding"})
    buffer.text("name", b"x")
    buffer.text("padding", b"p" * n_padding)


def arrow_stream(**shape: int) -> bytes:
    """Return a stream without rows, whose schema is that of `add_shared_schema`."""
    buffer = FlatBuffer("message")
    buffer.table("message", {0: VERSION_5, 1: SCHEMA_MESSAGE, 2: "schema", 3: 0})
    add_shared_schema(buffer, **shape)
    return _message(buffer.content()) + _message(b"")


def arrow_file(**shape: int) -> bytes:
    """Return a file without rows, whose schema is that of `add_shared_schema`."""
    buffer = FlatBuffer("footer")
    buffer.table("footer", {0: VERSION_5, 1: "schema", 3: "blocks"})
    add_shared_schema(buffer, **shape)
    buffer.structs("blocks", "<qixxxxq", [])
    footer = buffer.content()
    end = footer + struct.pack("<i", len(footer)) + b"ARROW1"
    return b"ARROW1\0\0" + arrow_stream(**shape) + end


def _message(content: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Ii", 0xFFFFFFFF, len(content)) + content + body


# Thrift's compact protocol


@dataclass(frozen=True)
class Raw:
    """The bytes of a value, with the number of its type."""

    kind: int
    content: bytes


Value: TypeAlias = "int | bytes | Raw | Struct"
Struct: TypeAlias = dict[int, Value]
I32, I64, BINARY, LIST, STRUCT_KIND = 5, 6, 8, 9, 12


def i32(number: int) -> Raw:
    """Return a number of 32 bits; other numbers have 64."""
    return Raw(I32, _zigzag(number))


def repeated(value: Value, n_times: int, n_promised: int | None = None) -> Raw:
    """Return a list of equal values, which may promise more of them than it holds."""
    kind, content = _encoded(value)
    n_values = n_times if n_promised is None else n_promised
    head = bytes([0xF0 | kind]) + _varint(n_values)
    return Raw(LIST, head + content * n_times)


def listed(*values: Value) -> Raw:
    """Return a list of values of one type."""
    encoded = [_encoded(value) for value in values]
    head = bytes([0xF0 | encoded[0][0]]) + _varint(len(values))
    return Raw(LIST, head + b"".join(content for _, content in encoded))


def thrift(members: Struct) -> bytes:
    """Return the bytes of a struct."""
    content = bytearray()
    last = 0
    for number, value in sorted(members.items()):
        kind, encoded = _encoded(value)
        content.append((number - last) << 4 | kind)
        content += encoded
        last = number
    return bytes(content) + b"\0"


def _encoded(value: Value) -> tuple[int, bytes]:
    if isinstance(value, Raw):
        return value.kind, value.content
    if isinstance(value, dict):
        return STRUCT_KIND, thrift(value)
    if isinstance(value, bytes):
        return BINARY, _varint(len(value)) + value
    return I64, _zigzag(value)


def _zigzag(number: int) -> bytes:
    return _varint((number << 1) ^ (number >> 63))


def _varint(number: int) -> bytes:
    content = bytearray()
    while number > 0x7F:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*content, number])


# Parquet

BYTE_ARRAY, INT64 = 6, 2
TEXT = 0
PLAIN, RLE, DELTA_BYTE_ARRAY, RLE_DICTIONARY = 0, 3, 7, 8
UNCOMPRESSED, ZSTD = 0, 6
DATA_PAGE, DICTIONARY_PAGE = 0, 2
# Of Zstandard: the largest block, and the kind of block that repeats one byte.
_BLOCK_BYTES, _RLE_BLOCK = 1 << 17, 1


@dataclass(frozen=True)
class Page:
    """A page as its header declares it."""

    body: bytes
    n_values: int
    encoding: int = PLAIN
    n_unpacked: int | None = None
    is_dictionary: bool = False

    def content(self) -> bytes:
        """Return header and body."""
        n_unpacked = len(self.body) if self.n_unpacked is None else self.n_unpacked
        about: Struct = {1: i32(self.n_values), 2: i32(self.encoding)}
        header: Struct = {2: i32(n_unpacked), 3: i32(len(self.body))}
        if self.is_dictionary:
            header |= {1: i32(DICTIONARY_PAGE), 7: about}
        else:
            about |= {3: i32(RLE), 4: i32(RLE)}
            header |= {1: i32(DATA_PAGE), 5: about}
        return thrift(header) + self.body


def zstd_of_zeros(n_bytes: int) -> bytes:
    """Return a frame of Zstandard that stands for 32,000 times its length in zeros."""
    frame = bytearray(b"\x28\xb5\x2f\xfd\xc0\x38")
    frame += struct.pack("<Q", n_bytes)
    for start in range(0, n_bytes, _BLOCK_BYTES):
        size = min(_BLOCK_BYTES, n_bytes - start)
        is_last = start + size == n_bytes
        frame += (size << 3 | _RLE_BLOCK << 1 | is_last).to_bytes(3, "little") + b"\0"
    return bytes(frame)


def repeating_text(n_rows: int, n_bytes: int) -> bytes:
    """Return the DELTA_BYTE_ARRAY encoding of rows that all repeat a text of the first one."""
    prefixes = _packed_deltas([0, *[n_bytes] * (n_rows - 1)])
    suffixes = _packed_deltas([n_bytes, *[0] * (n_rows - 1)])
    return prefixes + suffixes + b"x" * n_bytes


def _packed_deltas(numbers: Sequence[int]) -> bytes:
    """Return the DELTA_BINARY_PACKED encoding of numbers."""
    content = _varint(128) + _varint(4) + _varint(len(numbers)) + _zigzag(numbers[0])
    deltas = [after - before for before, after in itertools.pairwise(numbers)]
    for start in range(0, len(deltas), 128):
        block = deltas[start : start + 128]
        least = min(block)
        rest = [delta - least for delta in block]
        rest += [0] * (128 - len(rest))
        parts = [rest[place : place + 32] for place in range(0, 128, 32)]
        widths = [max(part).bit_length() for part in parts]
        content += _zigzag(least) + bytes(widths)
        for part, width in zip(parts, widths, strict=True):
            bits = sum(number << width * i for i, number in enumerate(part))
            content += bits.to_bytes(4 * width, "little")
    return content


def parquet(
    pages: Sequence[Page],
    *,
    n_rows: int,
    kind: int = INT64,
    codec: int = UNCOMPRESSED,
    n_columns: int = 1,
) -> bytes:
    """Return a file of columns that are all the same chunk, which is declared as a few bytes."""
    content = b"PAR1" + b"".join(page.content() for page in pages)
    chunks, schema = [], [Struct({4: b"root", 5: i32(n_columns)})]
    for i in range(n_columns):
        name = b"c%d" % i
        column: Struct = {1: i32(kind), 3: i32(0), 4: name}
        schema.append(column | ({6: i32(TEXT)} if kind == BYTE_ARRAY else {}))
        about: Struct = {
            1: i32(kind),
            2: listed(i32(PLAIN)),
            3: listed(name),
            4: i32(codec),
            5: n_rows,
            6: 10,
            7: len(content) - 4,
            9: 4,
        }
        chunks.append(Struct({2: 4, 3: about}))
    group: Struct = {1: listed(*chunks), 2: 10, 3: n_rows}
    footer: Struct = {1: i32(2), 2: listed(*schema), 3: n_rows, 4: listed(group)}
    return with_footer(footer, content)


def with_footer(footer: Struct, content: bytes = b"PAR1") -> bytes:
    """Return a file with this footer."""
    encoded = thrift(footer)
    return content + encoded + struct.pack("<I", len(encoded)) + b"PAR1"
