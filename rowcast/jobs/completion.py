"""How a job ends: a final record in the store, and a final state in Redis that says the same.

Whoever ends it, a work horse, its worker, the maintenance process or a request to cancel it: it happens once.
"""

from __future__ import annotations

import json
import logging
import math
import time
from typing import Any

from rowcast import errors
from rowcast.jobs.queue import AttemptError, JobQueue
from rowcast.jobs.status import Status, final_record
from rowcast.store import Storage, publications

log = logging.getLogger("rowcast.jobs")

# For so long who ends a fit also ends the jobs that waited for it.
ORPHANS_S = 0.5


def end(  # noqa: PLR0917 - where it is kept, which job, how it ended
    queue: JobQueue,
    storage: Storage,
    job_id: str,
    fields: dict[str, str],
    status: Status,
    error: errors.RowcastError | None = None,
    *,
    lines: list[str] | None = None,
    attempt: int | None = None,
) -> bool:
    """End a job; False if it had ended already, or is another attempt's.

    The record is in the store before Redis says that the job is over, so that nobody sees an end
    that could still be lost. Only a failure does not wait for a store that is away: Redis keeps it
    until it is stored.

    Raises:
        StoreUnavailable: the store does not answer, and the job has finished.
        redis.RedisError: Redis does not answer.
    """
    if attempt is not None and not queue.is_ours(job_id, attempt):
        return False
    kept = _record(queue, job_id, fields, status, error=error, lines=lines)
    is_stored = _store(storage, fields, kept, must=status == "finished")
    outcome = queue.finish(
        job_id, status, kept, _ttl_s(fields), attempt=attempt, stored=is_stored
    )
    if outcome == "ok":
        log.info("the job has %s%s", status, f": {error.code}" if error else "")
        if status != "finished" and fields["kind"] == "fit" and is_stored:
            end_orphaned(queue, limit_s=ORPHANS_S)
    return outcome == "ok"


def _record(
    queue: JobQueue,
    job_id: str,
    fields: dict[str, str],
    status: Status,
    *,
    error: errors.RowcastError | None = None,
    lines: list[str] | None = None,
) -> dict[str, Any]:
    """Return a job's final record as it is kept: with its log, and the number that it is filed
    under."""
    record = final_record(job_id, fields, status, error.cause() if error else None)
    told = lines if lines is not None else queue.log(job_id)
    return {**record, "log": told, "number": int(fields.get("attempt") or 0)}


def _ttl_s(fields: dict[str, str]) -> int:
    return int(fields.get("result_ttl") or 3600)


def _store(
    storage: Storage, fields: dict[str, str], record: dict[str, Any], *, must: bool
) -> bool:
    try:
        publications.write_record(
            storage, _kind(fields), fields["owner"], record["id"], record
        )
    except errors.StoreUnavailable:
        if must:
            raise
        log.warning(
            "the store does not answer; the job's record is in Redis alone for now"
        )
        return False
    return True


def lose(
    queue: JobQueue,
    storage: Storage,
    job_id: str,
    fields: dict[str, str],
    error: errors.RowcastError,
) -> None:
    """End a job whose process is dead for sure; where it had published before, it has finished.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    attempt = fields["attempt"]
    fields = queue.fields(job_id)
    # It may have ended the job itself, as the last thing that it did.
    if (fields.get("status"), fields.get("attempt")) != ("started", attempt):
        return
    try:
        has_published = publications.has_published(
            storage, _kind(fields), fields["owner"], job_id
        )
    except errors.StoreUnavailable:
        has_published = False
    _end_for(queue, storage, job_id, fields, None if has_published else error)


def give_up(
    queue: JobQueue,
    storage: Storage,
    job_id: str,
    fields: dict[str, str],
    error: errors.WorkerLost,
    *,
    ttl_s: float,
) -> None:
    """Queue a job again whose attempt was lost; end it when that was the last one.

    The attempt may live, stopped for a while: its place in the store is taken before the job ends.

    Raises:
        StoreUnavailable: the store does not answer; the job is still running, until somebody calls
            again. redis.RedisError: Redis does not answer.
    """
    attempt, most = int(fields["attempt"]), int(fields.get("max_attempts") or 3)
    number = queue.give_up(
        job_id,
        attempt,
        AttemptError(error.code, error.detail),
        max_attempts=most,
        ttl_s=ttl_s,
    )
    if number is None:
        log.warning("%s", error.detail)
        return
    fields = {**queue.fields(job_id), "attempt": str(number)}
    has_published = publications.start_again(
        storage, _kind(fields), fields["owner"], job_id, number
    )
    lost = errors.WorkerLost(
        f"{error.detail} It was tried {fields.get('deaths', most)} times in all."
    )
    _end_for(queue, storage, job_id, fields, None if has_published else lost)


def _end_for(
    queue: JobQueue,
    storage: Storage,
    job_id: str,
    fields: dict[str, str],
    error: errors.RowcastError | None,
) -> None:
    status: Status = "failed" if error else "finished"
    end(queue, storage, job_id, fields, status, error, attempt=int(fields["attempt"]))


def cancel(
    queue: JobQueue, storage: Storage, job_id: str, fields: dict[str, str]
) -> str:
    """Cancel a job, and return "ok" or the final status that it has already.

    Here Redis comes first: it decides whether the job had ended before. Then the store gets a
    marker, which hides whatever the job has left there and may still leave.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    record = _record(queue, job_id, fields, "canceled")
    outcome = queue.finish(
        job_id, "canceled", record, _ttl_s(fields), attempt=None, stored=False
    )
    if outcome == "ok":
        log.info("the job has been canceled")
        # There may be thousands, and the caller waits: a maintenance process ends what is left.
        if _record_late(queue, storage, job_id, fields, record):
            end_orphaned(queue, limit_s=ORPHANS_S)
    return outcome


def end_orphaned(queue: JobQueue, *, limit_s: float = math.inf) -> None:
    """End the jobs that waited for a fit which has ended without a model, for `limit_s` seconds at
    most.

    Their records are stored late.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    deadline = time.monotonic() + limit_s
    for job_id in queue.orphaned():
        if time.monotonic() >= deadline:
            return
        if fields := queue.fields(job_id):
            fit = fields.get("waits_for", "")
            error = errors.DependencyFailed(
                f"The fit {fit}, which should have made the model, made none."
            )
            record = _record(queue, job_id, fields, "failed", error=error, lines=[])
            queue.finish(
                job_id, "failed", record, _ttl_s(fields), attempt=None, stored=False
            )
        queue.adopted(job_id)


def store_late(queue: JobQueue, storage: Storage) -> None:
    """Write the records of jobs that ended while the store was away."""
    for job_id in queue.unrecorded():
        fields = queue.fields(job_id)
        record = fields.get("record")
        if record and not _record_late(
            queue, storage, job_id, fields, json.loads(record)
        ):
            # The others would only wait for it as well, one after the other.
            return
        if not record:
            queue.recorded(job_id)


def _record_late(
    queue: JobQueue,
    storage: Storage,
    job_id: str,
    fields: dict[str, str],
    record: dict[str, Any],
) -> bool:
    try:
        if record["status"] == "canceled":
            publications.hide_canceled(
                storage, _kind(fields), fields["owner"], job_id, record
            )
        else:
            publications.write_record(
                storage, _kind(fields), fields["owner"], job_id, record
            )
    except errors.StoreUnavailable:
        log.warning(
            "the store does not answer; the job's record is in Redis alone for now"
        )
        return False
    queue.recorded(job_id)
    return True


def _kind(fields: dict[str, str]) -> publications.Kind:
    return "fit" if fields["kind"] == "fit" else "predict"
