"""The text of a file as chunks of UTF-8: unpacked, decoded, and never more of it in memory than a
chunk."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import pyarrow as pa

from rowcast.errors import InvalidTable
from rowcast.tables import file_types
from rowcast.tables.limits import Limits

Compression = Literal["gzip", "zstd"]

SAMPLE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_SIP_BYTES = 1 << 12
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NAMES = {
    "utf-8": "UTF-8",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "cp1252": "Windows-1252",
}
_SAVE_AS_UTF8 = (
    "Save the file as UTF-8 (in Excel: 'CSV UTF-8'), upload it again and submit "
    "the new id."
)


class Readable(Protocol):
    """A binary file, as far as it is read from its start to its end."""

    def read(self, n_bytes: int, /) -> bytes:
        """Return the next bytes, none at the end."""


class Sips:
    """A file that gives little at a time, so that `n_bytes` tells how much of it was needed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.n_bytes = 0
        self.closed = False

    def read(self, n_bytes: int = _SIP_BYTES, /) -> bytes:
        """Return the next bytes, perhaps fewer than asked for; none at the end."""
        content = self._file.read(min(n_bytes, _SIP_BYTES))
        self.n_bytes += len(content)
        return content

    def seek(self, offset: int, /) -> int:
        """Go to a place; what was needed before still counts."""
        return self._file.seek(offset)

    def readable(self) -> bool:
        """Tell that this file can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that this file has places."""
        return True

    def close(self) -> None:
        """Let go of the file."""
        self.closed = True


Packed = BinaryIO | Sips


@dataclass(frozen=True)
class Sample:
    """The beginning of a text: decoded, without its byte order mark."""

    text: str
    encoding: str
    is_whole: bool


def first_bytes(file: Packed, compression: Compression | None) -> tuple[bytes, bool]:
    """Return the first MiB of a file, unpacked, and whether this is all of it.

    Raises:
        InvalidTable: the packed file is damaged.
    """
    content = b"".join(_chunks(file, compression, SAMPLE_BYTES + 1))
    return content[:SAMPLE_BYTES], len(content) <= SAMPLE_BYTES


def first_bytes_of_part(file: Packed, compression: Compression) -> bytes:
    """Return what the beginning of a packed file unpacks to, as far as it reaches, at most a
    MiB."""
    parts: list[bytes] = []
    try:
        parts.extend(_chunks(file, compression, SAMPLE_BYTES))
    except InvalidTable:
        if not parts:
            raise
    return b"".join(parts)[:SAMPLE_BYTES]


def sample_of(content: bytes, *, is_whole: bool, encoding: str | None = None) -> Sample:
    """Return the text that a file begins with; without `encoding`, the one that this beginning
    shows.

    Raises:
        InvalidTable: this is no text, or of no encoding that we know.
    """
    mark, marked = _mark(content)
    if not marked:
        file_types.refuse_binary(content)
    encoding = (
        encoding or marked or ("utf-8" if _is_utf8(content, is_whole) else "cp1252")
    )
    text = _decode(content[len(mark) :], encoding, is_whole)
    if marked:
        file_types.refuse_binary(text.encode())
    return Sample(text, encoding, is_whole)


def encoding_of(path: Path, compression: Compression | None, limits: Limits) -> str:
    """Return the encoding of a text, of which every byte is looked at.

    Raises:
        InvalidTable: it is damaged, no text, of no encoding that we know, or too long once
            unpacked.
    """
    with path.open("rb") as file:
        marked = _mark(b"".join(_chunks(file, compression, 4)))[1]
    with path.open("rb") as file:
        chunks = _limited(_chunks(file, compression), compression, limits)
        if marked:
            for _ in _decoded(chunks, marked):
                pass
            return marked
        decoders = {
            name: codecs.getincrementaldecoder(name)() for name in ("utf-8", "cp1252")
        }
        for chunk in chunks:
            _try_decoders(decoders, chunk)
        _try_decoders(decoders, b"", final=True)
        return next(iter(decoders))


