"""The states of a job, and how /status tells of them. RQ's become ours in one place, `_STATUS`."""

from __future__ import annotations

import json
import time
from typing import Any, Literal

from rq.job import JobStatus

from rowcast.errors import WorkerLost

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


# A job that failed without a record was ended by somebody else than its worker.
_UNRECORDED = WorkerLost("The job ended without a record of its own.")


def owner_of(fields: dict[str, str]) -> str | None:
    """Return whose job it is, None for one that Rowcast has not made."""
    return fields.get("owner") or _meta(fields).get("owner")


def status_of(job_id: str, fields: dict[str, str], *, position: int | None = None) -> dict[str, Any]:
    """Describe a job as /status answers it; a job that has ended brings its final record along."""
    if record := fields.get("record"):
        return without_log(json.loads(record)) or {}
    if "kind" not in fields:
        fields = _of_earlier_version(fields)
    status = _STATUS[JobStatus(fields["status"])]
    started = fields.get("started") if status != "queued" else None
    return {
        "id": job_id,
        "kind": fields["kind"],
        "status": status,
        "enqueued_at": _seconds(fields.get("enqueued")),
        "started_at": _seconds(started),
        "ended_at": _seconds(fields.get("ended")) if status in FINAL else None,
        # What was only there to end the job was no attempt to run it.
        "attempts": int(fields.get("attempt") or 0) - int(fields.get("burials") or 0),
        "earlier": [json.loads(line) for line in fields.get("causes", "").splitlines()],
        "priority": fields.get("priority", "normal"),
        "position": position if status == "queued" else None,
        "dataset_id": fields.get("dataset_id"),
        "model_id": fields.get("model_id"),
        "error": _UNRECORDED.cause() if status == "failed" else None,
    }


def final_record(
    job_id: str, fields: dict[str, str], status: Status, error: dict[str, Any] | None
) -> dict[str, Any]:
    """Describe a job that ends now, before Redis itself says so."""
    record = status_of(job_id, {name: value for name, value in fields.items() if name != "record"})
    ended = {"status": status, "started_at": _seconds(fields.get("started")), "ended_at": time.time()}
    return {**record, **ended, "position": None, "error": error}


def _meta(fields: dict[str, str]) -> dict[str, Any]:
    try:
        meta = json.loads(fields.get("meta", ""))
    except ValueError:
        meta = None
    return meta if isinstance(meta, dict) else {}


def _of_earlier_version(fields: dict[str, str]) -> dict[str, str]:
    """Return the fields of a job that an earlier version has queued and no worker has taken over yet."""
    return {**fields, "kind": str(_meta(fields).get("kind"))}


def _seconds(text: str | None) -> float | None:
    return float(text) if text else None


def without_log(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what /status answers of a final record, which also keeps the job's log."""
    return record and {name: value for name, value in record.items() if name not in ("log", "number")}
