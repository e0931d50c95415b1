"""A worker as RQ sees it: the only module that knows RQ's worker.

RQ registers the worker in Redis, where health checks and `rq info` find it, and runs the loop that
takes and executes jobs. How a job is taken and executed is ours, and so is everything else that RQ
would write to Redis.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import redis
import rq.worker
from rq import worker_registration
from rq.exceptions import StopRequested
from rq.utils import now

from rowcast.config import Settings
from rowcast.jobs import QUEUE_NAME, JobQueue
from rowcast.redis_clients import (
    connect_for_heartbeats,
    connect_for_maintenance,
    connect_for_work,
)
from rowcast.system import scratch
from rowcast.workers.dispatch import Dispatcher, WorkerKind
from rowcast.workers.job_process import JobProcess
from rowcast.workers.signer import Signer
from rowcast.workers.standby import Standby
from rowcast.workers.stop_request import StopRequest
from rowcast.workers.supervision import JobLimits, Supervision

# Seconds between two heartbeats, and without one until RQ takes the worker for dead.
HEARTBEAT_S = 5.0
REGISTRY_TTL_S = 30


class Worker(rq.worker.Worker):
    """An RQ worker that takes jobs from Rowcast's queue."""

    def __init__(
        self, kind: WorkerKind, settings: Settings, limits: JobLimits, signer: Signer
    ) -> None:
        """Register under a new name; waits for two minutes for a Redis that is away."""
        super().__init__(
            [QUEUE_NAME],
            name=f"{kind}-{uuid4().hex}",
            connection=connect_for_work(settings),
            serializer="json",
            worker_ttl=REGISTRY_TTL_S,
        )
        self._heartbeat_due_at = 0.0
        self._is_registered = False
        self._heartbeat_queue = JobQueue(connect_for_heartbeats(settings))
        self._stop = StopRequest(settings.stop_grace_s)
        queue = JobQueue(connect_for_maintenance(settings))
        job_process = JobProcess(
            settings, queue, self._heartbeat_queue, limits.memory_bytes, signer
        )
        self._standby = Standby(job_process)
        self._dispatcher = Dispatcher(
            kind=kind,
            worker=self.name,
            settings=settings,
            queue=queue,
            standby=self._standby,
            stop=self._stop,
            heartbeat=self.heartbeat,
        )
        self._supervision = Supervision(
            kind=kind,
            settings=settings,
            limits=limits,
            signer=signer,
            queue=queue,
            heartbeat_queue=self._heartbeat_queue,
            standby=self._standby,
            stop=self._stop,
            heartbeat=self.heartbeat,
        )

    # Jobs

    def dequeue_job_and_maintain_ttl(self, *_: Any, **__: Any) -> Any:
        """Return the next job, as an `Order`; None ends RQ's loop."""
        order = self._dispatcher.next_order()
        return (order, self.queues[0]) if order else None

    def execute_job(self, job: Any, queue: Any) -> None:  # noqa: ARG002 - RQ's signature
        """Run a job, an `Order`."""
        worked_s = self._supervision.run(job)
        self._dispatcher.note_end(job, worked_s)

    # Signals

    def _install_signal_handlers(self) -> None:
        """Handle SIGTERM alone: the supervisor of the processes passes Ctrl-C on as SIGTERM."""
        signal.signal(signal.SIGTERM, self.request_stop)

    def request_stop(self, signum: Any, frame: Any) -> None:  # noqa: ARG002 - a signal handler
        """Finish the running job within STOP_GRACE_S, then stop."""
        signal.signal(signal.SIGTERM, self.request_force_stop)
        self._stop_requested = True
        self._stop.make()
        if self._stop.may_interrupt:
            raise StopRequested

    def request_force_stop(self, *_: Any) -> None:
        """Requeue the running job and stop, on a second signal."""
        self._stop.hurry()

    def teardown(self) -> None:
        """End the standby work horse, so that a sweep finds its folder unused, and unregister."""
        self._standby.dismiss()
        super().teardown()  # type: ignore[no-untyped-call]

    # Redis: RQ keeps only the registry of living workers there

    def heartbeat(self, timeout: Any = None, pipeline: Any = None) -> None:  # noqa: ARG002
        """Send a heartbeat if one is due, by a connection that gives up soon."""
        if time.monotonic() < self._heartbeat_due_at:
            return
        self._heartbeat_due_at = time.monotonic() + HEARTBEAT_S
        connection = cast(Any, self._heartbeat_queue.connection)
        try:
            if not self._is_registered:
                self._register(connection)
            super().heartbeat(timeout, connection)
        except redis.RedisError:
            # Without heartbeats the entry expires, and a later heartbeat would not bring it back.
            self._is_registered = False

    def register_birth(self) -> None:
        """Leave the entry to the first heartbeat, which does not wait for Redis."""
        self.birth_date = self.last_heartbeat = now()

    def _register(self, connection: Any) -> None:
        with connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping=self.serialize())
            worker_registration.register(self, pipeline)
            pipeline.execute()
        self._is_registered = True

    def register_death(self) -> None:
        """Leave the registry if Redis answers soon; else the entry expires by itself."""
        self.connection = self._heartbeat_queue.connection
        with suppress(redis.RedisError):
            super().register_death()  # type: ignore[no-untyped-call]

    def set_state(self, state: Any, pipeline: Any = None) -> None:
        """Write no state."""

    def subscribe(self) -> None:
        """Listen to no commands: the thread for that would not survive a fork."""

    def unsubscribe(self) -> None:
        """See `subscribe`."""

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Leave maintenance to the maintenance process."""
        return False


def run(
    kind: WorkerKind, settings: Settings, limits: JobLimits, signer: Signer
) -> None:
    """Run a worker in this process until it is told to stop."""
    scratch.sweep(Path(settings.scratch_dir))
    Worker(kind, settings, limits, signer).work()
