"""The RQ worker processes: each takes a job from the queue, forks a work horse for it, and watches
that.

`ml` is imported before forking, so that a job costs milliseconds, and nothing is ever fitted in the
parents: OpenMP hangs in a fork of a process that has used it.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Literal, cast
from uuid import uuid4

# OpenBLAS reads this once, when NumPy loads it. More threads than one would be started anew in
# every work horse, where they spin for a while. `Seat.threads` adds some where a job holds more
# cores.
os.putenv("OPENBLAS_NUM_THREADS", "1")

import joblib
import redis
import rq.job
import rq.worker
from rq.exceptions import DeserializationError, StopRequested
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus
from rq.worker_pool import WorkerData, WorkerPool

import ml
from rowcast import errors
from rowcast.config import ConfigurationError, Settings
from rowcast.ids import time_of
from rowcast.jobs import (
    AttemptError,
    JobFields,
    JobQueue,
    completion,
    estimates,
    service,
)
from rowcast.observability import logs
from rowcast.redis_clients import (
    connect_for_heartbeats,
    connect_for_maintenance,
    connect_for_work,
)
from rowcast.store import Storage, patience
from rowcast.system import (
    cores,
    die_with_parent,
    directories,
    memory,
    scratch,
    set_process_title,
)
from rowcast.workers import attempt, maintenance, warmup, work_horse
from rowcast.workers import lease as lease_module

log = logging.getLogger("rowcast.worker")
Verdict = errors.RowcastError | Literal["stopping", "given away", "not short"]

FUNCTIONS: dict[str, Callable[..., None]] = {"ml.fit": ml.fit, "ml.predict": ml.predict}

# How often a job's memory and time are looked at, its scratch space, and how often a worker is
# heard of.
TICK_S, SPACE_S, HEARTBEAT_S = 0.1, 1.0, 5.0
# A worker that has had no job for so long makes a work horse ready for the next one.
STANDBY_AFTER_S = 0.1
# After one that was lost, or could not be made, it does without for so long.
STANDBY_PAUSE_S = 5.0
# Connections that have been idle for longer may have been cut off on their way.
STALE_AFTER_S = 30.0
# How many times as long as a short job its worker rests, as long as a job on several cores runs.
REST = 3.0
# A job that was expected to be short, and has run for so long, makes way for those that are.
MISJUDGED_S = 4 * estimates.SHORT_S
# Why an attempt was ended that could not help it.
STOPPED = AttemptError(
    "worker_stopped", "The worker was told to stop before the job had ended."
)
NOT_SHORT = AttemptError(
    "not_short", "The job took longer than was expected, and made way for short ones."
)
# What each kind of worker takes, in this order. Short jobs have a worker of their own, so others
# begin with what only they can take; where there is none, the lanes take turns, so that neither
# waits for the other.
LANES: dict[str, Sequence[estimates.Lane]] = {
    "any": ("long", "short"),
    "short": ("short",),
}


@dataclass(frozen=True)
class Limits:
    """What a job may take, in bytes."""

    memory_bytes: int
    scratch_bytes: int


class Job(rq.job.Job):
    """A job with the fields that are ours."""

    fields: JobFields

    @property
    def attempt(self) -> int:
        """How often the job was started, this time included."""
        return self.fields.attempt

    @property
    def order(self) -> dict[str, Any]:
        """What a work horse must know to run it; JSON."""
        return {
            "fields": self.fields.model_dump(mode="json"),
            "function": self.func_name,
            "arguments": self.kwargs,
        }


class Worker(rq.worker.Worker):
    """An RQ worker that takes jobs from the lanes, and ends every one of them in a true state."""

    def __init__(
        self,
        queues: Any,
        *,
        settings: Settings,
        kind: str,
        limits: Limits,
        **options: Any,
    ) -> None:
        """Take the arguments of RQ's worker, as its pool gives them."""
        super().__init__(queues, maintenance_interval=3600, worker_ttl=30, **options)
        self._settings = settings
        self._kind, self._rests_until = kind, 0.0
        self._limits = limits
        self._queue = JobQueue(connect_for_maintenance(settings))
        self._heartbeat_queue = JobQueue(connect_for_heartbeats(settings))
        self._stop_by: float | None = None
        self._heard_at = 0.0
        self._took = ""
        self._standby: work_horse.WorkHorse | None = None
        self._standby_due_at = 0.0

    # The life of a worker

    def work(self, *_: Any, burst: bool = False, **__: Any) -> bool:
        """Work until told to stop, without RQ's scheduler, whose process would outlive a killed
        worker."""
        be_child_of_pool()
        scratch.sweep(self._scratch_root)
        return bool(super().work(burst=burst, with_scheduler=False, logging_level=None))

    def request_stop(self, signum: Any, frame: Any) -> None:
        """Finish the job in hand within STOP_GRACE_S, then stop."""
        self._stop_by = time.monotonic() + self._settings.stop_grace_s
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def request_force_stop(self, signum: int, frame: Any) -> None:  # noqa: ARG002 - a signal handler
        """Requeue the job in hand and stop, on a second signal."""
        self._stop_by = time.monotonic()

    # What RQ writes to Redis beside our lanes is only how to find the living workers.

    def set_state(self, state: Any, pipeline: Any = None) -> None:  # noqa: ARG002 - RQ's signature
        """Remember whether a signal may end this worker at once."""
        self._state = state

    def heartbeat(self, timeout: Any = None, pipeline: Any = None) -> None:  # noqa: ARG002 - RQ's signature
        """Be heard of, every few seconds."""
        if time.monotonic() > self._heard_at + HEARTBEAT_S:
            self._heard_at = time.monotonic()
            with suppress(redis.RedisError):
                super().heartbeat(timeout, cast(Any, self._heartbeat_queue.connection))

    def set_shutdown_requested_date(self) -> None:
        """Do without the note that RQ makes in Redis, which would hold up the stop while Redis is
        away."""

    def subscribe(self) -> None:
        """Do without RQ's commands, whose thread would be in the way of a fork."""

    def unsubscribe(self) -> None:
        """See `subscribe`."""

    def run_maintenance_tasks(self) -> None:
        """Leave it to the maintenance process."""
        self.last_cleaned_at = rq.utils.now()  # type: ignore[assignment]

    # Taking a job

    def dequeue_job_and_maintain_ttl(
        self, *_: Any, **__: Any
    ) -> tuple[Job, Any] | None:
        """Return the next job of our lanes; wait for one as long as it takes."""
        while True:
            try:
                if job := self._take():
                    return job, self.queues[0]
                self._wait_for_job()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                log.warning(
                    "Redis does not answer (%s); waiting for it", type(error).__name__
                )
                self._rest()
                time.sleep(1)

    def _rest(self) -> None:
        """Have no job at hand: a signal to stop ends the worker at once."""
        self.set_state(WorkerStatus.IDLE)
        if self._stop_requested:
            raise StopRequested

    def _lanes_now(self) -> Sequence[estimates.Lane]:
        """Return the lanes to take from; beside a job on several cores, short jobs come singly,
        with rests.

        Its threads spin while they wait for one that has lost its core, so it hardly moves while
        another job runs. Short jobs with rests of three times their length cost it a quarter of its
        time at most.
        """
        has_other = self._kind == "any" and self._settings.short_workers > 0
        lanes = (
            LANES[self._kind]
            if has_other or self._took == "short"
            else LANES[self._kind][::-1]
        )
        if cores.is_any_wide(self._settings.cores_dir) and (
            has_other or time.monotonic() < self._rests_until
        ):
            return [lane for lane in lanes if lane != "short"]
        return lanes

    def _wait_for_job(self) -> None:
        if not (lanes := self._lanes_now()):
            time.sleep(TICK_S)
        elif self._standby or cores.is_any_wide(self._settings.cores_dir):
            # Not for longer, because a job on several cores may begin or end, and jobs may fall
            # due.
            self._queue.wait_for_job(lanes, 1)
        elif not self._queue.wait_for_job(lanes, STANDBY_AFTER_S):
            self._keep_standby()
        if self._standby and not self._standby.is_alive():
            self._drop_standby()
            self._standby_due_at = time.monotonic() + STANDBY_PAUSE_S

    def _keep_standby(self) -> None:
        """Have a standby work horse, if one can be had: the next job can do without."""
        if time.monotonic() < self._standby_due_at or cores.is_any_wide(
            self._settings.cores_dir
        ):
            return
        try:
            self._standby = work_horse.WorkHorse.fork(
                partial(self._live, warms_up=True)
            )
        except OSError as error:
            log.warning("there is no standby work horse (%s)", error.strerror)
            self._standby_due_at = time.monotonic() + STANDBY_PAUSE_S

    def _drop_standby(self) -> None:
        if self._standby:
            self._standby.dismiss()
            self._standby = None

    def _take(self) -> Job | None:
        # From here on a signal to stop waits: a job that was taken must not be dropped.
        self.set_state(WorkerStatus.BUSY)
        self.heartbeat()
        job_id = self._queue.take(
            self.name, self._lanes_now(), self._settings.worker_ttl_s
        )
        job = self._fetch(job_id) if job_id else None
        if job is None:
            self._rest()
            return None
        self._took = job.fields.lane
        return job

    def _fetch(self, job_id: str) -> Job | None:
        raw = self._queue.hash_of(job_id)
        attempt_number = int(raw.get(b"attempt", b"0"))
        if not self._queue.confirm_start(
            job_id, attempt_number, self._settings.worker_ttl_s
        ):
            return None
        fields = JobFields.parse(job_id, raw)
        job = Job(job_id, connection=self.connection, serializer="json")
        job.restore(raw)
        if fields and _is_ours(job, fields):
            job.fields = fields
            return job
        log.error("refused a job that Rowcast has not made", extra={"job_id": job_id})
        self._queue.finish(job_id, "failed", {}, 3600, attempt=None, stored=True)
        return None

    # The parent's side of a job

    def execute_job(self, job: Any, queue: Any) -> None:  # noqa: ARG002 - RQ's signature
        """Give a job to a work horse, watch it, and remove its scratch folder."""
        with logs.bind(job_id=job.id, request_id=job.fields.request_id):
            n_killed = memory.oom_kills()
            self._horse = self._take_horse()
            self._horse.give(job.order)
            verdict = self._watch(job)
            if self._horse.exit_status:
                if (
                    verdict is None
                    and self._horse.was_killed
                    and memory.oom_kills() > n_killed
                ):
                    verdict = self._meter.failure(memory.RAN_OUT)
                self._judge(job, verdict)
        scratch.sweep(self._scratch_root)
        if job.fields.lane == "short":
            self._rests_until = time.monotonic() + REST * self._horse.worked_s
        self.set_state(WorkerStatus.IDLE)

    def _take_horse(self) -> work_horse.WorkHorse:
        """Return the standby work horse, if there is one that is ready, else a new one, for which
        the job waits."""
        if self._standby and self._standby.awaits_order():
            standby, self._standby = self._standby, None
            return standby
        self._drop_standby()
        return work_horse.WorkHorse.fork(partial(self._live, warms_up=False))

    def _watch(self, job: Job) -> Verdict | None:
        """Look after the horse until it has ended; return why it was killed, if it was."""
        self._meter = memory.Meter(self._horse.pid, self._limits.memory_bytes)
        self._space_due_at = 0.0
        lease = lease_module.Lease(
            self._heartbeat_queue, job.id, job.attempt, self._settings.worker_ttl_s
        )
        verdict = None
        while not self._horse.wait(TICK_S):
            self.heartbeat()
            if verdict is None and (verdict := self._verdict(job, lease)):
                self._horse.kill()
        lease.close(self._horse)
        return verdict

    def _verdict(self, job: Job, lease: lease_module.Lease) -> Verdict | None:
        """Return why the horse is to be killed: an error, or a word; None while it may go on."""
        if self._meter.is_over():
            return self._meter.failure()
        if self._horse.worked_s > (job.timeout or math.inf):
            return errors.TimedOut(f"The job ran longer than {job.timeout} s.")
        if self._stop_by is not None and time.monotonic() >= self._stop_by:
            return "stopping"
        if not lease.is_held(self._horse):
            return "given away"
        if self._kind == "short" and self._horse.worked_s > MISJUDGED_S:
            return "not short"
        return self._over_space(job)

    def _over_space(self, job: Job) -> errors.RowcastError | None:
        if time.monotonic() < self._space_due_at:
            return None
        self._space_due_at = time.monotonic() + SPACE_S
        used = scratch.used_bytes(
            scratch.folder_of(
                self._scratch_root, attempt.folder_name(job.id, job.attempt)
            )
        )
        return (
            scratch.over(used, self._limits.scratch_bytes)
            if used > self._limits.scratch_bytes
            else None
        )

    def _judge(self, job: Job, verdict: Verdict | None) -> None:
        """Settle what becomes of a job whose horse has died; wait for Redis if need be."""
        if verdict == "given away":
            return
        if verdict == "stopping":
            # The worker stops; that is no death of the job's, and it keeps its place.
            log.info("the worker stops; the job goes back to the queue")
            attempt.insist(lambda: self._queue.requeue(job.id, job.attempt, STOPPED))
            return
        if verdict == "not short":
            log.info("the job takes longer than was expected; it goes to the long lane")
            attempt.insist(
                lambda: self._queue.move_to_long_lane(job.id, job.attempt, NOT_SHORT)
            )
            return
        storage = Storage(self._settings, patience.MAINTENANCE, connections=4)
        if verdict:
            attempt.insist(
                lambda: completion.lose(self._queue, storage, job.fields, verdict)
            )
            return
        died = errors.WorkerLost("The job's process died.")
        ttl_s = self._settings.worker_ttl_s
        # While the store is away the maintenance process goes on with it.
        with suppress(errors.StoreUnavailable):
            attempt.insist(
                lambda: completion.give_up(
                    self._queue, storage, job.fields, died, ttl_s=ttl_s
                )
            )

    # The horse's side of a job

    def _live(
        self, orders: int, reports: work_horse.ReportPipe, *, warms_up: bool
    ) -> None:
        """Run the one job that is ordered in the forked child; 0 if its end, or return, is
        settled."""
        os.setpgrp()
        die_with_parent(self.pid or 0)
        memory.die_first()
        logs.rename("work horse")
        self._is_horse = True
        self.setup_work_horse_signals()  # type: ignore[no-untyped-call]
        if warms_up:
            set_process_title("warm-up")
            self._warm_up()
            set_process_title("standby horse")
            reports.send({"ready": True})
        waits_since = time.monotonic()
        with os.fdopen(orders) as pipe:
            line = pipe.readline()
        if time.monotonic() > waits_since + STALE_AFTER_S:
            for lanes in (self._queue, self._heartbeat_queue):
                lanes.connection.connection_pool.disconnect()
        if not line:
            os._exit(0)
        set_process_title("work horse")
        order = json.loads(line)
        job = JobFields.model_validate(order["fields"])
        work: Callable[[], None] = partial(
            FUNCTIONS[order["function"]], **order["arguments"]
        )
        with logs.bind(job_id=job.id, request_id=job.request_id):
            os._exit(self._run(job, work, reports))

    def _run(
        self,
        job: JobFields,
        work: Callable[[], None],
        reports: work_horse.ReportPipe,
    ) -> int:
        try:
            attempt.Attempt(
                job,
                self._settings,
                self._queue,
                self._heartbeat_queue,
                work,
                reports.send,
                self._limits.memory_bytes,
            ).run()
        except BaseException as error:
            log.error("the work horse failed", exc_info=error)
            return 1
        return 0

    def _warm_up(self) -> None:
        """Make ready for a job; it can do without."""
        with suppress(redis.RedisError):
            self._queue.connection.ping()
            self._heartbeat_queue.connection.ping()
        folder = None
        try:
            folder = scratch.make(self._scratch_root, f"warm-up-{uuid4().hex}")
            warmup.warm_up(self._settings, folder)
        except Exception as error:
            log.warning("a work horse could not warm up", exc_info=error)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _scratch_root(self) -> Path:
        return Path(self._settings.scratch_dir)


