"""What a worker does for its running job: it watches the work horse, and decides what becomes of
the job if the work horse dies."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from rowcast import errors
from rowcast.config import Settings
from rowcast.jobs import AttemptError, JobFields, JobQueue, completion, estimates
from rowcast.observability import logs
from rowcast.store import Storage, patience, signing
from rowcast.system import memory, scratch
from rowcast.workers.attempt import folder_name, until_redis_answers
from rowcast.workers.dispatch import WorkerKind
from rowcast.workers.lease import Lease
from rowcast.workers.order import Order
from rowcast.workers.signer import Signer
from rowcast.workers.standby import Standby
from rowcast.workers.stop_request import StopRequest
from rowcast.workers.work_horse import WorkHorse

log = logging.getLogger("rowcast.worker")

# Seconds between two checks of a job's memory and run time, and of its scratch space.
TICK_S = 0.1
SCRATCH_CHECK_S = 1.0
# A job that was expected to be short, and has run this long, makes way for short ones.
MISJUDGED_S = 4 * estimates.SHORT_S
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Why an attempt was ended that was not at fault.
STOPPED = AttemptError(
    "worker_stopped", "The worker was told to stop before the job had ended."
)
NOT_SHORT = AttemptError(
    "not_short", "The job took longer than was expected, and made way for short ones."
)


class Reason(Enum):
    """Why a worker kills a work horse whose job has not failed."""

    WORKER_STOPS = auto()
    LEASE_LOST = auto()
    NOT_SHORT = auto()


# Why a work horse was killed: an error ends its job.
Verdict = Reason | errors.RowcastError


@dataclass(frozen=True)
class JobLimits:
    """What a job may take, in bytes."""

    memory_bytes: int
    scratch_bytes: int


class Watch:
    """Watches one running work horse, and kills it when it must not go on."""

    def __init__(
        self,
        order: Order,
        horse: WorkHorse,
        *,
        kind: WorkerKind,
        settings: Settings,
        limits: JobLimits,
        lease: Lease,
        signer: Signer,
        stop: StopRequest,
    ) -> None:
        """Watch a work horse that has been sent its order."""
        self.meter = memory.Meter(horse.pid, limits.memory_bytes)
        self._order = order
        self._horse = horse
        self._kind = kind
        self._lease = lease
        self._signer = signer
        self._stop = stop
        self._scratch_limit_bytes = limits.scratch_bytes
        folder = folder_name(order.job.id, order.job.attempt)
        self._scratch = scratch.folder_of(Path(settings.scratch_dir), folder)
        self._scratch_check_at = 0.0

    def until_end(self, heartbeat: Callable[[], None]) -> Verdict | None:
        """Return why the work horse was killed, once it has ended; None if it ended by itself."""
        verdict = None
        while not self._horse.wait(TICK_S):
            heartbeat()
            if self._horse.asks_signature:
                self._sign()
            if verdict is None:
                verdict = self._verdict()
                if verdict is not None:
                    self._horse.kill()
        self._lease.close(self._horse)
        return verdict

    def _sign(self) -> None:
        """Have the model signed as that of this attempt, whatever the work horse says it is."""
        digest, self._horse.asks_signature = self._horse.asks_signature, ""
        job = self._order.job
        stated = signing.statement(job.owner, job.id, job.attempt, digest)
        may_sign = job.kind == "fit" and _SHA256.fullmatch(digest)
        self._horse.answer(self._signer.sign(stated) if may_sign else None)

    def _verdict(self) -> Verdict | None:
        """Return why the work horse must be killed; None while it may go on."""
        if self.meter.is_over():
            return self.meter.failure()
        timeout_s = self._order.timeout_s
        if self._horse.worked_s > (timeout_s or math.inf):
            return errors.TimedOut(f"The job ran longer than {timeout_s} s.")
        if self._stop.is_overdue():
            return Reason.WORKER_STOPS
        if not self._lease.is_held(self._horse):
            return Reason.LEASE_LOST
        if self._kind == "short" and self._horse.worked_s > MISJUDGED_S:
            return Reason.NOT_SHORT
        return self._scratch_verdict()

    def _scratch_verdict(self) -> errors.ScratchFull | None:
        now = time.monotonic()
        if now < self._scratch_check_at:
            return None
        self._scratch_check_at = now + SCRATCH_CHECK_S
        used_bytes = scratch.used_bytes(self._scratch)
        if used_bytes <= self._scratch_limit_bytes:
            return None
        return scratch.over(used_bytes, self._scratch_limit_bytes)


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """Runs the jobs of one worker, one at a time.

    The connection of `heartbeat_queue` gives up soon, that of `queue` waits for an answer.
    `heartbeat` is called at each check of a running job.
    """

    kind: WorkerKind
    settings: Settings
    limits: JobLimits
    signer: Signer
    queue: JobQueue
    heartbeat_queue: JobQueue
    standby: Standby
    stop: StopRequest
    heartbeat: Callable[[], None]

    def run(self, order: Order) -> float:
        """Have a work horse run a job, and return how many seconds it worked."""
        job = order.job
        with logs.bind(job_id=job.id, request_id=job.request_id):
            horse = self._run(order)
        scratch.sweep(Path(self.settings.scratch_dir))
        return horse.worked_s

    def _run(self, order: Order) -> WorkHorse:
        n_oom_kills = memory.oom_kills()
        horse = self.standby.take()
        horse.send_order(order.as_line())
        watch = self._watch(order, horse)
        verdict = watch.until_end(self.heartbeat)
        if not horse.exit_status:
            return horse
        if verdict is None and horse.was_killed and memory.oom_kills() > n_oom_kills:
            verdict = watch.meter.failure(memory.RAN_OUT)
        self._judge(order.job, verdict)
        return horse

    def _watch(self, order: Order, horse: WorkHorse) -> Watch:
        job = order.job
        ttl_s = self.settings.worker_ttl_s
        return Watch(
            order,
            horse,
            kind=self.kind,
            settings=self.settings,
            limits=self.limits,
            lease=Lease(self.heartbeat_queue, job.id, job.attempt, ttl_s),
            signer=self.signer,
            stop=self.stop,
        )

    def _judge(self, job: JobFields, verdict: Verdict | None) -> None:
        """Decide what becomes of a job whose work horse died; wait for Redis if need be."""
        match verdict:
            case None:
                self._give_up(job)
            case Reason.LEASE_LOST:
                # Another worker runs the job, or it has been canceled.
                pass
            case Reason.WORKER_STOPS:
                log.info("the worker stops; the job goes back to the queue")
                until_redis_answers(
                    lambda: self.queue.requeue(job.id, job.attempt, STOPPED)
                )
            case Reason.NOT_SHORT:
                log.info("the job is longer than expected; it goes to the long lane")
                until_redis_answers(
                    lambda: self.queue.move_to_long_lane(job.id, job.attempt, NOT_SHORT)
                )
            case errors.RowcastError():
                storage = self._impatient_storage()
                until_redis_answers(
                    lambda: completion.lose(self.queue, storage, job, verdict)
                )

    def _give_up(self, job: JobFields) -> None:
        """Count a crash of the job, and requeue or end it."""
        died = errors.WorkerLost("The job's process died.")
        storage = self._impatient_storage()
        ttl_s = self.settings.worker_ttl_s
        # While the store is away, the maintenance process repeats this.
        with suppress(errors.StoreUnavailable):
            until_redis_answers(
                lambda: completion.give_up(self.queue, storage, job, died, ttl_s=ttl_s)
            )

    def _impatient_storage(self) -> Storage:
        return Storage(self.settings, patience.MAINTENANCE, connections=4)
