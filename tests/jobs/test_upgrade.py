"""Jobs that an older version has queued or ended are this version's as well.

What is written here into a real Redis is, word for word, what older versions wrote. It must stay as
it is when the queue changes: the older version does not change with it.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis
import rq

from rowcast.ids import new_id
from rowcast.jobs import AttemptError, JobFields, JobQueue
from tests.support.stack import Stack
from tests.support.tables import table
from tests.support.waiting import eventually

FIT_OPTIONS = {
    "target": "y",
    "task": "auto",
    "learner": "boosting",
    "params": {},
    "seed": 0,
    "class_weight": None,
    "sample_weight": None,
    "validation": "auto",
    "identifiers": "leave_out",
    "importance_s": None,
}
PREDICT_OPTIONS = {
    "output": "labels",
    "quantiles": [0.05, 0.5, 0.95],
    "keep": [],
    "format": "parquet",
}
# A worker that was told to stop put its job back to the queue, with the number of its attempts.
REQUEUED = {"attempts": 1}


def enqueue(
    stack: Stack, kind: str, job_id: str, arguments: dict[str, Any], **meta: Any
) -> None:
    """Put a job into the queue as version 0.1 did, before jobs had lanes and priorities."""
    rq.Queue("rowcast", connection=stack.redis(), serializer="json").enqueue_call(
        {"fit": "ml.fit", "predict": "ml.predict"}[kind],
        kwargs=arguments,
        job_id=job_id,
        timeout=3600,
        result_ttl=3600,
        failure_ttl=3600,
        retry=rq.Retry(max=2),
        description=kind,
        meta={
            "owner": "default",
            "kind": kind,
            "request_id": "0123456789abcdef",
            **meta,
        },
    )


def noted(stack: Stack, dataset_id: str) -> dict[str, Any]:
    version = stack.storage().version("datasets", "default", dataset_id, "data")
    return {"size": version.size, "tag": version.tag}


@pytest.mark.parametrize("meta", [{}, REQUEUED], ids=["new", "requeued"])
def test_a_fit_that_the_old_version_queued_runs(
    stack: Stack, meta: dict[str, Any]
) -> None:
    dataset_id, job_id = stack.upload(table(200, 3)), new_id()
    options = {**FIT_OPTIONS, "dataset": noted(stack, dataset_id)}
    arguments = {"dataset_id": dataset_id, "model_id": job_id, "options": options}
    enqueue(stack, "fit", job_id, arguments, **meta)
    status = stack.finished(job_id)
    assert status["attempts"] == meta.get("attempts", 0) + 1
    assert (status["kind"], status["dataset_id"]) == ("fit", dataset_id)
    assert stack.get(f"/models/{job_id}").json()["n_rows"] == 200


def test_a_prediction_that_the_old_version_queued_runs(
    stack: Stack, model_id: str
) -> None:
    dataset_id, job_id = stack.upload(table(30)), new_id()
    options = {**PREDICT_OPTIONS, "dataset": noted(stack, dataset_id)}
    arguments = {
        "dataset_id": dataset_id,
        "model_id": model_id,
        "result_id": job_id,
        "options": options,
    }
    enqueue(stack, "predict", job_id, arguments)
    assert len(stack.result(job_id)) == 30


def test_jobs_that_wait_while_the_workers_are_changed_run_in_their_order(
    stack: Stack,
) -> None:
    dataset_id = stack.upload(table(50, 2))
    options = {**FIT_OPTIONS, "dataset": noted(stack, dataset_id), "validation": "none"}
    jobs = [new_id() for _ in range(4)]
    with stack.frozen():
        for job_id in jobs:
            enqueue(
                stack,
                "fit",
                job_id,
                {"dataset_id": dataset_id, "model_id": job_id, "options": options},
            )
        eventually(lambda: stack.status(jobs[0])["status"] == "queued")
    started = [stack.finished(job_id)["started_at"] for job_id in jobs]
    # Two workers may take two neighbors at the same time.
    assert started == pytest.approx(sorted(started), abs=0.5)


def test_a_job_that_the_old_version_ended_keeps_its_status(stack: Stack) -> None:
    """Redis may still know the job, with its record in RQ's meta data; the store has it in any
    case."""
    job_id, dataset_id = new_id(), new_id()
    record = {
        "id": job_id,
        "kind": "fit",
        "status": "failed",
        "enqueued_at": time.time() - 10,
        "started_at": time.time() - 9,
        "ended_at": time.time() - 8,
        "attempts": 3,
        "position": None,
        "dataset_id": dataset_id,
        "model_id": job_id,
        "error": {
            "code": "worker_lost",
            "detail": "The job's process died, 3 times in all.",
            "hint": "",
            "errors": [],
        },
    }
    stack.storage().write(
        "models",
        "default",
        job_id,
        "record/3.json",
        json.dumps(record, indent=1).encode(),
    )
    before = stack.status(job_id)
    job = rq.job.Job.create(
        "ml.fit",
        kwargs={"dataset_id": dataset_id, "model_id": job_id, "options": {}},
        id=job_id,
        connection=stack.redis(),
        serializer="json",
        status=rq.job.JobStatus.FAILED,
        meta={
            "owner": "default",
            "kind": "fit",
            "request_id": "r",
            "attempts": 3,
            "record": record,
        },
    )
    job.save()
    after = stack.status(job_id)
    stack.redis().delete(job.key)
    assert (
        {name: before[name] for name in record}
        == {name: after[name] for name in record}
        == record
    )


# What the version before this one wrote: some fields of a job's hash had other names.


LAST_VERSION = {
    "rank": "100000000000001",
    "causes": json.dumps(
        {
            "attempt": 1,
            "code": "worker_lost",
            "detail": "The job's process died.",
            "at": 1.0,
        }
    ),
    "begun": "1",
    "deaths": "1",
    "attempt": "1",
    "work": '["fit", "boosting", 200, 3, 1.0]',
}


def as_last_version(connection: redis.Redis, job_id: str, **fields: str) -> None:
    """Make a queued job's hash what the last version left when it queued the job again."""
    key = f"rq:job:{job_id}"
    connection.hdel(key, "queue_score")
    mapping: dict[Any, Any] = {**LAST_VERSION, **fields}
    connection.hset(key, mapping=mapping)


