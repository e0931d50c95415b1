"""The request that a worker stops: signal handlers make it, and the worker obeys where it can."""

from __future__ import annotations

import math
import time


class StopRequest:
    """Whether a worker is to stop, and how long its running job may still take."""

    def __init__(self, grace_s: float) -> None:
        """Give a running job `grace_s` seconds from the request on."""
        self.is_made = False
        # A worker that holds no job may be interrupted anywhere.
        self.may_interrupt = True
        self._grace_s = grace_s
        self._deadline = math.inf

    def make(self) -> None:
        """Ask the worker to stop once its job has ended."""
        self.is_made = True
        self._deadline = time.monotonic() + self._grace_s

    def hurry(self) -> None:
        """Ask the worker to stop immediately, and to requeue its job."""
        self.is_made = True
        self._deadline = time.monotonic()

    def is_overdue(self) -> bool:
        """Return whether a running job has had its grace."""
        return time.monotonic() >= self._deadline
