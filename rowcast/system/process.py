"""The death signal: the kernel kills a process when its parent dies, so that nothing outlives a
kill -9.

It exists on Linux; elsewhere asking for it does nothing. It comes when the *thread* that started
the process ends, so processes are started by main threads only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent(parent_pid: int) -> None:
    """Ask to be killed when the parent dies; `parent_pid` is its process id as the parent itself
    knows it."""
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # A parent that ended before the call above sends no signal any more.
    if os.getppid() != parent_pid:
        os._exit(1)
