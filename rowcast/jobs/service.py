"""The jobs as the server sees them: submit, find, cancel, wait.

What Redis has forgotten, the job's final record in the store answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from rq.job import Job, JobStatus

from rowcast.config import Settings
from rowcast.errors import FitEnded, JobEnded, QueueFull, Unavailable
from rowcast.ids import time_of
from rowcast.jobs import completion, estimates
from rowcast.jobs.estimates import Expectation, Work
from rowcast.jobs.queue import ENDS, JobQueue, Priority, our_errors
from rowcast.jobs.status import FINAL, status_of, without_log
from rowcast.store import Kind, Storage, invalidation, publications

QUEUE = "rowcast"
FUNCTIONS: dict[Kind, str] = {"fit": "ml.fit", "predict": "ml.predict"}
# How often a job is looked at for who follows it.
TURN_S = 0.5


@dataclass(frozen=True)
class Submission:
    """A job to be: its kind, ids and options, for whom and in which request it was submitted, and
    its place.

    `waits_for` is the fit that makes its model, where that has not ended.
    """

    kind: Kind
    owner: str
    job_id: str
    arguments: dict[str, Any]
    request_id: str
    work: Work
    priority: Priority = "normal"
    timeout_s: int | None = None
    waits_for: str | None = None
    callback_url: str | None = None


class Jobs:
    """Submit jobs and tell how they are doing. Every call is for one owner; others' jobs do not
    exist."""

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
            QueueFull: as many jobs as may wait do.
            FitEnded: the fit that it should wait for has ended.
            QueueUnavailable: Redis does not answer; the job may or may not be queued.
            StoreUnavailable: the store, which may know the job, does not answer.
        """
        if self._may_be_forgotten(submission.job_id) and self.status(
            submission.owner, submission.job_id
        ):
            return
        limits = {
            "max_of_owner": self._settings.max_queued_per_owner,
            "max_of_all": self._settings.max_queued,
        }
        work = submission.work
        with our_errors():
            expected = estimates.expected_s(
                self._connection, *work[:4], effort=work.effort
            )
            fields = _fields(submission, expected, self._settings, self._connection)
            refusal = self.queue.submit(
                submission.job_id, submission.owner, fields, **limits
            )
        if refusal == "owner_full":
            raise QueueFull(
                f"As many of your jobs wait as may: {limits['max_of_owner']}."
            )
        if refusal == "full":
            raise QueueFull(f"As many jobs wait as may: {limits['max_of_all']}.")
        if refusal == "fit_ended":
            raise FitEnded(f"The fit {submission.waits_for} has ended.")

    def _may_be_forgotten(self, job_id: str) -> bool:
        """Tell whether a job of this id may have ended so long ago that Redis knows nothing of it
        any more.

        Such an id is that of an Idempotency-Key, which is kept for longer, and comes again.
        """
        minted_at = time_of(job_id)
        return (
            minted_at is not None
            and time.time() - minted_at.timestamp() >= self._settings.job_ttl_s
        )

    def status(self, owner: str, job_id: str) -> dict[str, Any] | None:
        """Return what /status answers, None where the owner has no such job.

        Raises:
            QueueUnavailable, StoreUnavailable: the part that would know does not answer.
        """
        if time_of(job_id) is None:
            return None
        with our_errors():
            fields = self.queue.fields(job_id)
            position = (
                self.queue.position(job_id, fields)
                if fields.get("status") == "queued"
                else None
            )
        if fields:
            return _told(owner, job_id, fields, position)
        return without_log(publications.read_record(self._storage, owner, job_id))

    def known(
        self, owner: str, job_ids: Sequence[str]
    ) -> dict[str, dict[str, Any] | None]:
        """Return what /status answers of those of these jobs that Redis knows; None for another
        owner's.

        Two round trips, however many they are.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        with our_errors():
            found = dict(zip(job_ids, self.queue.fields_of(job_ids), strict=True))
            waiting = {
                job_id: fields
                for job_id, fields in found.items()
                if fields.get("status") == "queued"
            }
            positions = self.queue.positions(waiting)
        return {
            job_id: _told(owner, job_id, fields, positions.get(job_id))
            for job_id, fields in found.items()
            if fields
        }

    def log(self, owner: str, job_id: str) -> list[str] | None:
        """Return what a job has logged, the last lines of it; None where the owner has no such job.

        Raises as `status`.
        """
        if time_of(job_id) is None:
            return None
        with our_errors():
            fields = self.queue.fields(job_id)
            if fields and not _is_of(owner, fields):
                return None
            if fields and "record" not in fields:
                return self.queue.log(job_id)
        record = (
            json.loads(fields["record"])
            if fields
            else publications.read_record(self._storage, owner, job_id)
        )
        return None if record is None else record.get("log", [])

    def follow(self, owner: str, job_id: str) -> Iterator[dict[str, Any] | None]:
        """Yield the status now, then every half second, and at once when the job has ended; that is
        the last.

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
                last_seen = self._await_end(job_id, last_seen, TURN_S)
            except Unavailable:
                yield None
                time.sleep(TURN_S)

    def wait(
        self, owner: str, job_id: str, timeout_s: float, is_wanted: Callable[[], bool]
    ) -> dict[str, Any] | None:
        """Return the status as soon as the job has ended, or after `timeout_s` seconds at the
        latest.

        It also returns, within about a second, when `is_wanted` says that nobody waits any more.
        Raises as `status`.
        """
        deadline = time.monotonic() + timeout_s
        last_seen = "0-0"
        while True:
            answer = self.status(owner, job_id)
            remaining_s = deadline - time.monotonic()
            if (
                answer is None
                or answer["status"] in FINAL
                or remaining_s <= 0
                or not is_wanted()
            ):
                return answer
            last_seen = self._await_end(job_id, last_seen, min(remaining_s, 1.0))

    def _await_end(self, job_id: str, last_seen: str, timeout_s: float) -> str:
        """Return when the job has ended, or after `timeout_s`, with what to give as `last_seen`
        next time."""
        # The call that ends the job appends to this stream, so the wait is over at once.
        with our_errors():
            news: Any = self._connection.xread(
                {ENDS.format(job_id): last_seen}, block=max(1, int(timeout_s * 1000))
            )
        return news[0][1][-1][0] if news else last_seen

    def cancel(self, owner: str, job_id: str) -> dict[str, Any] | None:
        """End a job for good, and return its status; None where the owner has no such job.

        Raises:
            JobEnded: it has ended; nothing is changed.
            QueueUnavailable, StoreUnavailable: the part that would know does not answer.
        """
        status = self.status(owner, job_id)
        if status is None:
            return None
        if status["status"] not in FINAL:
            with our_errors():
                completion.cancel(
                    self.queue, self._storage, job_id, self.queue.fields(job_id)
                )
            status = self.status(owner, job_id)
        if status and status["status"] in FINAL - {"canceled"}:
            raise JobEnded(f"Job {job_id} has {status['status']}.")
        return status

    def note_deletion(self) -> None:
        """Have online workers look for their models again. Raises QueueUnavailable."""
        with our_errors():
            invalidation.note_deletion(self._connection)

    def check(self) -> None:
        """Raise QueueUnavailable if Redis does not answer."""
        with our_errors():
            self._connection.ping()


