"""How a job ends: a final record in the store, and a final state in Redis that says the same.

Whoever ends it, a work horse, its worker, the keeper or a request to cancel it: it happens once.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from rowcast import errors, publishing
from rowcast.lanes import Cause, Lanes
from rowcast.states import Status, final_record
from rowcast.storage import Storage

log = logging.getLogger("rowcast.jobs")


def end(  # noqa: PLR0917 - where it is kept, which job, how it ended
    lanes: Lanes,
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

    The record is in the store before Redis says that the job is over, so that nobody sees an end that could
    still be lost. Only a failure does not wait for a store that is away: Redis keeps it until it is stored.

    Raises:
        StoreUnavailable: the store does not answer, and the job has finished.
        redis.RedisError: Redis does not answer.
    """
    record = final_record(job_id, fields, status, error.cause() if error else None)
    kept = {**record, "log": lines if lines is not None else lanes.log(job_id)}
    is_stored = _store(storage, fields, kept, must=status == "finished")
    ttl_s = int(fields.get("result_ttl") or 3600)
    outcome = lanes.settle(job_id, status, kept, ttl_s, attempt=attempt, stored=is_stored)
    if outcome == "ok":
        log.info("the job has %s%s", status, f": {error.code}" if error else "")
        if status != "finished" and fields["kind"] == "fit":
            end_orphaned(lanes, storage)
    return outcome == "ok"


def _store(storage: Storage, fields: dict[str, str], record: dict[str, Any], *, must: bool) -> bool:
    try:
        publishing.write_record(storage, _kind(fields), fields["owner"], record["id"], record)
    except errors.StoreUnavailable:
        if must:
            raise
        log.warning("the store does not answer; the job's record is in Redis alone for now")
        return False
    return True


def lose(
    lanes: Lanes, storage: Storage, job_id: str, fields: dict[str, str], error: errors.RowcastError
) -> None:
    """Settle what becomes of a job whose process is gone: `WorkerLost` is tried again, other causes end it.

    Where it had published before, it has finished.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    attempt = int(fields["attempt"])
    if isinstance(error, errors.WorkerLost):
        cause, most = Cause(error.code, error.detail), int(fields.get("max_attempts") or 3)
        if lanes.give_back(job_id, attempt, cause, max_attempts=most) != "exhausted":
            log.warning("%s It goes back to the queue.", error.detail)
            return
        error = errors.WorkerLost(f"{error.detail} It was tried {attempt} times in all.")
    fields = lanes.fields(job_id)
    try:
        found = publishing.find(storage, _kind(fields), fields["owner"], job_id)
        if found:
            end(lanes, storage, job_id, fields, "finished", attempt=attempt)
        else:
            end(lanes, storage, job_id, fields, "failed", error, attempt=attempt)
    except errors.StoreUnavailable:
        end(lanes, storage, job_id, fields, "failed", error, attempt=attempt)


def cancel(lanes: Lanes, storage: Storage, job_id: str, fields: dict[str, str]) -> str:
    """Cancel a job, and return "ok" or the final status that it has already.

    Here Redis comes first: it decides whether the job had ended before. Then the store gets a marker, which
    hides whatever the job has left there and may still leave.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    record = {**final_record(job_id, fields, "canceled", None), "log": lanes.log(job_id)}
    ttl_s = int(fields.get("result_ttl") or 3600)
    outcome = lanes.settle(job_id, "canceled", record, ttl_s, attempt=None, stored=False)
    if outcome == "ok":
        log.info("the job has been canceled")
        _record_late(lanes, storage, job_id, fields, record)
        end_orphaned(lanes, storage)
    return outcome


def end_orphaned(lanes: Lanes, storage: Storage) -> None:
    """End the jobs that waited for a fit which has ended without a model."""
    for job_id in lanes.orphaned():
        if fields := lanes.fields(job_id):
            fit = fields.get("waits_for", "")
            error = errors.DependencyFailed(f"The fit {fit}, which should have made the model, made none.")
            end(lanes, storage, job_id, fields, "failed", error, lines=[])
        lanes.adopted(job_id)


def store_late(lanes: Lanes, storage: Storage) -> None:
    """Write the records of jobs that ended while the store was away."""
    for job_id in lanes.unrecorded():
        fields = lanes.fields(job_id)
        if record := fields.get("record"):
            _record_late(lanes, storage, job_id, fields, json.loads(record))
        else:
            lanes.recorded(job_id)


def _record_late(
    lanes: Lanes, storage: Storage, job_id: str, fields: dict[str, str], record: dict[str, Any]
) -> None:
    try:
        if record["status"] == "canceled":
            publishing.hide_canceled(storage, _kind(fields), fields["owner"], job_id, record)
        else:
            publishing.write_record(storage, _kind(fields), fields["owner"], job_id, record)
    except errors.StoreUnavailable:
        log.warning("the store does not answer; the job's record is in Redis alone for now")
        return
    lanes.recorded(job_id)


def _kind(fields: dict[str, str]) -> publishing.Kind:
    return "fit" if fields["kind"] == "fit" else "predict"
