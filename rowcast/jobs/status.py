"""The status of a job, as /status answers it. RQ's words become ours in one table."""

from __future__ import annotations

import time
from typing import Any, Literal

from rq.job import JobStatus

from rowcast.errors import WorkerLost
from rowcast.jobs.estimates import remaining_s
from rowcast.jobs.fields import JobFields
from rowcast.learning import progress as job_progress

Status = Literal["queued", "started", "finished", "failed", "canceled"]
FINAL = frozenset({"finished", "failed", "canceled"})

STATUS_OF_RQ: dict[JobStatus, Status] = {
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
# RQ's words for a job that has ended.
RQ_FINAL = tuple(rq.value for rq, ours in STATUS_OF_RQ.items() if ours in FINAL)
# A job that failed without a record was not ended by its worker.
_UNRECORDED = WorkerLost("The job ended without a record of its own.")
# Members that the records of earlier versions lack.
_DEFAULTS: dict[str, Any] = {
    "earlier": [],
    "priority": "normal",
    "progress": None,
    "eta_s": None,
}
# Members of a stored record that /status does not show.
_HIDDEN = frozenset({"log", "number"})


def status_of(job: JobFields, *, position: int | None = None) -> dict[str, Any]:
    """Describe a job as /status answers it; an ended job is described by its final record."""
    if job.record:
        return shown(job.record)
    status = STATUS_OF_RQ[JobStatus(job.status)]
    return {
        "id": job.id,
        "kind": job.kind,
        "status": status,
        "enqueued_at": job.enqueued,
        "started_at": job.started if status != "queued" else None,
        "ended_at": job.ended if status in FINAL else None,
        # An attempt that only ended the job did not try to run it.
        "attempts": job.attempt - job.closing_attempts,
        "earlier": job.attempt_errors,
        "priority": job.priority,
        "position": position if status == "queued" else None,
        **_prospect(job, is_running=status == "started"),
        "dataset_id": job.dataset_id,
        "model_id": job.model_id,
        "error": _UNRECORDED.cause() if status == "failed" else None,
    }


def _prospect(job: JobFields, *, is_running: bool) -> dict[str, Any]:
    """Return the progress of a running job and the seconds that it still takes, where known."""
    if not is_running:
        return {"progress": None, "eta_s": None}
    progress = job.progress or job_progress.waiting()
    now = time.time()
    elapsed_s = max(0.0, now - (job.started or now))
    expected_s = job.expected_s if job.is_expected else None
    eta_s = remaining_s(expected_s, elapsed_s, progress["percent"])
    return {"progress": progress, "eta_s": eta_s}


def final_record(
    job: JobFields, status: Status, error: dict[str, Any] | None, now: float
) -> dict[str, Any]:
    """Describe a job that ends now, before Redis says so; `now` is the queue's time."""
    record = status_of(job.model_copy(update={"record": None}))
    return {
        **record,
        "status": status,
        "started_at": job.started,
        # Somebody may have set the clock back since.
        "ended_at": max(now, job.enqueued or 0.0, job.started or 0.0),
        "position": None,
        "progress": None,
        "eta_s": None,
        "error": error,
    }


def shown(record: dict[str, Any]) -> dict[str, Any]:
    """Return what /status answers of a final record; the record also keeps the job's log."""
    visible = {name: value for name, value in record.items() if name not in _HIDDEN}
    return {**_DEFAULTS, **visible}
