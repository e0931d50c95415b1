"""The RQ worker process: a pool of workers, each of which forks a work horse for every job.

`ml` is imported before forking, so that a job costs milliseconds, and nothing is ever fitted in the
parents: OpenMP hangs in a fork of a process that has used it.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

import joblib
import redis
import rq.job
import rq.worker
from rq.exceptions import DeserializationError
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException
from rq.utils import now
from rq.worker_pool import WorkerPool

import ml
from rowcast import content, errors, folders, logs, publishing, reuse, run, scratch
from rowcast.config import ConfigurationError, Settings
from rowcast.death_signal import die_with_parent
from rowcast.ids import time_of
from rowcast.jobs import FUNCTIONS as FUNCTION_OF
from rowcast.jobs import (
    QUEUE,
    JobQueue,
    Status,
    connect_for_requests,
    connect_for_work,
    final_record,
    n_waiting,
)
from rowcast.storage import WORKER, Storage

log = logging.getLogger("rowcast.worker")

FUNCTIONS = {"ml.fit": ml.fit, "ml.predict": ml.predict}

# A job whose worker was not heard of for so long is given to another. Workers are heard every second.
HEARTBEAT_TTL_S = 15
# How long after its time a job is killed from outside, because its code does not return to Python.
KILL_AFTER_S = 2


class Job(rq.job.Job):
    """A job that can run nothing but our two functions, whatever its record in Redis says."""

    @property
    def func(self) -> Any:
        """The function to run.

        Raises:
            PermissionError: the job names another function.
        """
        if self.func_name not in FUNCTIONS:
            raise PermissionError(f"this worker does not run {self.func_name}")
        return FUNCTIONS[self.func_name]

    def perform(self) -> Any:
        """Run the function, unless the job has a final record already and only its end was lost."""
        return None if "record" in self.meta else super().perform()

    # Callbacks are names of functions too, and would be imported and called.
    success_callback = failure_callback = stopped_callback = property(lambda self: None)  # noqa: ARG005

    def send_webhooks(self, *_: Any, **__: Any) -> None:
        """Send none: their addresses are data in Redis."""


class Worker(rq.worker.Worker):
    """An RQ worker that ends every job with a final record in the store, and dies together with its horse."""

    def __init__(self, queues: Any, *, settings: Settings, **options: Any) -> None:
        """Take the arguments of RQ's worker, as its pool gives them."""
        super().__init__(queues, maintenance_interval=5, worker_ttl=20, job_monitoring_interval=1, **options)
        self._settings = settings
        self._stop_by: float | None = None
        self._kill_cause: type[errors.RowcastError] | None = None
        self._is_requeueing = False
        self._maintained_at = self._job_started_at = time.monotonic()
        self.push_exc_handler(self._note_abandoned)  # type: ignore[no-untyped-call]

    # The life of a worker

    def work(self, *_: Any, burst: bool = False, **__: Any) -> bool:
        """Work until told to stop, without RQ's scheduler, whose process would outlive a killed worker."""
        # What the pool does on these signals is not for its children, which inherit it by fork.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if pool := multiprocessing.parent_process():
            die_with_parent(pool.pid or 0)
        scratch.sweep(self._scratch_root)
        return bool(super().work(burst=burst, with_scheduler=False, logging_level=None))

    def request_stop(self, signum: Any, frame: Any) -> None:
        """Finish the job in hand within STOP_GRACE_S, then stop."""
        self._stop_by = time.monotonic() + self._settings.stop_grace_s
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def request_force_stop(self, signum: int, frame: Any) -> None:  # noqa: ARG002 - a signal handler
        """Requeue the job in hand and stop, on a second signal."""
        self._stop_by = time.monotonic()

    def set_shutdown_requested_date(self) -> None:
        """Do without the note that RQ makes in Redis, which would hold up the stop while Redis is away."""

    def clean_registries(self) -> None:
        """Give jobs of dead workers to living ones."""
        # After an outage of Redis every heartbeat is late, so the living get a turn to be heard first.
        is_late = time.monotonic() - self._maintained_at > HEARTBEAT_TTL_S
        self._maintained_at = time.monotonic()
        if is_late:
            self.last_cleaned_at = now()  # type: ignore[assignment]
        else:
            super().clean_registries()  # type: ignore[no-untyped-call]

    def get_heartbeat_ttl(self, job: rq.job.Job, working_time: float = 0.0) -> int:  # noqa: ARG002 - RQ's signature
        """Return the seconds after which a silent worker's job is given to another."""
        return HEARTBEAT_TTL_S

    # The parent's side of a job

    def execute_job(self, job: rq.job.Job, queue: Any) -> None:
        """Fork a work horse for a job, watch it, and remove its scratch folder."""
        if not _is_ours(job):
            self._refuse(job, queue)
            return
        job.meta["attempts"] = job.meta.get("attempts", 0) + 1
        job.save_meta()
        # A horse may end by itself in the moment in which it is killed; that says nothing of the next job.
        self._kill_cause, self._is_requeueing = None, False
        self._job_started_at = time.monotonic()
        with logs.bind(job_id=job.id, request_id=job.meta.get("request_id")):
            super().execute_job(job, queue)
        scratch.sweep(self._scratch_root)

    def _refuse(self, job: rq.job.Job, queue: Any) -> None:
        """End a job as failed that somebody else put into the queue; nothing of it is run."""
        log.error("refused a job that Rowcast has not made", extra={"job_id": job.id})
        job.retries_left = 0
        super().handle_job_failure(job, queue, exc_string="refused", execution=self.prepare_execution(job))
        queue.intermediate_queue.remove(job.id)

    def maintain_heartbeats(self, job: rq.job.Job, execution: Any) -> None:
        """Look after a running job, every second."""
        self._enforce_limits(job)
        try:
            super().maintain_heartbeats(job, execution)
        except redis.RedisError as error:
            log.warning("Redis does not answer (%s); the job runs on", type(error).__name__)

    def _enforce_limits(self, job: rq.job.Job) -> None:
        ran_s = time.monotonic() - self._job_started_at
        if ran_s > (job.timeout or 0) + KILL_AFTER_S:
            self._kill_cause = errors.TimedOut
            self.kill_horse()
        elif self._stop_by is not None and time.monotonic() >= self._stop_by:
            self._is_requeueing = True
            self.kill_horse()

    def handle_job_failure(self, job: rq.job.Job, queue: Any, *arguments: Any, **options: Any) -> None:
        """Requeue a job or end it as failed; called in the horse and, when that died, in its parent."""
        if not self.is_horse and self._stopped_job_id != job.id:
            try:
                self._judge_lost_horse(job)
            except Exception:
                # Whatever is wrong with this job, the worker goes on to the next.
                log.exception("the end of the job could not be recorded")
        super().handle_job_failure(job, queue, *arguments, **options)

    def _judge_lost_horse(self, job: rq.job.Job) -> None:
        is_requeueing, kill_cause = self._is_requeueing, self._kill_cause
        self._is_requeueing, self._kill_cause = False, None
        # What the horse has noted of its end before it died is in Redis alone.
        job.meta = job.get_meta(refresh=True)
        if is_requeueing:
            # The worker stops; that is no attempt of the job's, and it keeps its place.
            job.retries_left = (job.retries_left or 0) + 1
            job.enqueue_at_front_on_retry = True
            log.info("the worker stops; the job goes back to the queue")
        elif kill_cause:
            job.retries_left = 0
            self._end_lost(job, kill_cause(_ran_too_long(job)))
        elif job.should_retry:
            log.warning("the work horse died; the job goes back to the queue")
        else:
            self._end_lost(job, _lost(job))

    def _end_lost(self, job: rq.job.Job, error: errors.RowcastError) -> None:
        """End a job whose horse is gone: as failed, unless it had published already."""
        storage = self._storage()
        if publishing.find(storage, job.meta["kind"], job.meta["owner"], job.id):
            self._end(job, storage, "finished", None)
        else:
            self._end(job, storage, "failed", error)

    def _note_abandoned(self, job: rq.job.Job, *_: Any) -> None:
        """End a job whose worker has gone silent, if it may not run again; RQ's clean-up calls this."""
        if not job.should_retry and _is_ours(job):
            with logs.bind(job_id=job.id, request_id=job.meta.get("request_id")):
                self._end_lost(job, _lost(job))

    # The horse's side of a job

    def main_work_horse(self, job: rq.job.Job, queue: Any) -> None:
        """Run a job in the forked child, and exit."""
        die_with_parent(self.pid or 0)
        logs.rename("horse")
        super().main_work_horse(job, queue)

    def perform_job(self, job: rq.job.Job, queue: Any, execution: Any) -> bool:
        """Run a job with its surroundings."""
        owner = job.meta["owner"]
        # What the job notes is a cache, and not worth waiting for a Redis that is away.
        notes = connect_for_requests(self._settings, connections=1)
        self._run = run.Run(
            owner=owner,
            attempt=job.meta["attempts"],
            settings=self._settings,
            storage=self._storage(),
            folder=scratch.make(self._scratch_root, f"{job.id}-{job.meta['attempts']}"),
            others_wait=self._do_others_wait,
            note_digest=partial(content.note, notes, owner),
            note_published=partial(reuse.note, notes, owner, job_id=job.id),
        )
        with run.surround(self._run):
            return bool(super().perform_job(job, queue, execution))

    def _do_others_wait(self) -> bool:
        try:
            return n_waiting(self.connection) > 0
        except redis.RedisError:
            return True

    def _finalize_success(self, job: rq.job.Job, queue: Any, execution: Any, return_value: Any) -> None:
        self._end(job, self._run.storage, "finished", None)
        super()._finalize_success(job, queue, execution, return_value)

    def _finalize_failure(self, job: rq.job.Job, queue: Any, execution: Any, exc_info: Any) -> None:
        error = _cause_of(job, exc_info[1])
        is_transient = isinstance(error, errors.Unavailable) and job.should_retry
        if isinstance(error, errors.InternalError):
            log.error("the job failed", exc_info=exc_info)
        if not is_transient:
            job.retries_left = 0
            self._end(job, self._run.storage, "failed", error)
        # RQ keeps the text of the exception in Redis, where no value of a table belongs.
        super()._finalize_failure(job, queue, execution, (type(error), error, None))

    def handle_exception(self, job: rq.job.Job, *exc_info: Any) -> None:
        """Leave the log to `_finalize_failure`, because RQ's line would quote values of the table."""

    def _end(
        self, job: rq.job.Job, storage: Storage, status: Status, error: errors.RowcastError | None
    ) -> None:
        """Write a job's final record to the store, and to Redis, before RQ's own state is final."""
        if "record" in job.meta:
            return
        record = final_record(job, status, error.cause() if error else None)
        try:
            publishing.write_record(storage, job.meta["kind"], job.meta["owner"], job.id, record)
        except errors.StoreUnavailable:
            if error is None:
                raise
            log.warning("the store does not answer; the job's record is in Redis alone")
        job.meta["record"] = record
        job.save_meta()
        log.info("the job has %s%s", status, f": {error.code}" if error else "")

    def _storage(self) -> Storage:
        return Storage(self._settings, WORKER, connections=4)

    @property
    def _scratch_root(self) -> Path:
        return Path(self._settings.scratch_dir)


