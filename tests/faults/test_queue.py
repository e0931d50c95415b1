"""The queue in Redis when workers die or send no heartbeats; calls stand in for the workers."""

from __future__ import annotations

import os

import pytest
import redis

from rowcast.ids import new_id
from rowcast.jobs.fields import JobFields
from rowcast.jobs.log import MAX_LINES
from rowcast.jobs.queue import AttemptError, JobQueue
from rowcast.workers.lease import Lease
from rowcast.workers.work_horse import WorkHorse

LOST = AttemptError("worker_lost", "The worker sent no heartbeat.")
TTL_S = 30


@pytest.fixture
def queue(connection: redis.Redis) -> JobQueue:
    return JobQueue(connection)


def submitted(queue: JobQueue, **fields: str) -> str:
    job_id = new_id()
    defaults = {"owner": "ann", "kind": "fit", "lane": "long", "priority": "normal"}
    job = JobFields.model_validate({"id": job_id, **defaults, **fields})
    rq_fields = {"status": "queued"}
    assert queue.submit(job, rq_fields, max_of_all=9, limits={}) is None
    return job_id


def fields_of(queue: JobQueue, job_id: str) -> JobFields:
    job = queue.job(job_id)
    assert job is not None
    return job


def status(queue: JobQueue, job_id: str) -> str:
    return fields_of(queue, job_id).status


def taken(
    queue: JobQueue, *, begun: bool = True, ttl_s: float = TTL_S
) -> tuple[str, int]:
    """Take the next job as a worker that then disappears; return the job and its attempt."""
    job_id = queue.take("a worker", ["long", "short"], ttl_s)
    assert job_id
    attempt = fields_of(queue, job_id).attempt
    assert not begun or queue.confirm_start(job_id, attempt, ttl_s)
    return job_id, attempt


def given_up(
    queue: JobQueue, job_id: str, attempt: int, max_attempts: int = 3
) -> int | None:
    return queue.give_up(job_id, attempt, LOST, max_attempts=max_attempts, ttl_s=0)


def test_a_job_whose_worker_died_before_it_began_has_lost_no_attempt(
    queue: JobQueue,
) -> None:
    job_id = submitted(queue)
    for _ in range(5):
        assert given_up(queue, *taken(queue, begun=False)) is None
    assert status(queue, job_id) == "queued"
    assert fields_of(queue, job_id).attempt_errors == []


def test_after_the_last_crash_only_a_final_attempt_may_end_the_job(
    queue: JobQueue,
) -> None:
    job_id = submitted(queue)
    assert given_up(queue, *taken(queue)) is None
    _, attempt = taken(queue)
    number = given_up(queue, job_id, attempt, max_attempts=2)
    assert number == attempt + 1
    assert (
        queue.finish(job_id, "finished", {}, 60, attempt=attempt, stored=True).outcome
        == "lost"
    )
    assert not queue.renew_lease(job_id, attempt, TTL_S)
    assert (
        queue.finish(job_id, "failed", {}, 60, attempt=number, stored=True).outcome
        == "ok"
    )


def test_a_final_attempt_that_dies_is_followed_by_another_and_reported_once(
    queue: JobQueue,
) -> None:
    job_id = submitted(queue)
    first = given_up(queue, *taken(queue), max_attempts=1)
    assert first is not None
    assert queue.expired() == [job_id]
    second = given_up(queue, job_id, first, max_attempts=1)
    assert second == first + 1
    assert (
        queue.finish(job_id, "finished", {}, 60, attempt=first, stored=True).outcome
        == "lost"
    )
    errors = fields_of(queue, job_id).attempt_errors
    assert [error["attempt"] for error in errors] == [1]


@pytest.mark.parametrize("gone", ["rowcast:lane:long:ann", "rowcast:turns:long"])
def test_a_queued_job_missing_from_its_lane_is_put_back(
    queue: JobQueue, gone: str
) -> None:
    job_id = submitted(queue)
    queue.connection.delete(gone)
    assert queue.take("a worker", ["long"], TTL_S) is None
    assert queue.reconcile() == 1
    assert taken(queue) == (job_id, 1)
    assert queue.reconcile() == 0


def test_a_delayed_job_missing_from_the_schedule_is_put_back(queue: JobQueue) -> None:
    job_id = submitted(queue)
    _, attempt = taken(queue)
    assert queue.requeue(job_id, attempt, LOST, delay_s=3600, max_wait_s=7200) == "ok"
    queue.connection.delete("rowcast:later")
    assert queue.reconcile() == 1
    assert taken(queue) == (job_id, 2)


def test_a_running_job_missing_from_the_leases_is_found(queue: JobQueue) -> None:
    job_id = submitted(queue)
    taken(queue)
    queue.connection.delete("rowcast:running")
    assert queue.expired() == []
    assert queue.reconcile() == 1
    assert queue.expired() == [job_id]


@pytest.mark.parametrize(
    ("fit_ends", "becomes"), [("finished", "queued"), ("failed", "deferred")]
)
def test_a_job_whose_fit_forgot_it_is_put_back(
    queue: JobQueue, fit_ends: str, becomes: str
) -> None:
    fit = submitted(queue)
    job_id = submitted(queue, kind="predict", waits_for=fit)
    queue.connection.delete(f"rowcast:waiting:{fit}")
    assert queue.reconcile() == 1
    queue.connection.delete(f"rowcast:waiting:{fit}")
    taken(queue)
    assert queue.finish(fit, fit_ends, {}, 60, attempt=1, stored=True).outcome == "ok"
    assert queue.reconcile() == 1
    assert status(queue, job_id) == becomes
    assert queue.orphaned() == ([job_id] if becomes == "deferred" else [])


def test_a_job_that_logs_without_end_keeps_its_lease(queue: JobQueue) -> None:
    submitted(queue)
    job_id, attempt = taken(queue)
    reader, writer = os.pipe()
    horse = WorkHorse(os.getpid(), reader)
    horse.lines = [f"line {i}" for i in range(20_000)]
    lease = Lease(queue, job_id, attempt, ttl_s=10)
    assert lease.is_held(horse)
    lease.close(horse)
    for end in (reader, writer):
        os.close(end)
    assert queue.log(job_id) == [f"line {i}" for i in range(20_000 - MAX_LINES, 20_000)]
