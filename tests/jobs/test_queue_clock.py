"""The queue when Redis' time is set forward or back, and when Redis was away."""

from __future__ import annotations

import pytest
import redis

from rowcast.jobs import Jobs, completion
from rowcast.jobs.status import status_of
from rowcast.store import Storage
from tests.support.clocked_queue import ClockedQueue
from tests.support.queued_jobs import LOST, TTL_S, fields_of, submitted, taken
from tests.support.stack import Stack

HOUR_S = 3600.0


@pytest.fixture
def queue(connection: redis.Redis) -> ClockedQueue:
    return ClockedQueue(connection)


def seconds_until_lost(queue: ClockedQueue) -> float:
    """Return how long it takes until the only running job counts as lost."""
    began = queue.now
    while not queue.expired():
        queue.pass_time(0.5)
        assert queue.now < began + HOUR_S, "a dead worker is not noticed"
    return queue.now - began


@pytest.mark.parametrize("jump_s", [-HOUR_S, -4.0, -0.5, 0.5, 4.0, HOUR_S])
def test_dead_worker_is_noticed_in_time_although_the_time_was_set(
    queue: ClockedQueue, jump_s: float
) -> None:
    submitted(queue)
    queue.pass_time(60)
    taken(queue)
    queue.set_time(queue.now + jump_s)
    assert TTL_S - 1 <= seconds_until_lost(queue) <= TTL_S + 7


def test_dead_worker_is_noticed_as_usual_after_the_time_was_put_right(
    queue: ClockedQueue,
) -> None:
    queue.set_time(queue.now + HOUR_S)
    queue.pass_time(60)
    queue.set_time(queue.now - HOUR_S)
    queue.pass_time(60)
    submitted(queue)
    taken(queue)
    assert seconds_until_lost(queue) == pytest.approx(TTL_S, abs=1)


@pytest.mark.parametrize("jump_s", [-HOUR_S, 10.0, HOUR_S])
def test_living_worker_keeps_its_job_although_the_time_was_set_or_redis_was_away(
    queue: ClockedQueue, jump_s: float
) -> None:
    submitted(queue)
    job_id, attempt = taken(queue)
    queue.pass_time(TTL_S - 1)
    queue.set_time(queue.now + jump_s)
    queue.pass_time(5)
    assert queue.expired() == []
    assert queue.renew_lease(job_id, attempt, TTL_S)
    queue.pass_time(TTL_S - 1)
    assert queue.expired() == []


def test_leases_end_although_nobody_calls_often(queue: ClockedQueue) -> None:
    submitted(queue)
    taken(queue)
    n_calls = 0
    while not queue.expired():
        queue.set_time(queue.now + 5)
        n_calls += 1
        assert n_calls < 100


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_delayed_job_is_due_in_time_although_the_time_was_set(
    queue: ClockedQueue, jump_s: float
) -> None:
    submitted(queue)
    job_id, attempt = taken(queue)
    assert queue.requeue(job_id, attempt, LOST, delay_s=20, max_wait_s=60) == "ok"
    queue.set_time(queue.now + jump_s)
    queue.pass_time(15)
    assert queue.take("a worker", ["long"], TTL_S) is None
    queue.pass_time(15)
    assert taken(queue) == (job_id, attempt + 1)


def test_times_of_a_job_are_in_order_although_the_time_was_set_back(
    queue: ClockedQueue, stack: Stack
) -> None:
    job_id = submitted(queue)
    queue.set_time(queue.now - HOUR_S)
    _, attempt = taken(queue)
    queue.set_time(queue.now - HOUR_S)
    job = fields_of(queue, job_id)
    storage = stack.storage()
    record = completion.end(queue, storage, job, "failed", attempt=attempt)
    assert record is not None
    assert record["enqueued_at"] <= record["started_at"] <= record["ended_at"]
    assert status_of(fields_of(queue, job_id)) == Jobs(
        queue.connection, stack.settings(), storage
    ).status("ann", job_id)
    assert fields_of(queue, job_id).ended == record["ended_at"]


def test_all_times_of_a_job_are_those_of_redis(
    queue: ClockedQueue, stack: Stack
) -> None:
    queue.set_time(1.0e9)
    job_id = submitted(queue)
    _, attempt = taken(queue)
    assert queue.requeue(job_id, attempt, LOST) == "ok"
    _, attempt = taken(queue)
    queue.set_time(queue.now + 7)
    away = Storage(stack.settings(s3_endpoint="http://127.0.0.1:9"))
    record = completion.cancel(queue, away, fields_of(queue, job_id))
    assert record is not None
    assert record["started_at"] == 1.0e9
    assert record["ended_at"] == 1.0e9 + 7
    assert [error["at"] for error in record["earlier"]] == [1.0e9]


def test_orphaned_job_that_is_canceled_stands_nowhere(queue: ClockedQueue) -> None:
    fit = submitted(queue)
    waiting = submitted(queue, kind="predict", waits_for=fit)
    for job_id in (fit, waiting):
        queue.finish(job_id, "canceled", {}, 60, attempt=None, stored=True)
    assert queue.orphaned() == []