def utf8_chunks(
    path: Path, compression: Compression | None, encoding: str, limits: Limits
) -> Iterator[bytes]:
    """Yield the text of a file as UTF-8 without its byte order mark.

    Raises:
        InvalidTable: as `encoding_of`.
    """
    with path.open("rb") as file:
        chunks = _limited(_chunks(file, compression), compression, limits)
        if encoding == "utf-8":
            yield from _without_mark(chunks)
        else:
            for text in _decoded(chunks, encoding):
                yield text.encode()


class ChunkFile:
    """A file for Arrow that gives what an iterator of chunks yields."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = bytearray()
        self.closed = False

    def read(self, n_bytes: int = -1) -> bytes:
        """Return exactly as many bytes as asked for, fewer at the end."""
        while n_bytes < 0 or len(self._rest) < n_bytes:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        end = len(self._rest) if n_bytes < 0 else n_bytes
        content = bytes(self._rest[:end])
        del self._rest[:end]
        return content

    def readable(self) -> bool:
        """Tell that this file can be read."""
        return True

    def close(self) -> None:
        """Let go of the chunks."""
        self.closed = True


def _mark(content: bytes) -> tuple[bytes, str | None]:
    return next(
        ((mark, name) for mark, name in _BOMS if content.startswith(mark)), (b"", None)
    )


def _without_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = next(chunks, b"")
    yield first.removeprefix(codecs.BOM_UTF8)
    yield from chunks


def _decoded(chunks: Iterator[bytes], encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    is_first = True
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            if "\0" in text:
                file_types.refuse_binary(b"\0")
            yield text.removeprefix("\ufeff") if is_first else text
            is_first = False
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise _undecodable(encoding) from None


def _try_decoders(
    decoders: dict[str, Any], chunk: bytes, *, final: bool = False
) -> None:
    """Remove the decoders that cannot decode this chunk; refuse it when none is left."""
    if b"\0" in chunk:
        file_types.refuse_binary(b"\0")
    # A character that is cut off between two chunks is in the decoder's state.
    if (
        chunk.isascii()
        and not final
        and not any(decoder.getstate()[0] for decoder in decoders.values())
    ):
        return
    for name, decoder in list(decoders.items()):
        try:
            decoder.decode(chunk, final)
        except UnicodeDecodeError:
            del decoders[name]
    if not decoders:
        raise _undecodable("cp1252")


def _is_utf8(content: bytes, is_whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, is_whole)
    except UnicodeDecodeError:
        return False
    return True


def _decode(content: bytes, encoding: str, is_whole: bool) -> str:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(content, is_whole)
    except UnicodeDecodeError:
        raise _undecodable(encoding) from None


def _undecodable(encoding: str) -> InvalidTable:
    if encoding == "cp1252":
        return InvalidTable(
            "The text is neither UTF-8 nor Windows-1252.", hint=_SAVE_AS_UTF8
        )
    return InvalidTable(
        f"The text is not {_NAMES[encoding]}, though its byte order mark says so.",
        hint=_SAVE_AS_UTF8,
    )


def _chunks(
    file: Packed, compression: Compression | None, n_max: int | None = None
) -> Iterator[bytes]:
    """Yield the content of a file, unpacked; at most `n_max` bytes of it."""
    n_left = n_max
    try:
        unpacked = _unpacked(file, compression)
        while n_left is None or n_left > 0:
            chunk = bytes(
                unpacked.read(
                    _CHUNK_BYTES if n_left is None else min(_CHUNK_BYTES // 16, n_left)
                )
            )
            if not chunk:
                break
            n_left = None if n_left is None else n_left - len(chunk)
            yield chunk
    except (EOFError, OSError, zlib.error, pa.ArrowException, MemoryError):
        if compression is None:
            raise
        raise InvalidTable(
            f"The {compression} file is damaged or only a part of one.",
            hint="Pack the table again, upload it and submit the new id.",
        ) from None


def _unpacked(file: Packed, compression: Compression | None) -> Readable:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=file)
    if compression == "zstd":
        return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")  # type: ignore[no-any-return]
    return file


def _limited(
    chunks: Iterator[bytes], compression: Compression | None, limits: Limits
) -> Iterator[bytes]:
    n_bytes = 0
    for chunk in chunks:
        n_bytes += len(chunk)
        if compression:
            limits.check_unpacked(n_bytes)
        yield chunk
