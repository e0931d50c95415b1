"""The queue as the server sees it: submit, find, wait.

RQ's states become ours in one place, `_status_of`. What Redis has forgotten, the job's final record in
the store answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import redis
from redis.backoff import ConstantBackoff, ExponentialWithJitterBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry as RedisRetry
from rq import Queue, Retry
from rq.exceptions import NoSuchJobError
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job, JobStatus
from rq.results import Result
from rq.utils import now

from rowcast.config import Settings
from rowcast.errors import QueueUnavailable, WorkerLost
from rowcast.ids import time_of
from rowcast.publishing import Kind, read_record
from rowcast.storage import Storage

QUEUE = "rowcast"
# A job that was handed to a worker and not started for so long is handed to another.
HANDOVER_S = 10
FUNCTIONS: dict[Kind, str] = {"fit": "ml.fit", "predict": "ml.predict"}
FINAL = frozenset({"finished", "failed", "canceled"})

Status = Literal["queued", "started", "finished", "failed", "canceled"]
_STATUS: dict[JobStatus, Status] = {
    JobStatus.CREATED: "queued",
    JobStatus.QUEUED: "queued",
    JobStatus.DEFERRED: "queued",
    JobStatus.SCHEDULED: "queued",
    JobStatus.READY_TO_ENQUEUE: "queued",
    JobStatus.STARTED: "started",
    JobStatus.FINISHED: "finished",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELED: "canceled",
    JobStatus.STOPPED: "canceled",
}


# Notices of a managed Redis, which others do not know; asking costs a round trip for every connection.
_NO_NOTICES = MaintNotificationsConfig(enabled=False)

# A job that failed without a record was ended by somebody else than its worker.
_UNRECORDED = WorkerLost("The job ended without a record of its own.")


class JobQueue(Queue):
    """RQ's queue with the JSON serializer, also where RQ makes a queue by itself."""

    def __init__(self, name: str = QUEUE, connection: Any = None, **options: Any) -> None:
        """Take the arguments of RQ's queue."""
        super().__init__(name, connection=connection, **{**options, "serializer": "json"})

    @property
    def intermediate_queue(self) -> IntermediateQueue:
        """The list of jobs that are on their way to a worker."""
        return _Handover(self.key, connection=self.connection)


class _Handover(IntermediateQueue):
    """RQ waits for a minute before it takes a job back from a worker that died while it was handed over."""

    def should_be_cleaned_up(self, job_id: str) -> bool:
        first_seen = self.get_first_seen(job_id)
        return first_seen is not None and now() - first_seen > timedelta(seconds=HANDOVER_S)


@dataclass(frozen=True)
class Submission:
    """A job to be: its kind, ids and options, and for whom and in which request it was submitted."""

    kind: Kind
    owner: str
    job_id: str
    arguments: dict[str, Any]
    request_id: str


def connect_for_requests(settings: Settings, *, connections: int = 64) -> redis.Redis:
    """Return a client for the server: one retry for a stale connection, and an answer within 3 s."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=connections,
        maint_notifications_config=_NO_NOTICES,
        socket_connect_timeout=0.8,
        socket_timeout=1.8,
        health_check_interval=0,
        # A command that timed out is not repeated: it would double the wait.
        retry=RedisRetry(ConstantBackoff(0.05), 1, supported_errors=(redis.ConnectionError,)),
    )


def connect_for_work(settings: Settings) -> redis.Redis:
    """Return a client for workers: it waits for two minutes for a Redis that is away."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        maint_notifications_config=_NO_NOTICES,
        socket_connect_timeout=3,
        socket_timeout=30,
        retry=RedisRetry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), 150),
    )


