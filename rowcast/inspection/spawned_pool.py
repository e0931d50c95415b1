"""The pool of inspectors as its server process sees it: started on first use, and when it died."""

from __future__ import annotations

import logging
import math
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

from rowcast.config import Settings
from rowcast.errors import NoInspector
from rowcast.inspection import limits

log = logging.getLogger("rowcast.inspection")

_ROOT = Path(__file__).resolve().parents[2]


class SpawnedPool:
    """A pool that ends with this process; any thread may use it."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing yet."""
        self._environment = _environment(settings)
        self._lock = threading.Lock()
        self._pool: _Pool | None = None
        self._started_at = -math.inf

    def start(self) -> None:
        """Start the pool, unless it runs.

        Raises:
            NoInspector: it cannot be started, or has just failed.
        """
        with self._lock:
            self._running()

    def hand_over(self, ours: socket.socket) -> None:
        """Have the next free inspector take the other end of a socket.

        Raises:
            NoInspector: the pool cannot be started, or has just failed.
        """
        with self._lock:
            pool = self._running()
        try:
            socket.send_fds(pool.control, [b"?"], [ours.fileno()])
        except OSError as error:
            raise NoInspector(f"No inspector runs ({error.strerror}).") from None

    def wait_s(self) -> float:
        """Return the seconds within which an inspector accepts a question."""
        since_start_s = time.monotonic() - self._started_at
        return max(limits.WAIT_S, limits.START_S - since_start_s)

    def _running(self) -> _Pool:
        if self._pool and self._pool.is_alive():
            return self._pool
        if self._pool:
            log.warning("the pool of inspectors ended; starting another")
            self._pool.stop()
            self._pool = None
        if time.monotonic() < self._started_at + limits.RESTART_PAUSE_S:
            raise NoInspector("The inspectors have just failed; they start again soon.")
        self._started_at = time.monotonic()
        try:
            self._pool = _Pool(self._environment)
        except OSError as error:
            raise NoInspector(f"No inspector starts ({error.strerror}).") from None
        return self._pool


class _Pool:
    """The running process, and our end of the socket to it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.control, theirs = socket.socketpair()
        # Full only when nobody takes questions; then a request must not wait for that.
        self.control.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rowcast.inspection"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=environment,
                # A Ctrl-C in the server's terminal must not end questions in progress.
                start_new_session=True,
            )
        # At the latest when this process ends.
        self.stop = weakref.finalize(self, _stop, self.control, self._process)

    def is_alive(self) -> bool:
        return self._process.poll() is None


def _stop(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(limits.STOP_S)
    process.kill()
    process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    """Return the variables of the pool: the settings that it reads, and no secret."""
    path = [str(_ROOT), *filter(None, sys.path)]
    return {
        "INSPECTORS": str(settings.inspectors),
        "INSPECTION_MEMORY_BYTES": str(settings.inspection_memory_bytes),
        "INSPECTION_TIMEOUT_S": str(settings.inspection_timeout_s),
        "LOG_LEVEL": settings.log_level,
        "LOG_FORMAT": settings.log_format,
        "PYTHONPATH": os.pathsep.join(path),
        # Arrow's own pools reserve memory ahead, which counts for the limit.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "OPENBLAS_NUM_THREADS": "1",
    }
