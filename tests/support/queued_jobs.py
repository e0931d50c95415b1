"""Jobs that a test puts into the queue and takes from it, in the place of server and workers."""

from __future__ import annotations

from rowcast.ids import new_id
from rowcast.jobs.estimates import Lane
from rowcast.jobs.fields import JobFields
from rowcast.jobs.queue import AttemptError, JobQueue

LOST = AttemptError("worker_lost", "The worker sent no heartbeat.")
TTL_S = 10.0
LANES: tuple[Lane, ...] = ("long", "short")


def submitted(queue: JobQueue, owner: str = "ann", **fields: str) -> str:
    job_id = new_id()
    values = {"id": job_id, "owner": owner, "kind": "fit", "lane": "long", **fields}
    job = JobFields.model_validate(values)
    assert queue.submit(job, {"status": "queued"}, max_of_all=9_999, limits={}) is None
    return job_id


def taken(
    queue: JobQueue, worker: str = "a worker", ttl_s: float = TTL_S
) -> tuple[str, int]:
    """Take the next job as a worker that then disappears; return the job and its attempt."""
    job_id = queue.take(worker, LANES, ttl_s)
    assert job_id
    attempt = fields_of(queue, job_id).attempt
    assert queue.confirm_start(job_id, attempt, ttl_s)
    return job_id, attempt


def fields_of(queue: JobQueue, job_id: str) -> JobFields:
    job = queue.job(job_id)
    assert job is not None
    return job


def owner_of_next(queue: JobQueue, worker: str) -> str:
    """Return whose job a worker takes."""
    job_id, _ = taken(queue, worker)
    return fields_of(queue, job_id).owner