class Jobs:
    """Submit jobs and tell how they are doing. Every call is for one owner; others' jobs do not exist."""

    def __init__(self, connection: redis.Redis, settings: Settings, storage: Storage) -> None:
        """Use a connection made by `connect_for_requests`."""
        self._connection = connection
        self._settings = settings
        self._storage = storage

    def submit(self, submission: Submission) -> None:
        """Put a job into the queue.

        Raises:
            QueueUnavailable: Redis does not answer; the job may or may not be queued.
        """
        meta = {"owner": submission.owner, "kind": submission.kind, "request_id": submission.request_id}
        with _our_errors():
            JobQueue(connection=self._connection).enqueue_call(
                FUNCTIONS[submission.kind],
                kwargs=submission.arguments,
                job_id=submission.job_id,
                timeout=self._settings.job_timeout_s,
                result_ttl=self._settings.job_ttl_s,
                failure_ttl=self._settings.job_ttl_s,
                retry=Retry(max=self._settings.max_attempts - 1) if self._settings.max_attempts > 1 else None,
                description=submission.kind,
                meta=meta,
            )

    def status(self, owner: str, job_id: str) -> dict[str, Any] | None:
        """Return what /status answers, None where the owner has no such job.

        Raises:
            QueueUnavailable, StoreUnavailable: the part that would know does not answer.
        """
        if time_of(job_id) is None:
            return None
        job = self._fetch(job_id)
        if job is None:
            return read_record(self._storage, owner, job_id)
        if job.meta.get("owner") != owner:
            return None
        return status_of(job, position=_position(job))

    def wait(
        self, owner: str, job_id: str, timeout_s: float, is_wanted: Callable[[], bool]
    ) -> dict[str, Any] | None:
        """Return the status as soon as the job has ended, or after `timeout_s` seconds at the latest.

        It also returns, within about a second, when `is_wanted` says that nobody waits any more.
        Raises as `status`.
        """
        deadline = time.monotonic() + timeout_s
        last_seen = "0-0"
        while True:
            answer = self.status(owner, job_id)
            remaining_s = deadline - time.monotonic()
            if answer is None or answer["status"] in FINAL or remaining_s <= 0 or not is_wanted():
                return answer
            # RQ appends to this stream in the transaction that ends the job, so the wait is over at once.
            with _our_errors():
                news: Any = self._connection.xread(
                    {Result.get_key(job_id): last_seen}, block=max(1, int(min(remaining_s, 1.0) * 1000))
                )
            if news:
                last_seen = news[0][1][-1][0]

    def check(self) -> None:
        """Raise QueueUnavailable if Redis does not answer."""
        with _our_errors():
            self._connection.ping()

    def _fetch(self, job_id: str) -> Job | None:
        try:
            with _our_errors():
                return Job.fetch(job_id, connection=self._connection, serializer="json")
        except NoSuchJobError:
            return None


def n_waiting(connection: redis.Redis) -> int:
    """Return how many jobs stand in the queue."""
    return JobQueue(connection=connection).count


def status_of(job: Job, *, position: int | None = None) -> dict[str, Any]:
    """Describe a job as /status answers it; a job that has ended brings its final record along."""
    if record := job.meta.get("record"):
        return dict(record)
    status = _STATUS[JobStatus(job.get_status(refresh=False))]
    return {
        "id": job.id,
        "kind": job.meta["kind"],
        "status": status,
        "enqueued_at": _seconds(job.enqueued_at),
        "started_at": _seconds(job.started_at) if status != "queued" else None,
        "ended_at": _seconds(job.ended_at) if status in FINAL else None,
        "attempts": job.meta.get("attempts", 0),
        "position": position if status == "queued" else None,
        "dataset_id": job.kwargs.get("dataset_id"),
        "model_id": job.kwargs.get("model_id"),
        "error": _UNRECORDED.cause() if status == "failed" else None,
    }


def final_record(job: Job, status: Status, error: dict[str, Any] | None) -> dict[str, Any]:
    """Describe a job that ends now, before RQ itself says so."""
    record = status_of(job)
    started_at = record["started_at"] or _seconds(job.started_at)
    return {**record, "status": status, "started_at": started_at, "ended_at": time.time(), "error": error}


def _position(job: Job) -> int | None:
    if job.get_status(refresh=False) != JobStatus.QUEUED:
        return None
    with _our_errors():
        return job.get_position()


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise QueueUnavailable(f"Redis does not answer ({type(error).__name__}).") from error
