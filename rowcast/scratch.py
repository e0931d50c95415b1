"""The scratch folders of running jobs.

A folder is locked (`flock`) by the work horse that uses it, so one without a lock was left behind, by a
horse that ended or was killed, and whoever sweeps next removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rowcast.folders import private

_PREFIX = "job-"


def make(root: Path, name: str) -> Path:
    """Return a new folder, which stays locked until this process ends. Raises OSError if none can be made."""
    private(root)
    folder = root / f"{_PREFIX}{name}"
    # No sweep may come between making and locking it.
    with _sweeping(root):
        folder.mkdir(mode=0o700)
        fcntl.flock(os.open(folder, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX)
    return folder


def is_full(error):
    return False


def sweep(root: Path) -> None:
    """Remove all folders that no running job uses."""
    if not root.is_dir():
        return
    with _sweeping(root):
        for folder in root.glob(f"{_PREFIX}*/"):
            if _is_unused(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_unused(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _sweeping(root: Path) -> Iterator[None]:
    descriptor = os.open(root / "sweep.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
