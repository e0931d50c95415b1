"""What a process asks of the kernel for itself: a death signal, and the title that `ps` shows."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies, even by `kill -9`.

    Linux only; elsewhere it does nothing. The signal comes when the *thread* that started the
    process ends, so only main threads may start processes.

    Args:
        parent_pid: the parent's process id, as the parent itself knows it.
    """
    if _prctl is None:
        return

    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # A parent that ended before the call above no longer sends a signal.
    if os.getppid() != parent_pid:
        os._exit(1)


def set_process_title(title: str) -> None:
    """Set what `ps` and `top` show for this process, at most 15 characters; Linux only."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(title)
