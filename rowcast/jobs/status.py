"""The states of a job, and how /status tells of them. RQ's become ours in one place, `_STATUS`."""

from __future__ import annotations

import json
import time
from typing import Any, Literal

from rq.job import JobStatus

from rowcast.errors import WorkerLost
from rowcast.jobs.estimates import eta_s as eta
from rowcast.learning import progress as progress_module

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


def status_of(
    job_id: str, fields: dict[str, str], *, position: int | None = None
) -> dict[str, Any]:
    """Describe a job as /status answers it; a job that has ended brings its final record along."""
    if record := fields.get("record"):
        return without_log(json.loads(record)) or {}
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
        "attempts": int(fields.get("attempt") or 0)
        - int(fields.get("closing_attempts") or 0),
        "earlier": [json.loads(line) for line in fields.get("causes", "").splitlines()],
        "priority": fields.get("priority", "normal"),
        "position": position if status == "queued" else None,
        **_prospect(fields, is_running=status == "started"),
        "dataset_id": fields.get("dataset_id"),
        "model_id": fields.get("model_id"),
        "error": _UNRECORDED.cause() if status == "failed" else None,
    }


# What records of earlier versions lack.
_SINCE: dict[str, Any] = {
    "earlier": [],
    "priority": "normal",
    "progress": None,
    "eta_s": None,
}


def _prospect(fields: dict[str, str], *, is_running: bool) -> dict[str, Any]:
    """Return how far a running job is, and how long it will still take, as far as that is known."""
    if not is_running:
        return {"progress": None, "eta_s": None}
    progress = (
        json.loads(fields["progress"])
        if "progress" in fields
        else progress_module.waiting()
    )
    is_known = fields.get("is_expected") == "1"
    elapsed_s = max(0.0, time.time() - float(fields.get("started") or time.time()))
    eta_s = eta(
        float(fields["expected_s"]) if is_known else None,
        elapsed_s,
        progress["percent"],
    )
    return {"progress": progress, "eta_s": eta_s}


def final_record(
    job_id: str, fields: dict[str, str], status: Status, error: dict[str, Any] | None
) -> dict[str, Any]:
    """Describe a job that ends now, before Redis itself says so."""
    record = status_of(
        job_id, {name: value for name, value in fields.items() if name != "record"}
    )
    ended = {
        "status": status,
        "started_at": _seconds(fields.get("started")),
        "ended_at": time.time(),
    }
    return {
        **record,
        **ended,
        "position": None,
        "progress": None,
        "eta_s": None,
        "error": error,
    }


def _seconds(text: str | None) -> float | None:
    return float(text) if text else None


def without_log(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what /status answers of a final record, which also keeps the job's log."""
    if record is None:
        return None
    return {
        **_SINCE,
        **{
            name: value
            for name, value in record.items()
            if name not in ("log", "number")
        },
    }
