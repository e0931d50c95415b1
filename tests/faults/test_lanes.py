"""The queue in Redis when those who work on it die or are silent, without a worker: calls in any
order."""

from __future__ import annotations

import json
import os
import time

import pytest
import redis

from rowcast.ids import new_id
from rowcast.jobs.queue import MAX_LOG_LINES, Cause, Lanes
from rowcast.workers.lease import Lease
from rowcast.workers.work_horse import Horse

LOST = Cause("worker_lost", "nobody heard of it")
TTL_S = 30


@pytest.fixture
def lanes(connection: redis.Redis) -> Lanes:
    # The first call after a silence calms everybody down; these tests begin in the middle.
    connection.set("rowcast:heard", time.time())
    return Lanes(connection)


def submitted(lanes: Lanes, **fields: str) -> str:
    job_id = new_id()
    all_fields = {
        "kind": "fit",
        "lane": "long",
        "priority": "normal",
        "status": "queued",
        **fields,
    }
    assert lanes.submit(job_id, "ann", all_fields, max_of_owner=9, max_of_all=9) is None
    return job_id


def status(lanes: Lanes, job_id: str) -> str:
    return lanes.fields(job_id)["status"]


def taken(lanes: Lanes, *, begun: bool = True, ttl_s: float = TTL_S) -> tuple[str, int]:
    """Take the next job as a worker does that is never heard of again; return it with its
    attempt."""
    job_id = lanes.take("a worker", ["long", "short"], ttl_s)
    assert job_id
    attempt = int(lanes.fields(job_id)["attempt"])
    assert not begun or lanes.begin(job_id, attempt, ttl_s)
    return job_id, attempt


def given_up(
    lanes: Lanes, job_id: str, attempt: int, max_attempts: int = 3
) -> int | None:
    return lanes.give_up(job_id, attempt, LOST, max_attempts=max_attempts, ttl_s=0)


def test_a_job_whose_worker_died_before_it_began_has_lost_no_attempt(
    lanes: Lanes,
) -> None:
    job_id = submitted(lanes)
    for _ in range(5):
        assert given_up(lanes, *taken(lanes, begun=False)) is None
    assert status(lanes, job_id) == "queued"
    assert "causes" not in lanes.fields(job_id)


def test_the_last_death_makes_one_the_undertaker_and_the_dead_may_do_nothing(
    lanes: Lanes,
) -> None:
    job_id = submitted(lanes)
    assert given_up(lanes, *taken(lanes)) is None
    _, attempt = taken(lanes)
    number = given_up(lanes, job_id, attempt, max_attempts=2)
    assert number == attempt + 1
    assert (
        lanes.settle(job_id, "finished", {}, 60, attempt=attempt, stored=True) == "lost"
    )
    assert not lanes.beat(job_id, attempt, TTL_S)
    assert lanes.settle(job_id, "failed", {}, 60, attempt=number, stored=True) == "ok"


def test_an_undertaker_that_dies_is_followed_by_another_and_told_of_once(
    lanes: Lanes,
) -> None:
    job_id = submitted(lanes)
    first = given_up(lanes, *taken(lanes), max_attempts=1)
    assert first is not None
    assert lanes.expired() == [job_id]
    second = given_up(lanes, job_id, first, max_attempts=1)
    assert second == first + 1
    assert (
        lanes.settle(job_id, "finished", {}, 60, attempt=first, stored=True) == "lost"
    )
    assert [
        json.loads(line)["attempt"]
        for line in lanes.fields(job_id)["causes"].splitlines()
    ] == [1]


def test_after_a_silence_of_all_nobody_is_taken_for_lost_at_once(lanes: Lanes) -> None:
    submitted(lanes)
    job_id, attempt = taken(lanes, ttl_s=0)
    assert lanes.expired() == [job_id]
    # As after an outage of Redis, in which no call came.
    lanes.connection.set("rowcast:heard", time.time() - 10)
    assert lanes.expired() == []
    assert lanes.beat(job_id, attempt, TTL_S)
    lanes.connection.delete("rowcast:quiet")
    assert lanes.expired() == []


@pytest.mark.parametrize("gone", ["rowcast:lane:long:ann", "rowcast:turns:long"])
def test_a_queued_job_that_nobody_would_find_is_put_back(
    lanes: Lanes, gone: str
) -> None:
    job_id = submitted(lanes)
    lanes.connection.delete(gone)
    assert lanes.take("a worker", ["long"], TTL_S) is None
    assert lanes.reconcile() == 1
    assert taken(lanes) == (job_id, 1)
    assert lanes.reconcile() == 0


def test_a_delayed_job_that_nobody_would_find_is_put_back(lanes: Lanes) -> None:
    job_id = submitted(lanes)
    _, attempt = taken(lanes)
    assert lanes.give_back(job_id, attempt, LOST, delay_s=3600, max_wait_s=7200) == "ok"
    lanes.connection.delete("rowcast:later")
    assert lanes.reconcile() == 1
    assert taken(lanes) == (job_id, 2)


def test_a_running_job_that_nobody_would_miss_is_found(lanes: Lanes) -> None:
    job_id = submitted(lanes)
    taken(lanes)
    lanes.connection.delete("rowcast:running")
    assert lanes.expired() == []
    assert lanes.reconcile() == 1
    assert lanes.expired() == [job_id]


@pytest.mark.parametrize(
    ("fit_ends", "becomes"), [("finished", "queued"), ("failed", "deferred")]
)
def test_a_job_whose_fit_forgot_it_is_put_back(
    lanes: Lanes, fit_ends: str, becomes: str
) -> None:
    fit = submitted(lanes)
    job_id = submitted(lanes, kind="predict", waits_for=fit)
    lanes.connection.delete(f"rowcast:waiting:{fit}")
    assert lanes.reconcile() == 1
    lanes.connection.delete(f"rowcast:waiting:{fit}")
    taken(lanes)
    assert lanes.settle(fit, fit_ends, {}, 60, attempt=1, stored=True) == "ok"
    assert lanes.reconcile() == 1
    assert status(lanes, job_id) == becomes
    assert lanes.orphaned() == ([job_id] if becomes == "deferred" else [])


def test_a_job_that_logs_without_end_keeps_its_lease(lanes: Lanes) -> None:
    submitted(lanes)
    job_id, attempt = taken(lanes)
    reader, writer = os.pipe()
    horse = Horse(os.getpid(), reader)
    horse.lines = [f"line {i}" for i in range(20_000)]
    lease = Lease(lanes, job_id, attempt, ttl_s=10)
    assert lease.is_held(horse)
    lease.close(horse)
    for end in (reader, writer):
        os.close(end)
    assert lanes.log(job_id) == [
        f"line {i}" for i in range(20_000 - MAX_LOG_LINES, 20_000)
    ]
