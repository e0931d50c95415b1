"""How a job ends: a final record in the store, and a final state in Redis that says the same.

Whoever ends it, a work horse, its worker, the keeper or a request to cancel it: it happens once.
"""

from __future__ import annotations

import json
import logging
import math
import time
from typing import Any

from rowcast import errors, publishing
from rowcast.lanes import Cause, Lanes
from rowcast.states import Status, final_record
from rowcast.storage import Storage

log = logging.getLogger("rowcast.jobs")

# For so long who ends a fit also ends the jobs that waited for it.
ORPHANS_S = 0.5


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
    if attempt is not None and not lanes.is_ours(job_id, attempt):
        return False
    record = final_record(job_id, fields, status, error.cause() if error else None)
    kept = {**record, "log": lines if lines is not None else lanes.log(job_id)}
    is_stored = _store(storage, fields, kept, must=status == "finished")
    ttl_s = int(fields.get("result_ttl") or 3600)
    outcome = lanes.settle(job_id, status, kept, ttl_s, attempt=attempt, stored=is_stored)
    if outcome == "ok":
        log.info("the job has %s%s", status, f": {error.code}" if error else "")
        if status != "finished" and fields["kind"] == "fit" and is_stored:
            end_orphaned(lanes, storage, limit_s=ORPHANS_S)
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
    number = int(fields["attempt"])
    holder: int | None = number
    if isinstance(error, errors.WorkerLost):
        cause, most = Cause(error.code, error.detail), int(fields.get("max_attempts") or 3)
        outcome = lanes.give_back(job_id, number, cause, max_attempts=most)
        if outcome == "ok":
            log.warning("%s It goes back to the queue.", error.detail)
        if outcome != "exhausted":
            return
        # Nobody holds the job any more.
        error, holder = errors.WorkerLost(f"{error.detail} That was attempt {number}, and the last."), None
    fields = lanes.fields(job_id)
    if _has_published(storage, job_id, fields, number):
        end(lanes, storage, job_id, fields, "finished", attempt=holder)
    else:
        end(lanes, storage, job_id, fields, "failed", error, attempt=holder)


def _has_published(storage: Storage, job_id: str, fields: dict[str, str], attempt: int) -> bool:
    """Tell whether a job has published; if not, what this attempt still publishes will not count."""
    try:
        return publishing.start_again(storage, _kind(fields), fields["owner"], job_id, attempt + 1)
    except (errors.StoreUnavailable, errors.ModelUntrusted):
        return False


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
        # There may be thousands, and the caller waits: a keeper ends what is left.
        if _record_late(lanes, storage, job_id, fields, record):
            end_orphaned(lanes, storage, limit_s=ORPHANS_S)
    return outcome


def end_orphaned(lanes: Lanes, storage: Storage, *, limit_s: float = math.inf) -> None:
    """End the jobs that waited for a fit which has ended without a model, for `limit_s` seconds at most."""
    deadline = time.monotonic() + limit_s
    for job_id in lanes.orphaned():
        if time.monotonic() >= deadline:
            return
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
) -> bool:
    try:
        if record["status"] == "canceled":
            publishing.hide_canceled(storage, _kind(fields), fields["owner"], job_id, record)
        else:
            publishing.write_record(storage, _kind(fields), fields["owner"], job_id, record)
    except errors.StoreUnavailable:
        log.warning("the store does not answer; the job's record is in Redis alone for now")
        return False
    lanes.recorded(job_id)
    return True


def _kind(fields: dict[str, str]) -> publishing.Kind:
    return "fit" if fields["kind"] == "fit" else "predict"
