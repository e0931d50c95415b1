"""The jobs as the server sees them: submit, find, cancel, wait.

When Redis has forgotten a job, its final record in the store answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
import rq.job

from rowcast.access import quotas
from rowcast.config import Settings
from rowcast.errors import FitEnded, JobEnded, QueueFull, Unavailable
from rowcast.ids import time_of
from rowcast.jobs import completion, estimates, redis_memory
from rowcast.jobs.estimates import Expectation, Work
from rowcast.jobs.fields import JobFields, Priority
from rowcast.jobs.queue import ENDS, QUEUE_NAME, JobQueue, Refusal, our_errors
from rowcast.jobs.redis_memory import RedisMemory
from rowcast.jobs.status import FINAL, shown, status_of
from rowcast.store import JobRef, Kind, Storage, invalidation, records

FUNCTIONS: dict[Kind, str] = {"fit": "ml.fit", "predict": "ml.predict"}
# Seconds between two looks at a job for a caller that follows it.
TURN_S = 0.5


@dataclass(frozen=True)
class Submission:
    """A job to submit.

    `arguments` are those of its function in `ml.py`. `waits_for` is the fit that makes its model,
    if that fit has not ended.
    """

    ref: JobRef
    arguments: dict[str, Any]
    request_id: str
    work: Work
    priority: Priority = "normal"
    timeout_s: int | None = None
    waits_for: str | None = None
    callback_url: str | None = None

    @property
    def dataset_bytes(self) -> int:
        """The size of the dataset, as noted on submitting."""
        return int(self.arguments["options"].get("dataset", {}).get("size", 0))


class Jobs:
    """Submit jobs and report on them. Every call is for one owner; others' jobs do not exist."""

    def __init__(
        self, connection: redis.Redis, settings: Settings, storage: Storage
    ) -> None:
        """Use a connection made by `connect_for_requests`."""
        self.queue = JobQueue(connection)
        self._connection = connection
        self._settings = settings
        self._storage = storage

    def submit(self, submission: Submission) -> None:
        """Put a job into the queue; one that is there already, or has ended, stays as it is.

        Raises:
            QueueFull: the owner, or all owners together, have the maximum in the queue.
            QuotaExceeded: the owner has the maximum of datasets, models, results or stored bytes.
            FitEnded: the fit that it should wait for has ended.
            QueueUnavailable: Redis does not answer; the job may or may not be queued.
            StoreUnavailable: the store, which may know the job, does not answer.
        """
        ref = submission.ref
        if self._may_be_forgotten(ref.id) and self.status(ref.owner, ref.id):
            return
        limits = {
            **quotas.limits_of(self._settings, ref.owner),
            "queued_option_bytes": quotas.MAX_QUEUED_OPTION_BYTES,
        }
        with our_errors():
            expected = estimates.expected_s(self._connection, submission.work)
            refusal = self.queue.submit(
                _fields(submission, expected, self._settings),
                _rq_fields(submission, self._settings, self._connection),
                max_of_all=self._settings.max_queued,
                limits=limits,
            )
        self._raise(refusal, submission, limits)

    def _raise(
        self, refusal: Refusal | None, submission: Submission, limits: dict[str, int]
    ) -> None:
        if refusal == "full":
            most = self._settings.max_queued
            raise QueueFull(
                f"The queue holds {most:,} jobs, the maximum (MAX_QUEUED).",
                limit=most,
                usage=most,
            )
        if refusal == "fit_ended":
            raise FitEnded(f"Fit {submission.waits_for} has ended.")
        # In a pipeline there is no answer yet.
        if isinstance(refusal, str) and refusal.startswith("over "):
            _, name, used = refusal.split(" ")
            raise quotas.refusal(name, limits[name], int(used))

    def _may_be_forgotten(self, job_id: str) -> bool:
        """Return whether a job of this id may have ended so long ago that Redis has forgotten it.

        Such an id comes from an Idempotency-Key, which Redis keeps for longer.
        """
        minted_at = time_of(job_id)
        if minted_at is None:
            return False
        return time.time() - minted_at.timestamp() >= self._settings.job_ttl_s

    def status(self, owner: str, job_id: str) -> dict[str, Any] | None:
        """Return what /status answers, None where the owner has no such job.

        Raises:
            QueueUnavailable, StoreUnavailable: the part that would know does not answer.
        """
        if time_of(job_id) is None:
            return None
        with our_errors():
            job = self.queue.job(job_id)
            is_queued = job is not None and job.status == "queued"
            position = self.queue.position(job) if job and is_queued else None
        if job is None:
            record = records.read_record(self._storage, owner, job_id)
            return shown(record) if record else None
        return status_of(job, position=position) if job.owner == owner else None

    def known(
        self, owner: str, job_ids: Sequence[str]
    ) -> dict[str, dict[str, Any] | None]:
        """Return what /status answers of the jobs that Redis knows; None for another owner's.

        It takes two round trips, however many jobs they are.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        with our_errors():
            jobs = self.queue.jobs(job_ids)
            queued = [job for job in jobs.values() if job.status == "queued"]
            positions = self.queue.positions(queued)
        return {
            job_id: status_of(job, position=positions.get(job_id))
            if job.owner == owner
            else None
            for job_id, job in jobs.items()
        }

    def log(self, owner: str, job_id: str) -> list[str] | None:
        """Return the last lines that a job has logged; None where the owner has no such job.

        Raises as `status`.
        """
        if time_of(job_id) is None:
            return None
        with our_errors():
            job = self.queue.job(job_id)
            if job and job.owner != owner:
                return None
            if job and job.record is None:
                return self.queue.log(job_id)
        if job:
            record = job.record
        else:
            record = records.read_record(self._storage, owner, job_id)
        return None if record is None else record.get("log", [])

    def follow(self, owner: str, job_id: str) -> Iterator[dict[str, Any] | None]:
        """Yield the status now, then every half second, and last as soon as the job has ended.

        None stands for a turn in which a part did not answer. A job that is gone yields nothing
        more.
        """
        last_seen = "0-0"
        while True:
            try:
                status = self.status(owner, job_id)
                if status is None:
                    return
                yield status
                if status["status"] in FINAL:
                    return
                last_seen = self._wait_for_end(job_id, last_seen, TURN_S)
            except Unavailable:
                yield None
                time.sleep(TURN_S)

    def wait(
        self, owner: str, job_id: str, timeout_s: float, is_wanted: Callable[[], bool]
    ) -> dict[str, Any] | None:
        """Return the status as soon as the job has ended, or after `timeout_s` seconds.

        It also returns, within about a second, when `is_wanted` says that nobody waits any more.
        Raises as `status`.
        """
        deadline = time.monotonic() + timeout_s
        last_seen = "0-0"
        while True:
            status = self.status(owner, job_id)
            if status is None or status["status"] in FINAL:
                return status
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not is_wanted():
                return status
            last_seen = self._wait_for_end(job_id, last_seen, min(remaining_s, 1.0))

    def _wait_for_end(self, job_id: str, last_seen: str, timeout_s: float) -> str:
        """Return when the job has ended, or after `timeout_s`, with the next `last_seen`."""
        # The call that ends the job appends to this stream, so the wait ends immediately.
        stream: Any = {ENDS.format(job_id): last_seen}
        block_ms = max(1, int(timeout_s * 1000))
        with our_errors():
            news: Any = self._connection.xread(stream, block=block_ms)
        return news[0][1][-1][0] if news else last_seen

    def cancel(
        self,
        owner: str,
        job_id: str,
        check_kind: Callable[[Kind], None] = lambda _: None,
    ) -> dict[str, Any] | None:
        """End a job for good, and return its status; None where the owner has no such job.

        Raises:
            JobEnded: it has finished or failed; nothing changes.
            QueueUnavailable, StoreUnavailable: the part that would know does not answer.
            Forbidden: `check_kind` raises it for a kind that the caller may not cancel.
        """
        status = self._canceled(owner, job_id, check_kind)
        status = status or self.status(owner, job_id)
        if status and status["status"] in FINAL - {"canceled"}:
            raise JobEnded(f"Job {job_id} has {status['status']}.")
        return status

    def _canceled(
        self, owner: str, job_id: str, check_kind: Callable[[Kind], None]
    ) -> dict[str, Any] | None:
        """Cancel a job that Redis knows, and return its status after that."""
        if time_of(job_id) is None:
            return None
        with our_errors():
            job = self.queue.job(job_id)
            if job is None or job.owner != owner:
                return None
            check_kind(job.kind)
            if job.record is None:
                record = completion.cancel(self.queue, self._storage, job)
            else:
                record = job.record
        return shown(record) if record else None

    def note_deletion(self) -> None:
        """Make online workers look for their models again. Raises QueueUnavailable."""
        with our_errors():
            invalidation.note_deletion(self._connection)

    def check(self) -> RedisMemory:
        """Return how full Redis is.

        Raises:
            QueueUnavailable: Redis does not answer, or is full.
        """
        with our_errors():
            memory = redis_memory.of(self._connection)
        memory.check()
        return memory


def _fields(
    submission: Submission, expected: Expectation, settings: Settings
) -> JobFields:
    """Return our fields of a new job."""
    ref = submission.ref
    return JobFields(
        id=ref.id,
        owner=ref.owner,
        kind=ref.kind,
        request_id=submission.request_id,
        lane=estimates.lane_of(expected.seconds),
        priority=submission.priority,
        work=submission.work,
        expected_s=round(expected.seconds, 3),
        is_expected=expected.is_known,
        dataset_id=submission.arguments.get("dataset_id"),
        dataset_bytes=submission.dataset_bytes,
        model_id=submission.arguments.get("model_id"),
        waits_for=submission.waits_for,
        callback_url=submission.callback_url,
        max_attempts=settings.max_attempts,
        result_ttl=settings.job_ttl_s,
    )


def _rq_fields(
    submission: Submission, settings: Settings, connection: redis.Redis
) -> dict[str, Any]:
    """Return RQ's fields of a new job, which say what to run."""
    job = rq.job.Job.create(
        FUNCTIONS[submission.ref.kind],
        kwargs=submission.arguments,
        id=submission.ref.id,
        connection=connection,
        serializer="json",
        timeout=submission.timeout_s or settings.job_timeout_s,
        result_ttl=settings.job_ttl_s,
        origin=QUEUE_NAME,
        status=rq.job.JobStatus.QUEUED,
    )
    return job.to_dict()
