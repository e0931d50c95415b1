"""How a job ends: a final record in the store, and a final state in Redis that says the same.

A work horse, its worker, a maintenance process or a request to cancel may end a job. It happens
once, whichever comes first.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from rowcast import errors
from rowcast.jobs.fields import JobFields
from rowcast.jobs.queue import AttemptError, JobQueue
from rowcast.jobs.status import Status, final_record
from rowcast.store import Storage, publications, records

log = logging.getLogger("rowcast.jobs")

# The process that ends a fit ends the jobs that waited for it for so many seconds.
ORPHANS_S = 0.5


def end(
    queue: JobQueue,
    storage: Storage,
    job: JobFields,
    status: Status,
    error: errors.RowcastError | None = None,
    *,
    lines: list[str] | None = None,
    attempt: int | None = None,
) -> dict[str, Any] | None:
    """End a job and return its record; None if it had ended, or belongs to another attempt.

    The record is in the store before Redis says that the job is over, so nobody sees an end that
    could still be lost. Only a failure does not wait for a store that is away: Redis keeps its
    record until the store has it.

    Raises:
        StoreUnavailable: the store does not answer, and the job has finished.
        redis.RedisError: Redis does not answer.
    """
    if attempt is not None and not queue.is_ours(job.id, attempt):
        return None
    record = _record(queue, job, status, error, lines)
    is_stored = _store(storage, job, record, must=status == "finished")

    ending = queue.finish(
        job.id, status, record, job.result_ttl, attempt=attempt, stored=is_stored
    )
    if ending.outcome != "ok":
        return None
    log.info("the job has %s%s", status, f": {error.code}" if error else "")
    if status != "finished" and job.kind == "fit" and is_stored:
        end_orphaned(queue, limit_s=ORPHANS_S)
    return record


def _record(
    queue: JobQueue,
    job: JobFields,
    status: Status,
    error: errors.RowcastError | None = None,
    lines: list[str] | None = None,
) -> dict[str, Any]:
    """Return a job's final record as it is kept: with its log and the number it is filed under."""
    cause = error.cause() if error else None
    record = final_record(job, status, cause, queue.time())
    logged = queue.log(job.id) if lines is None else lines
    return {**record, "log": logged, "number": job.attempt}


def _store(
    storage: Storage, job: JobFields, record: dict[str, Any], *, must: bool
) -> bool:
    try:
        records.write_record(storage, job.ref, record)
    except errors.StoreUnavailable:
        if must:
            raise
        log.warning(
            "the store does not answer; the job's record is in Redis alone for now"
        )
        return False
    return True


def lose(
    queue: JobQueue, storage: Storage, job: JobFields, error: errors.RowcastError
) -> None:
    """End a job whose process is dead for sure; if it had published, it has finished.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    now = queue.job(job.id)
    # The last thing that the process did may have been to end the job.
    if now is None or now.status != "started" or now.attempt != job.attempt:
        return
    try:
        has_published = publications.has_published(storage, now.ref)
    except errors.StoreUnavailable:
        has_published = False
    _end_attempt(queue, storage, now, None if has_published else error)


def give_up(
    queue: JobQueue,
    storage: Storage,
    job: JobFields,
    error: errors.WorkerLost,
    *,
    ttl_s: float,
) -> None:
    """Requeue a job whose attempt was lost; end it if that was the last attempt.

    The lost attempt may only be stopped for a while: a final attempt takes its place in the store
    before the job ends.

    Raises:
        StoreUnavailable: the store does not answer; the job runs on until somebody calls again.
        redis.RedisError: Redis does not answer.
    """
    number = queue.give_up(
        job.id,
        job.attempt,
        AttemptError(error.code, error.detail),
        max_attempts=job.max_attempts,
        ttl_s=ttl_s,
    )
    if number is None:
        log.warning("%s", error.detail)
        return
    found = queue.job(job.id) or job
    final = found.model_copy(update={"attempt": number})
    has_published = publications.start_again(storage, final.ref, number)

    n_crashes = final.crashes or job.max_attempts
    lost = errors.WorkerLost(f"{error.detail} It was tried {n_crashes} times in all.")
    _end_attempt(queue, storage, final, None if has_published else lost)


def _end_attempt(
    queue: JobQueue,
    storage: Storage,
    job: JobFields,
    error: errors.RowcastError | None,
) -> None:
    status: Status = "failed" if error else "finished"
    end(queue, storage, job, status, error, attempt=job.attempt)


def cancel(queue: JobQueue, storage: Storage, job: JobFields) -> dict[str, Any] | None:
    """Cancel a job, and return its record, or the one that it has if it had ended.

    Here Redis comes first: it decides whether the job had ended before. Then the store gets a
    marker, which hides whatever the job has left there and may still leave. None stands for a job
    that Redis has forgotten.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    record = _record(queue, job, "canceled")
    ending = queue.finish(
        job.id, "canceled", record, job.result_ttl, attempt=None, stored=False
    )
    if ending.outcome != "ok":
        return ending.record
    log.info("the job has been canceled")
    # The caller waits, and thousands may be left: a maintenance process ends the others.
    if _record_late(queue, storage, job, record):
        end_orphaned(queue, limit_s=ORPHANS_S)
    return record


def end_orphaned(queue: JobQueue, *, limit_s: float = math.inf) -> None:
    """End jobs that waited for a fit that made no model, for `limit_s` seconds at most.

    Their records are stored later.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    deadline = time.monotonic() + limit_s
    for job_id in queue.orphaned():
        if time.monotonic() >= deadline:
            return
        if job := queue.job(job_id):
            _end_orphan(queue, job)
        queue.adopted(job_id)


def _end_orphan(queue: JobQueue, job: JobFields) -> None:
    error = errors.DependencyFailed(
        f"Fit {job.waits_for} failed or was canceled, so its model does not exist."
    )
    record = _record(queue, job, "failed", error, lines=[])
    queue.finish(job.id, "failed", record, job.result_ttl, attempt=None, stored=False)


def store_late(queue: JobQueue, storage: Storage) -> None:
    """Write the records of jobs that ended while the store was away."""
    for job_id in queue.unrecorded():
        job = queue.job(job_id)
        if job is None or job.record is None:
            queue.recorded(job_id)
        elif not _record_late(queue, storage, job, job.record):
            if not storage.answers():
                # The others would only wait for the store as well, one after the other.
                return
            log.error("the store refuses the record of job %s; others go on", job_id)


def _record_late(
    queue: JobQueue, storage: Storage, job: JobFields, record: dict[str, Any]
) -> bool:
    try:
        if record["status"] == "canceled":
            records.hide_canceled(storage, job.ref, record)
        else:
            records.write_record(storage, job.ref, record)
    except errors.StoreUnavailable:
        log.warning(
            "the store does not answer; the job's record is in Redis alone for now"
        )
        return False
    queue.recorded(job.id)
    return True
