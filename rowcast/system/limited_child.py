"""Forked children with limits: the time for a piece of work, and the memory of the process."""

from __future__ import annotations

import logging
import math
import multiprocessing
import time
from collections.abc import Callable

from rowcast.system import forks, memory

log = logging.getLogger("rowcast.processes")


class Deadline:
    """When a child's current work must end; parent and child share it."""

    def __init__(self) -> None:
        """Set no deadline."""
        # Monotonic seconds, which all processes of a machine share; 0 while there is no work.
        self._ends_at = multiprocessing.RawValue("d", 0.0)

    def start(self, limit_s: float) -> None:
        """Have the work end within so many seconds."""
        self._ends_at.value = time.monotonic() + limit_s

    def stop(self) -> float:
        """Return the seconds that were left, and let the child wait from now on."""
        ends_at: float = self._ends_at.value
        self._ends_at.value = 0.0
        return max(ends_at - time.monotonic(), 0.0)

    def is_running(self) -> bool:
        """Return whether the child works."""
        return bool(self._ends_at.value)

    def has_passed(self) -> bool:
        """Return whether the child works for too long."""
        ends_at: float = self._ends_at.value or math.inf
        return time.monotonic() > ends_at


class LimitedChild(forks.Child):
    """A child that its parent kills when it works too long or takes too much memory."""

    def __init__(
        self, name: str, work: Callable[[Deadline], None], memory_bytes: int
    ) -> None:
        """Name the child for the log; `work` sets the deadline for each piece of its work."""
        self._deadline = Deadline()
        self._memory_bytes = memory_bytes
        super().__init__(name, lambda: work(self._deadline))

    def start(self) -> None:
        """Fork the process, and begin to watch it."""
        self._deadline.stop()
        super().start()
        self._meter = memory.Meter(self.pid, self._memory_bytes)

    def check(self) -> None:
        """Kill the process if it is over a limit; it is then started again."""
        if self._deadline.has_passed():
            log.warning("%s takes longer than its limit; killing it", self.name)
            self.kill()
        elif self._meter.is_over():
            log.warning("%s Killing the %s.", self._meter.failure().detail, self.name)
            self.kill()
