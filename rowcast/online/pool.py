"""The processes of `online.py`: a parent that hands out connections, and the online workers."""

from __future__ import annotations

import socket
from pathlib import Path

from rowcast.config import Settings
from rowcast.online import limits, worker
from rowcast.online.broker import Broker
from rowcast.system import Deadline, LimitedChild, forks, scratch


class OnlineWorker(LimitedChild):
    """An online worker as its parent sees it: killed when it takes too long or too much memory."""

    def __init__(self, settings: Settings, broker: Broker) -> None:
        """Have a process take connections from a broker."""
        self._settings = settings
        self._broker = broker
        super().__init__("online worker", self._serve, settings.online_memory_bytes)

    def start(self) -> None:
        """Fork the process, and begin to watch it."""
        # A process that was killed has left its files.
        scratch.sweep(Path(self._settings.scratch_dir))
        self._channel = self._broker.hire()
        # From here on only the process has it, so that its death ends the channel.
        with self._channel:
            super().start()

    def _serve(self, deadline: Deadline) -> None:
        self._broker.close_copies()
        worker.serve(self._settings, self._channel, deadline)


def run(settings: Settings, listener: socket.socket) -> None:
    """Keep ONLINE_WORKERS processes running until SIGTERM or Ctrl-C.

    They share the memory of what the caller has imported. The caller must not have used a model:
    OpenMP hangs in a fork of a process that has used it.
    """
    broker = Broker(listener)
    workers = [OnlineWorker(settings, broker) for _ in range(settings.online_workers)]
    supervisor = forks.ForkSupervisor(
        workers, stop_limit_s=limits.STOP_S, pause=broker.serve
    )
    supervisor.run()
    scratch.sweep(Path(settings.scratch_dir))
