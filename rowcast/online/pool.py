"""The processes of `online.py`: a parent that computes nothing, and the online workers."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

from rowcast.config import Settings
from rowcast.online import limits, worker
from rowcast.system import LimitedChild, forks, scratch


class OnlineWorker(LimitedChild):
    """An online worker as its parent sees it: killed when it takes too long or too much memory."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        """Have a process take the connections of a socket."""
        self._settings = settings
        serve = partial(worker.serve, settings, listener)
        super().__init__("online worker", serve, settings.online_memory_bytes)

    def start(self) -> None:
        """Fork the process, and begin to watch it."""
        # A process that was killed has left its files.
        scratch.sweep(Path(self._settings.scratch_dir))
        super().start()


def run(settings: Settings, listener: socket.socket) -> None:
    """Keep ONLINE_WORKERS processes running until SIGTERM or Ctrl-C.

    They share the memory of what the caller has imported. The caller must not have used a model:
    OpenMP hangs in a fork of a process that has used it.
    """
    n_workers = settings.online_workers
    workers = [OnlineWorker(settings, listener) for _ in range(n_workers)]
    forks.ForkSupervisor(workers, stop_limit_s=limits.STOP_S).run()