def test_a_fit_that_the_last_version_queued_again_runs_and_keeps_its_history(
    stack: Stack,
) -> None:
    with stack.frozen():
        job_id = stack.fit(table(200, 3), validation="none")
        as_last_version(stack.redis(), job_id)
        (earlier,) = stack.status(job_id)["earlier"]
        assert earlier["code"] == "worker_lost"
    status = stack.finished(job_id)
    assert (status["attempts"], len(status["earlier"])) == (2, 1)


def test_crashes_that_the_last_version_counted_count(
    connection: redis.Redis,
) -> None:
    queue = JobQueue(connection)
    job = JobFields(id=new_id(), owner="ann", kind="fit")
    queue.submit(job, {"status": "queued"}, max_of_all=9, limits={})
    as_last_version(connection, job.id)
    assert queue.take("a worker", ["long"], 60) == job.id
    assert queue.confirm_start(job.id, 2, 60)
    lost = AttemptError("worker_lost", "The job's process died.")
    assert queue.give_up(job.id, 2, lost, max_attempts=2, ttl_s=60) == 3
    found = queue.job(job.id)
    assert found is not None
    assert found.crashes == 2
    assert [error["attempt"] for error in found.attempt_errors] == [1, 2]


def test_a_job_that_the_last_version_queued_keeps_its_place(
    connection: redis.Redis,
) -> None:
    queue = JobQueue(connection)
    jobs = [JobFields(id=new_id(), owner="ann", kind="fit") for _ in range(2)]
    for job in jobs:
        queue.submit(job, {"status": "queued"}, max_of_all=9, limits={})
    as_last_version(connection, jobs[0].id)
    assert queue.take("a worker", ["long"], 60) == jobs[0].id
    stopped = AttemptError("worker_stopped", "The worker was told to stop.")
    assert queue.requeue(jobs[0].id, 2, stopped) == "ok"
    assert queue.take("a worker", ["long"], 60) == jobs[0].id


# Workers of both versions run side by side while the workers are changed.


def submitted(queue: JobQueue) -> str:
    job = JobFields(id=new_id(), owner="ann", kind="fit")
    queue.submit(job, {"status": "queued"}, max_of_all=9, limits={})
    return job.id


LOST = AttemptError("worker_lost", "The job's process died.")


def test_crash_of_an_old_worker_counts_after_an_attempt_of_a_new_one(
    connection: redis.Redis,
) -> None:
    queue = JobQueue(connection)
    job_id = submitted(queue)
    assert queue.take("a new worker", ["long"], 60) == job_id
    assert queue.confirm_start(job_id, 1, 60)
    assert queue.requeue(job_id, 1, LOST) == "ok"
    assert queue.take("an old worker", ["long"], 60) == job_id
    # The script of the last version knows only this name.
    connection.hset(f"rq:job:{job_id}", "begun", "2")
    assert queue.give_up(job_id, 2, LOST, max_attempts=1, ttl_s=60) == 3


def test_an_old_worker_sees_what_a_new_one_has_noted(connection: redis.Redis) -> None:
    queue = JobQueue(connection)
    job_id = submitted(queue)
    assert queue.take("a new worker", ["long"], 60) == job_id
    assert queue.confirm_start(job_id, 1, 60)
    assert queue.give_up(job_id, 1, LOST, max_attempts=3, ttl_s=60) is None
    old_names: Any = connection.hmget(
        f"rq:job:{job_id}", "rank", "begun", "deaths", "causes"
    )
    assert all(old_names)
    assert old_names[1:3] == [b"1", b"1"]
