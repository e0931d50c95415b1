"""Small disks, which fill up soon."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_CHUNK_BYTES = 100_000


@contextlib.contextmanager
def small_disk(folder: Path, n_mb: int) -> Iterator[Path]:
    """Mount a disk of some megabytes on a new folder; skip the test unless root may do that."""
    folder.mkdir()
    options = f"size={n_mb}m,mode=700"
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Append to a file until its disk is full."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while file.write(bytes(_CHUNK_BYTES)):
            pass
    # The last bytes as well, which are too few for a chunk.
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while file.write(bytes(512)):
            pass
