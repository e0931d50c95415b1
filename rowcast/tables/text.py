"""The text of a file as chunks of UTF-8: decompressed, decoded, with one chunk in memory."""

from __future__ import annotations

import codecs
import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from rowcast.errors import InvalidTable
from rowcast.tables import file_types
from rowcast.tables.files import Compression
from rowcast.tables.limits import Limits
from rowcast.tables.text_encodings import WESTERN, Words

SAMPLE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_SAMPLE_CHUNK_BYTES = 1 << 16
_COUNTED_BYTES = 1 << 12
# So many parts with other characters than ASCII show the encoding.
_JUDGED_CHUNKS = 32
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NAMES = {
    "utf-8": "UTF-8",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
}
_SAVE_AS_UTF8 = (
    "Save the file as UTF-8 (in Excel: 'CSV UTF-8'), upload it again and submit the "
    "new id."
)


class Readable(Protocol):
    """A binary file that can be read from its start to its end."""

    def read(self, n_bytes: int, /) -> bytes:
        """Return the next bytes, none at the end."""


class CountingFile:
    """A file that returns few bytes at a time, so that `n_bytes` counts those that were needed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.n_bytes = 0
        self.closed = False

    def read(self, n_bytes: int = _COUNTED_BYTES, /) -> bytes:
        """Return the next bytes, perhaps fewer than `n_bytes`; none at the end."""
        content = self._file.read(min(n_bytes, _COUNTED_BYTES))
        self.n_bytes += len(content)
        return content

    def seek(self, offset: int, /) -> int:
        """Go to a place; bytes that were read before still count."""
        return self._file.seek(offset)

    def readable(self) -> bool:
        """Return True, as Arrow asks."""
        return True

    def seekable(self) -> bool:
        """Return True, as gzip asks."""
        return True

    def close(self) -> None:
        """Mark the file as closed."""
        self.closed = True


Stored = BinaryIO | CountingFile


@dataclass(frozen=True)
class TextSample:
    """The beginning of a text: decoded, without its byte order mark."""

    text: str
    encoding: str
    is_whole: bool


def first_bytes(file: Stored, compression: Compression | None) -> tuple[bytes, bool]:
    """Return the first MiB of a file, decompressed, and whether it is the whole content.

    Raises:
        InvalidTable: the compressed file is damaged.
    """
    content = b"".join(_chunks(file, compression, SAMPLE_BYTES + 1))
    return content[:SAMPLE_BYTES], len(content) <= SAMPLE_BYTES


def first_bytes_of_part(file: Stored, compression: Compression) -> bytes:
    """Return at most a MiB of what the beginning of a compressed file decompresses to.

    Raises:
        InvalidTable: the file is damaged from its start.
    """
    parts: list[bytes] = []
    try:
        parts.extend(_chunks(file, compression, SAMPLE_BYTES))
    except InvalidTable:
        if not parts:
            raise
    return b"".join(parts)[:SAMPLE_BYTES]


def sample_of(
    content: bytes, *, is_whole: bool, encoding: str | None = None
) -> TextSample:
    """Return the text that a file begins with.

    Without `encoding`, the byte order mark or the bytes themselves decide.

    Raises:
        InvalidTable: the content is not text, or its encoding is not supported or not the named
            one.
    """
    mark, known = _mark_and_encoding(content, encoding)
    is_wide = known is not None and known.startswith("utf-16")
    if not is_wide:
        file_types.reject_binary(content)
    found = known or _found_in(content, is_whole)
    text = _decode(content[len(mark) :], found, is_whole, is_named=encoding is not None)
    if is_wide:
        file_types.reject_binary(text.encode())
    # GB18030 has a mark of its own.
    return TextSample(text if mark else text.removeprefix("\ufeff"), found, is_whole)


def encoding_of(
    path: Path,
    compression: Compression | None,
    limits: Limits,
    named: str | None = None,
) -> str:
    """Return the encoding of a text file, after reading every byte; `named` is that to be expected.

    Raises:
        InvalidTable: the file is damaged or not text, its encoding is not supported or not the
            named one, or it is too long after decompression.
    """
    with path.open("rb") as file:
        start = b"".join(_chunks(file, compression, 4))
    _, known = _mark_and_encoding(start, named)
    with path.open("rb") as file:
        chunks = _limited(_chunks(file, compression), compression, limits)
        if known:
            for _ in _decoded(chunks, known, is_named=named is not None):
                pass
            return known

        names = ("utf-8", "cp1252")
        decoders = {name: codecs.getincrementaldecoder(name)() for name in names}
        for chunk in chunks:
            _drop_failing(decoders, chunk)
        _drop_failing(decoders, b"", final=True)
    if "utf-8" in decoders:
        return "utf-8"
    with path.open("rb") as file:
        encoding = _encoding_of_words(_with_end(_chunks(file, compression)))
    if encoding == "cp1252" and encoding not in decoders:
        raise _undecodable(encoding)
    return encoding


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
            yield next(chunks, b"").removeprefix(codecs.BOM_UTF8)
            yield from chunks
        else:
            for text in _decoded(chunks, encoding):
                yield text.encode()


class ChunkFile:
    """A file for Arrow that returns the chunks of an iterator."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = bytearray()
        self.closed = False

    def read(self, n_bytes: int = -1) -> bytes:
        """Return exactly `n_bytes` bytes, fewer at the end."""
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
        """Return True, as Arrow asks."""
        return True

    def close(self) -> None:
        """Mark the file as closed."""
        self.closed = True