def _is_ours(job: rq.job.Job) -> bool:
    """Tell whether the server made this job: one of our functions, its kind, an owner, an id of ours."""
    try:
        is_known = job.func_name == FUNCTION_OF.get(job.meta.get("kind", ""))
        return is_known and isinstance(job.meta.get("owner"), str) and time_of(job.id) is not None
    except (DeserializationError, ValueError, AttributeError, TypeError):
        return False


def _cause_of(job: rq.job.Job, error: BaseException) -> errors.RowcastError:
    """Return what a job's owner is told of an exception."""
    if isinstance(error, errors.RowcastError):
        return error
    if isinstance(error, JobTimeoutException):
        return errors.TimedOut(_ran_too_long(job))
    if isinstance(error, redis.RedisError):
        return errors.QueueUnavailable("Redis did not answer while the job ran.")
    return errors.InternalError(f"The job failed ({type(error).__name__}).")


def _lost(job: rq.job.Job) -> errors.WorkerLost:
    return errors.WorkerLost(f"The job's process died, {job.meta.get('attempts', 0)} times in all.")


def _ran_too_long(job: rq.job.Job) -> str:
    return f"The job ran longer than {job.timeout} s."


def main() -> None:
    """Run the pool until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run the workers that fit and predict.")
    parser.add_argument("--workers", type=int, help="worker processes; 0: one a core (default: WORKERS)")
    arguments = parser.parse_args()
    try:
        settings = Settings.from_environment()
        if not settings.signing_keys:
            raise ConfigurationError("SIGNING_KEYS: workers sign models and need at least one key")
    except ConfigurationError as error:
        sys.exit(f"rowcast: {error}")
    logs.configure(settings, "worker")
    asked = settings.workers if arguments.workers is None else arguments.workers
    n_workers = asked or joblib.cpu_count()
    try:
        folders.private(Path(settings.scratch_dir))
        folders.private(Path(settings.cores_dir))
    except OSError as error:
        sys.exit(f"rowcast: {error}")
    try:
        Storage(settings).ensure_buckets()
    except errors.StoreUnavailable as error:
        log.warning("%s The workers start all the same and wait for it.", error.detail)
    log.info("starting %d workers", n_workers)
    ml.warm_up()
    pool = WorkerPool(
        [QUEUE],
        connect_for_work(settings),
        num_workers=n_workers,
        worker_class=cast(Any, partial(Worker, settings=settings)),
        job_class=Job,
        queue_class=JobQueue,
        serializer=cast(Any, JSONSerializer),
    )
    pool.start(logging_level=settings.log_level.upper())


if __name__ == "__main__":
    main()