def _told(
    owner: str, job_id: str, fields: dict[str, str], position: int | None
) -> dict[str, Any] | None:
    # One that Rowcast has not made has nothing to tell.
    return (
        status_of(job_id, fields, position=position) or None
        if _is_of(owner, fields)
        else None
    )


def _is_of(owner: str, fields: dict[str, str]) -> bool:
    return fields.get("owner") == owner and "kind" in fields


def _fields(
    submission: Submission,
    expected: Expectation,
    settings: Settings,
    connection: redis.Redis,
) -> dict[str, Any]:
    """Return the fields of a job's hash: RQ's, by which workers know what to run, and ours."""
    job = Job.create(
        FUNCTIONS[submission.kind],
        kwargs=submission.arguments,
        id=submission.job_id,
        connection=connection,
        serializer="json",
        timeout=submission.timeout_s or settings.job_timeout_s,
        result_ttl=settings.job_ttl_s,
        origin=QUEUE,
        status=JobStatus.QUEUED,
        meta={
            "owner": submission.owner,
            "kind": submission.kind,
            "request_id": submission.request_id,
        },
    )
    ours = {
        "kind": submission.kind,
        "request_id": submission.request_id,
        "lane": estimates.lane_of(expected.seconds),
        "work": json.dumps(submission.work),
        "expected_s": round(expected.seconds, 3),
        "is_expected": int(expected.is_known),
        "priority": submission.priority,
        "waits_for": submission.waits_for,
        "max_attempts": settings.max_attempts,
        "dataset_id": submission.arguments.get("dataset_id"),
        "model_id": submission.arguments.get("model_id"),
        "callback_url": submission.callback_url,
    }
    return {
        **job.to_dict(),
        **{name: value for name, value in ours.items() if value is not None},
    }
