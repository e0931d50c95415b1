"""What a process asks of the kernel for itself: a death signal, privacy, and the title of `ps`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
# A tenth of the weight of other processes.
_NICENESS = 10
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


def hide_memory() -> None:
    """Have the kernel close this process to others of the same user: memory, files, environment.

    Linux only. Forks inherit it; `show_memory` ends it. What needs the owner's rights in `/proc`,
    such as reading another process's PSS, then needs root.
    """
    _set_dumpable(False)


def show_memory() -> None:
    """Let other processes of the same user look at this one again, as is the default."""
    _set_dumpable(True)


def _set_dumpable(is_dumpable: bool) -> None:
    if _prctl is not None:
        _prctl(_PR_SET_DUMPABLE, int(is_dumpable), 0, 0, 0)


def yield_cores() -> None:
    """Let processes that somebody waits for go first: this one works in the background.

    On an idle core it is as fast as before. Children inherit it.
    """
    os.nice(_NICENESS)
    # Where the kernel shares the cores between sessions first, niceness counts inside of one only.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICENESS))


def set_process_title(title: str) -> None:
    """Set what `ps` and `top` show for this process, at most 15 characters; Linux only."""
    if _prctl is not None:
        _prctl(_PR_SET_NAME, ctypes.c_char_p(title.encode()), 0, 0, 0)
