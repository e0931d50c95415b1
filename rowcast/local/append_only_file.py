"""The end of Redis' append-only file after a power cut.

What was written last may be torn, or zeros: then the file has its new length, and the bytes are
lost. Redis cuts off a torn command by itself, but refuses zeros. Nothing of this was acknowledged,
because Redis answers after its file is synced.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER, NAME = "appendonlydir", "appendonly.aof"
# What a power cut may damage, in bytes. Damage before that is not a torn tail: a person decides.
TAIL_BYTES = 4_000_000
# No command of ours has so many zeros in a row.
_ZEROS = bytes(512)


def mend(redis_folder: Path) -> str:
    """Cut off a damaged tail, and return a sentence that says so; "" if nothing was wrong.

    What is cut off is kept in a file beside it.

    Raises:
        OSError: the file cannot be read or written.
    """
    path = _last_file(redis_folder / FOLDER)
    if path is None or not _looks_damaged(path):
        return ""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        n_whole = whole_bytes(content)
        tail = content[n_whole:] if len(content) - n_whole <= TAIL_BYTES else b""
    if not tail:
        return ""

    kept = path.with_name(f"{path.name}.{n_whole}-cut-off-{int(time.time())}")
    kept.write_bytes(tail)
    os.truncate(path, n_whole)
    return (
        f"The end of {path.name} was damaged, as a power cut leaves it: the last "
        f"{len(tail):,} bytes were cut off, and are kept in {kept}."
    )


def _last_file(folder: Path) -> Path | None:
    """Return the file that Redis appends to, as the manifest names it."""
    try:
        lines = (folder / f"{NAME}.manifest").read_text().splitlines()
    except FileNotFoundError:
        return None
    # file appendonly.aof.1.incr.aof seq 1 type i
    names = [line.split()[1] for line in lines if line.endswith(" type i")]
    path = folder / names[-1] if names else None
    return path if path and path.is_file() else None


def _looks_damaged(path: Path) -> bool:
    """Return whether the tail does not end as a command does, or has a hole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read()
    return bool(tail) and (not tail.endswith(b"\r\n") or _ZEROS in tail)


def whole_bytes(content: mmap.mmap | bytes) -> int:
    """Return the length of the whole commands that a file begins with.

    A transaction counts as one command.
    """
    n_whole, is_open = 0, False
    for end, name in _commands(content):
        if name == b"multi":
            is_open = True
        elif name == b"exec":
            is_open = False
        if not is_open:
            n_whole = end
    return n_whole


def _commands(content: mmap.mmap | bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the end of each whole command, and its name in lower case."""
    place = 0
    try:
        while place < len(content):
            name, place = _command(content, place)
            yield place, name
    except ValueError:
        return


def _command(content: mmap.mmap | bytes, place: int) -> tuple[bytes, int]:
    """Return the name of the command at a place, and its end. Raises ValueError."""
    if content[place : place + 1] == b"#":
        # An annotation, such as the time.
        return b"", _line_end(content, place)
    n_words, place = _number(content, place, b"*")
    name = b""
    for nth in range(n_words):
        length, place = _number(content, place, b"$")
        end = place + length
        if content[end : end + 2] != b"\r\n":
            raise ValueError("a word does not end where it should")
        if nth == 0:
            name = content[place:end].lower()
        place = end + 2
    return name, place


def _number(content: mmap.mmap | bytes, place: int, mark: bytes) -> tuple[int, int]:
    """Return the number after a mark, and the end of its line. Raises ValueError."""
    if content[place : place + 1] != mark:
        raise ValueError(f"{mark!r} is missing")
    end = _line_end(content, place)
    digits = content[place + 1 : end - 2]
    if not digits.isdigit():
        raise ValueError("a number is missing")
    return int(digits), end


def _line_end(content: mmap.mmap | bytes, place: int) -> int:
    end = content.find(b"\r\n", place)
    if end < 0:
        raise ValueError("a line is torn")
    return end + 2
