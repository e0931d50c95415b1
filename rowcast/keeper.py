"""The keeper: a process beside the workers that keeps the queue true and the house clean, every second.

Any number of them may run; each duty is safe to do twice, or done by whoever comes first.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rowcast import ending, errors, logs
from rowcast.config import Settings
from rowcast.connections import connect_for_keeping
from rowcast.lanes import Lanes
from rowcast.storage import KEEPER, Storage

log = logging.getLogger("rowcast.keeper")

TURN_S = 1.0


@dataclass
class Duty:
    """Something to do every so many seconds."""

    do: Callable[[], Any]
    every_s: float
    due_at: float = field(default_factory=time.monotonic)

    def turn(self) -> None:
        """Do it if it is time; what goes wrong is logged, and tried again the next time."""
        if time.monotonic() < self.due_at:
            return
        self.due_at = time.monotonic() + self.every_s
        try:
            self.do()
        except Exception as error:
            # Whatever is wrong with one duty, the others are done.
            known = isinstance(error, errors.Unavailable) or type(error).__module__.startswith("redis")
            log.warning("%s was not done: %s", self.do.__name__, type(error).__name__, exc_info=not known)


class Keeper:
    """What is done, by whom, how often."""

    def __init__(self, settings: Settings) -> None:
        """Connect lazily."""
        self._settings = settings
        self._lanes = Lanes(connect_for_keeping(settings))
        self._storage = Storage(settings, KEEPER, connections=4)
        self.duties = [
            Duty(self.recover, TURN_S),
            Duty(self.end_orphaned, TURN_S),
            Duty(self.store_late, 2 * TURN_S),
            Duty(self.reconcile, 10.0),
        ]

    def recover(self) -> None:
        """Give the jobs of silent workers to others."""
        ttl_s = self._settings.worker_ttl_s
        silence = errors.WorkerLost(f"The job's worker was not heard of for {ttl_s} s.")
        jobs = [(job_id, self._lanes.fields(job_id)) for job_id in self._lanes.expired()]
        # Those that can only end need the store; if it is away, they do not hold up the others.
        for job_id, fields in sorted(jobs, key=lambda job: "burials" in job[1]):
            with logs.bind(job_id=job_id, request_id=fields.get("request_id")):
                ending.give_up(self._lanes, self._storage, job_id, fields, silence, ttl_s=ttl_s)

    def end_orphaned(self) -> None:
        """End the jobs whose fit made no model."""
        ending.end_orphaned(self._lanes)

    def store_late(self) -> None:
        """Write the records of jobs that ended while the store was away."""
        ending.store_late(self._lanes, self._storage)

    def reconcile(self) -> None:
        """Put jobs that stand nowhere back into the queue."""
        if moved := self._lanes.reconcile():
            log.warning("%d jobs stood nowhere, and are in the queue again", moved)


def run(settings: Settings) -> None:
    """Do all duties, again and again, until told to stop."""
    logs.rename("keeper")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    keeper = Keeper(settings)
    while True:
        for duty in keeper.duties:
            duty.turn()
        time.sleep(TURN_S)
