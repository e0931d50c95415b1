"""A reserve on the disk of the data folder, which Redis gets when nothing else is left.

With `appendfsync always` Redis ends when it cannot write. So a file of some megabytes is kept, and
deleted on a full disk: what runs can end, and the rest waits for space.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rowcast.system import data_disk

# Seconds between two looks at the disk.
LOOK_S = 1.0
# A full disk explains the death of a part for so many seconds: its files may be gone by then.
EXPLAINS_S = 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Reserve:
    """The file `reserve` of a data folder; `look` gives it free, or takes it again."""

    def __init__(self, data: Path, say: Callable[[str], None]) -> None:
        """Look after the disk of `data`, and write messages for people with `say`."""
        self._data = data
        self._path = data / "reserve"
        self._probe = data / "reserve.probe"
        self._say = say
        self._look_at = 0.0
        self._full_at = -math.inf
        self._has_said = False

    def look(self) -> None:
        """Delete the reserve if the disk is full, make it if there is space; every LOOK_S."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        # A disk that does not answer is the concern of the part that needs it.
        with suppress(OSError):
            self._look()

    def _look(self) -> None:
        n_free = data_disk.free_bytes(self._data)
        n_reserve = data_disk.reserve_bytes(self._data)
        if n_free < n_reserve:
            self._give()
        elif n_free >= 3 * n_reserve and not self._path.exists():
            self._take(n_reserve)
        if data_disk.is_full(self._data):
            self._full_at = time.monotonic()
        elif self._has_said:
            self._has_said = False
            self._say(f"The disk of {self._data} has space again.")

    def explanation(self) -> str:
        """Return why a part has died if the disk is full, or was a moment ago; else ""."""
        with suppress(OSError):
            self._look()
        if not self._can_write():
            self._give()
        if time.monotonic() > self._full_at + EXPLAINS_S:
            return ""
        return f"the disk of {self._data} is full"

    def _give(self) -> None:
        """Delete the reserve, and say that the disk is full."""
        self._full_at = time.monotonic()
        self._path.unlink(missing_ok=True)
        if not self._has_said:
            self._has_said = True
            self._say(
                f"The disk of {self._data} is full. Make room: everything waits for it, and goes "
                "on by itself. Until then Redis uses a small reserve."
            )

    def _take(self, n_bytes: int) -> None:
        # Random bytes take their space on disks that compress, too.
        try:
            self._path.write_bytes(os.urandom(n_bytes))
        except OSError:
            self._path.unlink(missing_ok=True)

    def _can_write(self) -> bool:
        """Return whether the disk takes a few bytes: a quota does not show in its free space."""
        try:
            self._probe.write_bytes(bytes(4096))
        except OSError as error:
            return error.errno not in _FULL
        finally:
            with suppress(OSError):
                self._probe.unlink(missing_ok=True)
        return True
