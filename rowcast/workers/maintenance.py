"""The maintenance process: recovers lost jobs, repairs the queue, sends webhooks, deletes old data.

Any number of these processes may run: each task is safe to do twice, or done by the first one.
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
from rowcast.access import KeyStore
from rowcast.catalog import late_uploads, retention, unused_uploads, usage
from rowcast.config import Settings
from rowcast.jobs import JobQueue, Jobs, completion, redis_memory
from rowcast.observability import logs
from rowcast.redis_clients import connect_for_maintenance, connect_for_requests
from rowcast.store import Storage, key_copy, patience
from rowcast.system import scratch
from rowcast.webhooks import delivery

log = logging.getLogger("rowcast.maintenance")

# Seconds between two sweeps of what is older than a setting says, and of one sweep at most.
REMOVE_EVERY_S = 600.0
REMOVE_FOR_S = 60.0
REMOVE_UNUSED_EVERY_S = 3600.0
# Seconds between two counts of what owners have, and of one count at most.
COUNT_EVERY_S = 600.0
COUNT_FOR_S = 60.0


@dataclass(frozen=True)
class PeriodicTask:
    """Something to do every `every_s` seconds, in its own thread, so that no task delays others."""

    do: Callable[[], Any]
    every_s: float

    def run(self) -> None:
        """Do it again and again; a failure is logged."""
        while True:
            try:
                self.do()
            except Exception as error:
                is_outage = isinstance(error, errors.Unavailable | redis.RedisError)
                log.warning(
                    "%s failed: %s",
                    self.do.__name__,
                    type(error).__name__,
                    exc_info=not is_outage,
                )
            time.sleep(self.every_s)


class Maintenance:
    """The tasks of the maintenance process, and how often each is done."""

    def __init__(self, settings: Settings) -> None:
        """Connect lazily."""
        self._settings = settings
        self._queue = JobQueue(connect_for_maintenance(settings))
        # Lost jobs are noticed in time although a connection has fallen silent.
        self._impatient_queue = JobQueue(connect_for_requests(settings))
        self._storage = Storage(settings, patience.WORKER, connections=4)
        # The tasks that keep the queue going do not wait for a store that is away.
        self._impatient_storage = Storage(settings, patience.MAINTENANCE, connections=4)
        self._keys = KeyStore(self._queue.connection)
        self._copied_keys: bytes | None = None
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self.tasks = [
            PeriodicTask(self.recover, 1.0),
            PeriodicTask(self.end_orphaned, 1.0),
            PeriodicTask(self.store_late, 2.0),
            PeriodicTask(self.reconcile, 10.0),
            PeriodicTask(self.forget_dead_workers, 60.0),
            PeriodicTask(self.report_space, 5.0),
            PeriodicTask(self.copy_keys, 5.0),
            PeriodicTask(self.relieve_redis, 5.0),
            PeriodicTask(self.remove_old, REMOVE_EVERY_S),
            PeriodicTask(self.remove_late_uploads, REMOVE_EVERY_S),
            PeriodicTask(self.count_usage, COUNT_EVERY_S),
            PeriodicTask(self.mark_used, 30.0),
            PeriodicTask(self.remove_unused_uploads, REMOVE_UNUSED_EVERY_S),
        ]

    def send_webhooks(self) -> None:
        """Start the threads that send webhooks when they are due."""
        connection = connect_for_maintenance(self._settings)
        jobs = Jobs(connection, self._settings, self._storage)
        delivery.start(connection, self._settings, jobs.status, threading.Event())

    def recover(self) -> None:
        """Requeue or end the jobs of workers that send no heartbeats."""
        for job_id in self._impatient_queue.expired():
            try:
                self._recover(job_id)
            except (errors.RowcastError, LookupError, ValueError):
                # One job that cannot be recovered must not block the others.
                log.exception("a job could not be recovered", extra={"job_id": job_id})

    def _recover(self, job_id: str) -> None:
        job = self._impatient_queue.job(job_id)
        if job is None:
            raise LookupError(f"the fields of job {job_id} cannot be read")
        ttl_s = self._settings.worker_ttl_s
        silence = errors.WorkerLost(
            f"The job's worker sent no heartbeat for {ttl_s} s."
        )
        with logs.bind(job_id=job_id, request_id=job.request_id):
            completion.give_up(
                self._impatient_queue,
                self._impatient_storage,
                job,
                silence,
                ttl_s=ttl_s,
            )

    def end_orphaned(self) -> None:
        """End the jobs that waited for a fit that made no model."""
        completion.end_orphaned(self._queue)

    def store_late(self) -> None:
        """Store the records of jobs that ended while the store was away."""
        completion.store_late(self._queue, self._impatient_storage)

    def reconcile(self) -> None:
        """Put jobs back that are missing from the queue."""
        if moved := self._queue.reconcile():
            log.warning("%d jobs were missing from the queue, and are back", moved)

    def forget_dead_workers(self) -> None:
        """Remove killed workers from RQ's registry, which would grow with each."""
        self._queue.forget_dead_workers()

    def report_space(self) -> None:
        """Report for /readyz how much scratch space is left here."""
        scratch.report(self._queue.connection, self._name, self._settings)

    def copy_keys(self) -> None:
        """Copy the API keys to the store, in case Redis is lost."""
        self._copied_keys = key_copy.save(
            self._impatient_storage, self._keys, self._copied_keys
        )

    def relieve_redis(self) -> None:
        """Let a Redis that is nearly full forget what it may."""
        memory = redis_memory.of(self._queue.connection)
        if memory.is_nearly_full:
            n_keys = redis_memory.relieve(self._queue.connection)
            log.warning(
                "Redis uses %d of %d bytes; it forgets %d caches and ended jobs soon",
                memory.used_bytes,
                memory.max_bytes,
                n_keys,
            )

    def remove_old(self) -> None:
        """Delete data that is older than its setting allows."""
        retention.sweep(
            self._storage,
            self._settings,
            self._needed,
            now=time.time(),
            limit_s=REMOVE_FOR_S,
        )

    def remove_late_uploads(self) -> None:
        """Delete what was uploaded to datasets after their deletion."""
        late_uploads.sweep(self._storage, self._settings, now=time.time())

    def mark_used(self) -> None:
        """Mark the datasets that jobs were submitted for."""
        unused_uploads.mark_used(self._storage, self._queue.connection)

    def remove_unused_uploads(self) -> None:
        """Delete the uploads that no job was submitted for."""
        unused_uploads.sweep(
            self._storage,
            self._queue,
            self._settings,
            now=time.time(),
            limit_s=REMOVE_FOR_S,
        )

    def count_usage(self) -> None:
        """Count again what owners have, against which their quotas are checked."""
        usage.recount(
            self._storage,
            self._queue,
            self._settings,
            now=time.time(),
            limit_s=COUNT_FOR_S,
        )

    def _needed(self, owner: str, _ids: object) -> set[str]:
        return self._queue.needed(owner)


def run(settings: Settings) -> None:
    """Do all tasks in this process until it is ended."""
    logs.rename("maintenance process")
    maintenance = Maintenance(settings)
    maintenance.send_webhooks()
    for task in maintenance.tasks:
        threading.Thread(target=task.run, name=task.do.__name__, daemon=True).start()
    while True:
        signal.pause()