class Pool(WorkerPool):
    """The processes of this machine: workers of each kind, and a maintenance process. One that dies
    is started again."""

    def __init__(self, settings: Settings, kinds: Sequence[str]) -> None:
        """Start a process of each kind that is named, as often as it is named."""
        self._kinds, self._settings = kinds, settings
        n_workers = sum(kind in LANES for kind in kinds)
        self._limits = Limits(
            memory.limit_per_job(settings, n_workers),
            scratch.limit_per_job(settings, n_workers),
        )
        super().__init__(
            [service.QUEUE_NAME],
            connect_for_work(settings),
            num_workers=len(kinds),
            worker_class=Worker,
            job_class=Job,
            serializer=cast(Any, JSONSerializer),
        )

    def start_worker(self, *_: Any, **__: Any) -> None:
        """Start a process of the kind that is missing."""
        living = [name.partition("-")[0] for name in self.worker_dict]
        kind = next(
            kind for kind in self._kinds if self._kinds.count(kind) > living.count(kind)
        )
        name = f"{kind}-{uuid4().hex}"
        if kind == "maintenance process":
            process: Any = ForkProcess(target=_keep, args=(self._settings,))
        else:
            ours = partial(
                Worker, settings=self._settings, kind=kind, limits=self._limits
            )
            self.worker_class = cast(Any, ours)
            process = self.get_worker_process(name, burst=False)
        process.start()
        self.worker_dict[name] = WorkerData(name=name, pid=process.pid, process=process)


