"""The processes of `online.py`: a parent that computes nothing, and the online workers."""

from __future__ import annotations

import logging
import multiprocessing
import socket
import time
from functools import partial
from pathlib import Path

from rowcast.config import Settings
from rowcast.online import limits, worker
from rowcast.system import forks, memory, scratch

log = logging.getLogger("rowcast.online")


class OnlineWorker(forks.Child):
    """An online worker as its parent sees it: killed when it takes too long or too much memory."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        """Have a process take the connections of a socket."""
        # Monotonic seconds, shared with the process; 0 while it waits for a connection.
        self._busy_since = multiprocessing.RawValue("d", 0.0)
        self._settings = settings
        serve = partial(worker.serve, settings, listener, self._busy_since)
        super().__init__("online worker", serve)

    def start(self) -> None:
        """Fork the process, and begin to watch its memory."""
        # A process that was killed has left its files.
        scratch.sweep(Path(self._settings.scratch_dir))
        self._busy_since.value = 0.0
        super().start()
        self._meter = memory.Meter(self.pid, self._settings.online_memory_bytes)

    def check(self) -> None:
        """Kill the process if it is over a limit; it is then started again."""
        if self._takes_too_long():
            limit_s = self._settings.online_timeout_s
            log.warning("an online worker takes longer than %d s; killing it", limit_s)
            self.kill()
        elif self._meter.is_over():
            log.warning("%s Killing the online worker.", self._meter.failure().detail)
            self.kill()

    def _takes_too_long(self) -> bool:
        busy_since: float = self._busy_since.value
        if not busy_since:
            return False
        return time.monotonic() > busy_since + self._settings.online_timeout_s


def run(settings: Settings, listener: socket.socket) -> None:
    """Keep ONLINE_WORKERS processes running until SIGTERM or Ctrl-C.

    They share the memory of what the caller has imported. The caller must not have used a model:
    OpenMP hangs in a fork of a process that has used it.
    """
    n_workers = settings.online_workers
    workers = [OnlineWorker(settings, listener) for _ in range(n_workers)]
    forks.ForkSupervisor(workers, stop_limit_s=limits.STOP_S).run()
