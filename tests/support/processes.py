"""What tests ask about processes."""

from __future__ import annotations

import psutil


def has_ended(process: psutil.Process) -> bool:
    """Return whether no thread of a process runs any more; a zombie counts as ended."""
    try:
        if not process.is_running():
            return True
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return bool(is_zombie and process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True