def _keep(settings: Settings) -> None:
    be_child_of_pool()
    maintenance.run(settings)


def be_child_of_pool() -> None:
    """Take back what the pool does on signals, which its children inherit, and die with it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if pool := multiprocessing.parent_process():
        die_with_parent(pool.pid or 0)


def _is_ours(job: Job, fields: JobFields) -> bool:
    """Tell whether the server made this job: one of our functions, its kind, an owner, an id of
    ours."""
    try:
        is_known = job.func_name == service.FUNCTIONS[fields.kind]
        return is_known and bool(fields.owner) and time_of(job.id) is not None
    except (DeserializationError, ValueError, AttributeError, TypeError, KeyError):
        return False


def main() -> None:
    """Run the pool until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(
        description="Run the workers that fit and predict."
    )
    parser.add_argument(
        "--workers", type=int, help="worker processes; 0: one a core (default: WORKERS)"
    )
    arguments = parser.parse_args()
    try:
        settings = Settings.from_environment()
        if not settings.signing_keys:
            raise ConfigurationError(
                "SIGNING_KEYS: workers sign models and need at least one key"
            )
    except ConfigurationError as error:
        sys.exit(f"rowcast: {error}")
    logs.configure(settings, "worker")
    asked = settings.workers if arguments.workers is None else arguments.workers
    n_workers = asked or joblib.cpu_count()
    try:
        directories.private(Path(settings.scratch_dir))
        directories.private(Path(settings.cores_dir))
    except OSError as error:
        sys.exit(f"rowcast: {error}")
    try:
        Storage(settings).ensure_buckets()
    except errors.StoreUnavailable as error:
        log.warning("%s The workers start all the same and wait for it.", error.detail)
    log.info(
        "starting %d workers, and %d for short jobs", n_workers, settings.short_workers
    )
    ml.warm_up()
    kinds = (
        ["any"] * n_workers
        + ["short"] * settings.short_workers
        + ["maintenance process"]
    )
    Pool(settings, kinds).start(logging_level=settings.log_level.upper())


if __name__ == "__main__":
    main()
