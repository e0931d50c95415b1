"""One attempt of a job, in its work horse: from the job's fields to its end or its requeueing."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import redis

from rowcast import errors
from rowcast.config import Settings
from rowcast.jobs import (
    AttemptError,
    JobFields,
    JobQueue,
    Status,
    completion,
    context,
    estimates,
    reuse,
)
from rowcast.jobs import log as job_log
from rowcast.learning import Progress
from rowcast.redis_clients import cause_of
from rowcast.store import (
    ONE_OBJECT_WAIT_S,
    Storage,
    deduplication,
    patience,
    publications,
)
from rowcast.system import memory, scratch
from rowcast.workers.report_pipe import ReportPipe

log = logging.getLogger("rowcast.jobs")
T = TypeVar("T")
# Returns `key_id` and `signature` for the digest of a model's manifest.
Sign = Callable[[str], Mapping[str, str]]

# The longest delay, in seconds, before a job that waits for the store or for space is tried again.
MAX_DELAY_S = 30.0
# Seconds until Redis is asked again after it did not answer.
REDIS_PAUSE_S = 1.0


@dataclass
class Attempt:
    """An attempt to run a job; `work` is the job's function with its arguments.

    `heartbeat_queue` is the queue by a connection that gives up soon: what the job notes and asks
    while it runs is not worth waiting for a Redis that is away. The worker enforces `memory_bytes`,
    which only appears in a message here, and `timeout_s`, which a search has to keep. `confine`
    takes the folders in which the job changes files.
    """

    job: JobFields
    settings: Settings
    queue: JobQueue
    heartbeat_queue: JobQueue
    work: Callable[[], None]
    reports: ReportPipe
    sign: Sign
    confine: Callable[[Sequence[Path]], object]
    memory_bytes: int
    timeout_s: int | None = None
    lines: deque[str] = field(default_factory=deque)

    def __post_init__(self) -> None:
        """Prepare a store client that waits out an outage, for when there is a model to lose."""
        self.number = self.job.attempt
        waits_out = patience.through_outage(self.settings.outage_wait_s)
        self.publisher = Storage(self.settings, waits_out, connections=4)
        self.started_at = time.monotonic()

    def run(self) -> None:
        """Do the work, and record what becomes of the job."""
        earlier_lines = self._earlier_lines()
        with job_log.recorded(earlier_lines, self.reports.send_log) as self.lines:
            try:
                self._do()
            except Exception as error:  # noqa: BLE001 - whatever it is, the job ends
                self._fail(error)
            else:
                self._end("finished", None)
                self._note_duration()

    def _earlier_lines(self) -> list[str]:
        if self.number == 1:
            return []
        try:
            return self.queue.log(self.job.id)
        except redis.RedisError:
            return []

    def _do(self) -> None:
        """Do the work, unless an earlier attempt has published and only its end was lost."""
        storage = Storage(self.settings, patience.WORKER, connections=4)
        if self.number > 1 and publications.start_again(
            storage, self.job.ref, self.number
        ):
            return
        with context.surround(self._context(storage)):
            self.work()

    def _context(self, storage: Storage) -> context.Run:
        owner = self.job.owner
        notes = self.heartbeat_queue.connection
        name = folder_name(self.job.id, self.number)
        folder = scratch.make(Path(self.settings.scratch_dir), name)
        self.confine([folder, Path(self.settings.cores_dir)])
        return context.Run(
            job=self.job.ref,
            attempt=self.number,
            settings=self.settings,
            storage=storage,
            publisher=self.publisher,
            sign=self.sign,
            folder=folder,
            others_wait=partial(_do_others_wait, self.heartbeat_queue),
            progress=Progress(self.reports.send_progress),
            note_digest=partial(deduplication.note, notes, owner),
            note_published=partial(reuse.note, notes, owner, job_id=self.job.id),
            deadline=self.started_at + self.timeout_s if self.timeout_s else None,
        )

    def _fail(self, error: Exception) -> None:
        """Requeue a job that only lacks Redis, the store or space; end any other as failed."""
        self.reports.send_ending()
        cause = self._cause_of(error)
        may_pass = isinstance(cause, errors.Unavailable) or scratch.is_full(error)
        if may_pass and self._requeue(cause):
            log.warning("%s The job goes back to the queue.", cause.detail)
            return
        if isinstance(cause, errors.InternalError):
            log.error("the job failed", exc_info=error)
        self._end("failed", cause)

    def _cause_of(self, error: Exception) -> errors.RowcastError:
        """Return the error that the job's owner sees for an exception."""
        if isinstance(error, errors.RowcastError):
            return error
        if scratch.is_full(error):
            return errors.ScratchFull("The scratch disk is full.")
        if isinstance(error, MemoryError):
            return memory.refused(self.memory_bytes)
        if isinstance(error, redis.RedisError):
            return errors.QueueUnavailable("Redis did not answer while the job ran.")
        request = self.job.request_id or "unknown"
        return errors.InternalError(
            f"The job failed ({type(error).__name__}); its request_id is {request}."
        )

    def _max_wait_s(self, cause: errors.RowcastError) -> float:
        """Return how long the job may wait: not for hours where the store refuses one object."""
        longest_s = self.settings.outage_wait_s
        if not isinstance(cause, errors.StoreUnavailable):
            return longest_s
        storage = Storage(self.settings, patience.MAINTENANCE, connections=4)
        return min(longest_s, ONE_OBJECT_WAIT_S) if storage.answers() else longest_s

    def _requeue(self, cause: errors.RowcastError) -> bool:
        """Requeue the job with a delay, which counts no crash; False if it has waited too long."""
        reason = AttemptError(cause.code, cause.detail)
        delay_s = min(2.0**self.number, MAX_DELAY_S)
        max_wait_s = self._max_wait_s(cause)
        outcome = until_redis_answers(
            lambda: self.queue.requeue(
                self.job.id,
                self.number,
                reason,
                delay_s=delay_s,
                max_wait_s=max_wait_s,
            )
        )
        return outcome != "exhausted"

    def _end(self, status: Status, error: errors.RowcastError | None) -> None:
        # The record of a failure may be stored later, so the worker does not wait for the store.
        if status == "finished":
            storage = self.publisher
        else:
            storage = Storage(self.settings, patience.MAINTENANCE, connections=4)
        lines = list(self.lines)
        until_redis_answers(
            lambda: completion.end(
                self.queue,
                storage,
                self.job,
                status,
                error,
                lines=lines,
                attempt=self.number,
            )
        )

    def _note_duration(self) -> None:
        """Let estimates of later jobs of similar size use how long this one took."""
        if self.job.work is None or self.number > 1:
            return
        seconds = time.monotonic() - self.started_at
        with suppress(redis.RedisError):
            estimates.note(self.queue.connection, self.job.work, seconds)


def _do_others_wait(queue: JobQueue) -> bool:
    try:
        return queue.has_waiting_jobs()
    except redis.RedisError:
        return True


def folder_name(job_id: str, attempt: int) -> str:
    """Return the name of an attempt's scratch folder; no two attempts share one."""
    return f"{job_id}-{attempt}"


def until_redis_answers(call: Callable[[], T]) -> T:
    """Return what a call returns, repeated until Redis answers, however long that takes."""
    while True:
        try:
            return call()
        except redis.RedisError as error:
            log.warning("%s; waiting for it", cause_of(error))
            time.sleep(REDIS_PAUSE_S)
