"""The maintenance process: a process beside the workers that keeps the queue true and the house
clean.

Any number of them may run; each duty is safe to do twice, or done by whoever comes first.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from rowcast import errors
from rowcast.catalog import retention
from rowcast.config import Settings
from rowcast.jobs import JobQueue, Jobs, completion
from rowcast.observability import logs
from rowcast.redis_clients import connect_for_maintenance
from rowcast.store import Storage, patience
from rowcast.system import scratch
from rowcast.webhooks import delivery

log = logging.getLogger("rowcast.maintenance process")

REMOVE_EVERY_S, REMOVE_FOR_S = 600.0, 60.0


@dataclass(frozen=True)
class PeriodicTask:
    """Something to do every so many seconds, in a thread of its own, so that none waits for
    another."""

    do: Callable[[], Any]
    every_s: float

    def run(self) -> None:
        """Do it again and again; what goes wrong is logged, and tried again the next time."""
        while True:
            try:
                self.do()
            except Exception as error:
                known = isinstance(error, errors.Unavailable | redis.RedisError)
                log.warning(
                    "%s was not done: %s",
                    self.do.__name__,
                    type(error).__name__,
                    exc_info=not known,
                )
            time.sleep(self.every_s)


class Maintenance:
    """What is done, by whom, how often."""

    def __init__(self, settings: Settings) -> None:
        """Connect lazily."""
        self._settings = settings
        self._queue = JobQueue(connect_for_maintenance(settings))
        self._storage = Storage(settings, patience.WORKER, connections=4)
        # Where the queue waits for it, it waits for no store, and comes back soon.
        self._impatient_storage = Storage(settings, patience.MAINTENANCE, connections=4)
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self.tasks = [
            PeriodicTask(self.recover, 1.0),
            PeriodicTask(self.end_orphaned, 1.0),
            PeriodicTask(self.store_late, 2.0),
            PeriodicTask(self.reconcile, 10.0),
            PeriodicTask(self.forget_dead_workers, 60.0),
            PeriodicTask(self.report_space, 5.0),
            PeriodicTask(self.remove_old, REMOVE_EVERY_S),
        ]

    def send_webhooks(self) -> None:
        """Begin to send webhooks as they fall due, in threads of their own."""
        connection = connect_for_maintenance(self._settings)
        jobs = Jobs(connection, self._settings, self._storage)
        delivery.start(connection, self._settings, jobs.status, threading.Event())

    def recover(self) -> None:
        """Give the jobs of silent workers to others."""
        for job_id in self._queue.expired():
            try:
                self._recover(job_id)
            except (errors.RowcastError, LookupError, ValueError):
                # One that cannot be helped must not keep the others from it.
                log.exception("a job could not be recovered", extra={"job_id": job_id})

    def _recover(self, job_id: str) -> None:
        job = self._queue.job(job_id)
        if job is None:
            raise LookupError(f"the fields of job {job_id} cannot be read")
        ttl_s = self._settings.worker_ttl_s
        silence = errors.WorkerLost(
            f"The job's worker sent no heartbeat for {ttl_s} s."
        )
        with logs.bind(job_id=job_id, request_id=job.request_id):
            completion.give_up(
                self._queue, self._impatient_storage, job, silence, ttl_s=ttl_s
            )

    def end_orphaned(self) -> None:
        """End the jobs whose fit made no model."""
        completion.end_orphaned(self._queue)

    def store_late(self) -> None:
        """Write the records of jobs that ended while the store was away."""
        completion.store_late(self._queue, self._impatient_storage)

    def reconcile(self) -> None:
        """Put jobs that stand nowhere back into the queue."""
        if moved := self._queue.reconcile():
            log.warning("%d jobs stood nowhere, and are in the queue again", moved)

    def forget_dead_workers(self) -> None:
        """Keep RQ's list of workers from growing with each that is killed."""
        self._queue.forget_dead_workers()

    def report_space(self) -> None:
        """Tell /readyz how much scratch space is left here."""
        scratch.report(self._queue.connection, self._name, self._settings)

    def remove_old(self) -> None:
        """Remove what is older than a setting says."""
        retention.sweep(
            self._storage,
            self._settings,
            lambda owner, _: self._queue.needed(owner),
            now=time.time(),
            limit_s=REMOVE_FOR_S,
        )


def run(settings: Settings) -> None:
    """Do all duties until told to stop."""
    logs.rename("maintenance process")
    maintenance = Maintenance(settings)
    maintenance.send_webhooks()
    for task in maintenance.tasks:
        threading.Thread(target=task.run, name=task.do.__name__, daemon=True).start()
    while True:
        signal.pause()
