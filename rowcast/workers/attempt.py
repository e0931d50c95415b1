"""One attempt of a job, in its work horse: from the job's fields to its end, or back to the
queue."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

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
from rowcast.jobs import log as joblog
from rowcast.learning import Progress
from rowcast.store import Storage, deduplication, patience, publications
from rowcast.system import memory, scratch

log = logging.getLogger("rowcast.jobs")
T = TypeVar("T")

# A job that waits for the store or for space is tried again after so long, at first sooner.
MAX_DELAY_S = 30.0


@dataclass
class Attempt:
    """An attempt: `work` is the job's function, `send` sends a message to the worker and never
    waits.

    `beats` are the lanes by a connection that gives up soon: what the job notes and asks is not
    worth waiting for a Redis that is away. `memory_bytes` is what it may take, which the worker
    sees to.
    """

    job: JobFields
    settings: Settings
    queue: JobQueue
    heartbeat_queue: JobQueue
    work: Callable[[], None]
    send: Callable[[dict[str, Any]], None]
    memory_bytes: int
    lines: deque[str] = field(default_factory=deque)

    def __post_init__(self) -> None:
        """Prepare what the end needs: a store that is waited for, because now there is something to
        lose."""
        self.number = self.job.attempt
        self.publisher = Storage(
            self.settings,
            patience.through_outage(self.settings.outage_wait_s),
            connections=4,
        )
        self.began = time.monotonic()

    def run(self) -> None:
        """Do the work, and settle what becomes of the job."""
        with joblog.recorded(
            self._earlier_lines(), lambda line: self.send({"log": line})
        ) as self.lines:
            try:
                self._do()
            except Exception as error:  # noqa: BLE001 - whatever it is, the job ends
                self._fail(error)
            else:
                self._end("finished", None)
                self._note_duration()

    def _earlier_lines(self) -> list[str]:
        with suppress(redis.RedisError):
            return self.queue.log(self.job.id) if self.number > 1 else []
        return []

    def _do(self) -> None:
        """Do the work, unless an earlier attempt has published and only its end was lost."""
        storage = Storage(self.settings, patience.WORKER, connections=4)
        if self.number > 1 and publications.start_again(
            storage, self.job.ref, self.number
        ):
            return
        notes = self.heartbeat_queue.connection
        surroundings = context.Run(
            job=self.job.ref,
            attempt=self.number,
            settings=self.settings,
            storage=storage,
            publisher=self.publisher,
            folder=scratch.make(
                Path(self.settings.scratch_dir), folder_name(self.job.id, self.number)
            ),
            others_wait=partial(_do_others_wait, self.heartbeat_queue),
            progress=Progress(self.send),
            note_digest=partial(deduplication.note, notes, self.job.owner),
            note_published=partial(
                reuse.note, notes, self.job.owner, job_id=self.job.id
            ),
        )
        with context.surround(surroundings):
            self.work()

    def _fail(self, error: Exception) -> None:
        """Give a job back that lacks only a part which is away; end any other as failed."""
        self.send({"ending": True})
        cause = self._cause_of(error)
        lacks_a_part = isinstance(cause, errors.Unavailable) or scratch.is_full(error)
        if lacks_a_part and insist(lambda: self._wait_outside(cause)) != "exhausted":
            log.warning("%s The job goes back to the queue.", cause.detail)
            return
        if isinstance(cause, errors.InternalError):
            log.error("the job failed", exc_info=error)
        self._end("failed", cause)

    def _cause_of(self, error: Exception) -> errors.RowcastError:
        """Return what the job's owner is told of an exception."""
        if isinstance(error, errors.RowcastError):
            return error
        if scratch.is_full(error):
            return errors.ScratchFull("There is no space left on the scratch disk.")
        if isinstance(error, MemoryError):
            return memory.refused(self.memory_bytes)
        if isinstance(error, redis.RedisError):
            return errors.QueueUnavailable("Redis did not answer while the job ran.")
        request = self.job.request_id or "unknown"
        return errors.InternalError(
            f"The job failed ({type(error).__name__}); its request_id is {request}."
        )

    def _wait_outside(self, cause: errors.RowcastError) -> str:
        """Give the job back for a while, which does not count as a death."""
        return self.queue.requeue(
            self.job.id,
            self.number,
            AttemptError(cause.code, cause.detail),
            delay_s=min(2.0**self.number, MAX_DELAY_S),
            max_wait_s=self.settings.outage_wait_s,
        )

    def _end(self, status: Status, error: errors.RowcastError | None) -> None:
        # Nothing is lost with a failure: its record may be stored later, and the worker goes on.
        if status == "finished":
            store = self.publisher
        else:
            store = Storage(self.settings, patience.MAINTENANCE, connections=4)
        lines = list(self.lines)
        insist(
            lambda: completion.end(
                self.queue,
                store,
                self.job,
                status,
                error,
                lines=lines,
                attempt=self.number,
            )
        )

    def _note_duration(self) -> None:
        """Let later jobs of like size know how long this one took."""
        if self.job.work is None or self.number > 1:
            return
        seconds = time.monotonic() - self.began
        with suppress(redis.RedisError):
            estimates.note(self.queue.connection, self.job.work, seconds)


def _do_others_wait(queue: JobQueue) -> bool:
    try:
        return queue.anybody_waits()
    except redis.RedisError:
        return True


def folder_name(job_id: str, attempt: int) -> str:
    """Return the name of an attempt's scratch folder; no two share one."""
    return f"{job_id}-{attempt}"


def insist(settle: Callable[[], T]) -> T:
    """Return what must not be left undone; wait for Redis as long as it takes."""
    while True:
        try:
            return settle()
        except redis.RedisError as error:
            log.warning(
                "Redis does not answer (%s); waiting for it", type(error).__name__
            )
            time.sleep(1)
