"""The disk of the data of Redis and the store, where they are on the server's machine."""

from __future__ import annotations

import os
from pathlib import Path

from rowcast.errors import Unavailable

# What is kept back for Redis: so many bytes, but at most this part of the disk.
RESERVE_BYTES, RESERVE_PART = 16_000_000, 32


def free_bytes(folder: Path) -> int:
    """Return the free bytes of a folder's disk. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def reserve_bytes(folder: Path) -> int:
    """Return how many bytes of a folder's disk are kept back for Redis. Raises OSError."""
    found = os.statvfs(folder)
    return min(RESERVE_BYTES, found.f_blocks * found.f_frsize // RESERVE_PART)


def is_full(folder: Path) -> bool:
    """Return whether a folder's disk has less than two reserves left. Raises OSError."""
    return free_bytes(folder) < 2 * reserve_bytes(folder)


def check(data_dir: str) -> None:
    """Raise Unavailable, with a sentence that names the disk, if it is full; "" is never full."""
    if not data_dir:
        return
    folder = Path(data_dir)
    try:
        n_free = free_bytes(folder)
        has_space = not is_full(folder)
    except OSError as error:
        raise Unavailable(
            f"{data_dir} (DATA_DIR) cannot be read: {error.strerror}."
        ) from None
    if not has_space:
        raise Unavailable(
            f"The disk of {data_dir} is full: {n_free:,} bytes are free. Make room there."
        )