def _byte_order_mark(content: bytes) -> tuple[bytes, str | None]:
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return mark, encoding
    return b"", None


def _mark_and_encoding(content: bytes, named: str | None) -> tuple[bytes, str | None]:
    """Return the byte order mark, and the encoding that it or the caller names, None if neither."""
    mark, marked = _byte_order_mark(content)
    if named is None:
        return mark, marked
    if marked is None:
        return mark, "utf-16-le" if named == "utf-16" else named
    if marked == named or _NAMES[marked].lower() == named:
        return mark, marked
    raise InvalidTable(
        f"The file is {_NAMES[marked]} by its byte order mark, not {named}, as 'encoding' says.",
        hint="Leave 'encoding' out.",
    )


def _decoded(
    chunks: Iterator[bytes], encoding: str, *, is_named: bool = False
) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    is_first = True
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            if "\0" in text:
                raise file_types.not_a_table()
            yield text.removeprefix("\ufeff") if is_first else text
            is_first = False
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise _undecodable(encoding, is_named=is_named) from None


def _drop_failing(
    decoders: dict[str, Any], chunk: bytes, *, final: bool = False
) -> None:
    """Remove the decoders that cannot decode this chunk; reject it when none is left."""
    if b"\0" in chunk:
        raise file_types.not_a_table()
    # A character that is cut off between two chunks is in a decoder's state.
    is_between = any(decoder.getstate()[0] for decoder in decoders.values())
    if chunk.isascii() and not final and not is_between:
        return
    for name, decoder in list(decoders.items()):
        try:
            decoder.decode(chunk, final)
        except UnicodeDecodeError:
            del decoders[name]


def _found_in(content: bytes, is_whole: bool) -> str:
    """Return the encoding of the beginning of a text, or of all of it."""
    if _is_utf8(content, is_whole):
        return "utf-8"
    return _encoding_of_words([content + b"\n" * is_whole])


def _with_end(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks of a text, the last one with the end of a line."""
    last = next(chunks, b"")
    for chunk in chunks:
        yield last
        last = chunk
    yield last + b"\n"


def _encoding_of_words(chunks: Iterable[bytes]) -> str:
    """Return the encoding that the words of a text show.

    Raises:
        InvalidTable: they leave a doubt; names the likeliest.
    """
    words = Words()
    end = b"\n"
    n_left = _JUDGED_CHUNKS
    for chunk in chunks:
        # Fields that a part cuts off are not judged, but the text begins and ends with whole ones.
        words.add(end + chunk)
        end = b""
        n_left -= not chunk.isascii()
        if words.is_full or not n_left:
            break
    finding = words.judge()
    if finding.encoding is None:
        raise _doubtful(finding.guess)
    return finding.encoding


def _doubtful(guess: str) -> InvalidTable:
    if guess == "utf-8":
        detail = "Most of the text is UTF-8, but not all of it."
        return InvalidTable(detail, hint=_SAVE_AS_UTF8)
    detail = "The text is neither UTF-8 nor Windows-1252, as far as its words tell"
    if guess == WESTERN:
        return InvalidTable(f"{detail}.", hint=_SAVE_AS_UTF8)
    return InvalidTable(
        f"{detail}; it looks like {guess}.",
        hint=f"If it is, name it by encoding={guess}; if not, name the right one, such as "
        "encoding=cp1252, or save the file as UTF-8.",
    )


def _is_utf8(content: bytes, is_whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, is_whole)
    except UnicodeDecodeError:
        return False
    return True


def _decode(content: bytes, encoding: str, is_whole: bool, *, is_named: bool) -> str:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(content, is_whole)
    except UnicodeDecodeError:
        raise _undecodable(encoding, is_named=is_named) from None


def _undecodable(encoding: str, *, is_named: bool = False) -> InvalidTable:
    if is_named:
        return InvalidTable(
            f"The text is not {encoding}, although 'encoding' says so.",
            hint="Name the encoding that the file was written in, or save it as UTF-8.",
        )
    if encoding not in _NAMES and encoding != "cp1252":
        return InvalidTable(
            f"The text looks like {encoding}, but not all of it is.",
            hint="Name its encoding by 'encoding', or save it as UTF-8.",
        )
    if encoding == "cp1252":
        detail = "The text is neither UTF-8 nor Windows-1252."
    else:
        name = _NAMES[encoding]
        detail = f"The text is not {name}, although its byte order mark says so."
    return InvalidTable(detail, hint=_SAVE_AS_UTF8)


def _chunks(
    file: Stored, compression: Compression | None, n_max: int | None = None
) -> Iterator[bytes]:
    """Yield the content of a file, decompressed; at most `n_max` bytes of it."""
    n_left = sys.maxsize if n_max is None else n_max
    n_chunk = _CHUNK_BYTES if n_max is None else _SAMPLE_CHUNK_BYTES
    try:
        content = _decompressed(file, compression)
        while n_left > 0:
            chunk = bytes(content.read(min(n_chunk, n_left)))
            if not chunk:
                break
            n_left -= len(chunk)
            yield chunk
    except (EOFError, OSError, zlib.error, pa.ArrowException, MemoryError):
        if compression is None:
            raise
        raise InvalidTable(
            f"The {compression} file is damaged or truncated.",
            hint="Compress the table again, upload it and submit the new id.",
        ) from None


def _decompressed(file: Stored, compression: Compression | None) -> Readable:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=file)
    if compression == "zstd":
        stream: BinaryIO = pa.CompressedInputStream(
            pa.PythonFile(file, mode="r"), "zstd"
        )
        return stream
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
