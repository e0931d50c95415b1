"""Whose job is next: owners take turns, and none runs more than half while others wait."""

from __future__ import annotations

from collections import Counter

import pytest
import redis

from rowcast.jobs import JobQueue
from tests.support.clocked_queue import ClockedQueue
from tests.support.queued_jobs import (
    LANES,
    TTL_S,
    fields_of,
    owner_of_next,
    submitted,
    taken,
)


@pytest.fixture
def queue(connection: redis.Redis) -> ClockedQueue:
    return ClockedQueue(connection)


def hired(queue: JobQueue, n_workers: int) -> list[str]:
    """Return workers that have asked for a job in vain."""
    workers = [f"worker {number}" for number in range(n_workers)]
    for worker in workers:
        assert queue.take(worker, LANES, TTL_S) is None
    return workers


def submit_jobs(queue: JobQueue, owner: str, n_jobs: int, lane: str = "long") -> None:
    for _ in range(n_jobs):
        submitted(queue, owner, lane=lane)


@pytest.mark.parametrize(("n_workers", "half"), [(2, 1), (3, 1), (4, 2), (5, 2)])
def test_owner_runs_at_most_half_while_another_waits(
    queue: ClockedQueue, n_workers: int, half: int
) -> None:
    workers = hired(queue, n_workers)
    submit_jobs(queue, "ann", 20)
    submit_jobs(queue, "bob", 20)
    # Bob's jobs end immediately, ann's never do.
    running: Counter[str] = Counter()
    for _ in range(20):
        for worker in workers[running["ann"] :]:
            job_id, attempt = taken(queue, worker)
            owner = fields_of(queue, job_id).owner
            if owner == "bob":
                queue.finish(job_id, "finished", {}, 60, attempt=attempt, stored=True)
            running[owner] += owner == "ann"
            if not list(queue.queued("bob", None)):
                return
            assert running["ann"] <= half


def test_owner_takes_all_workers_while_nobody_else_waits(queue: ClockedQueue) -> None:
    workers = hired(queue, 4)
    submit_jobs(queue, "ann", 4)
    assert [owner_of_next(queue, worker) for worker in workers] == ["ann"] * 4


def test_last_worker_is_kept_for_an_owner_that_came_lately(queue: ClockedQueue) -> None:
    first, second, third = hired(queue, 3)
    submit_jobs(queue, "bob", 1)
    job_id, attempt = taken(queue, first)
    queue.finish(job_id, "finished", {}, 60, attempt=attempt, stored=True)
    submit_jobs(queue, "ann", 5)
    assert owner_of_next(queue, first) == "ann"
    assert owner_of_next(queue, second) == "ann"
    assert queue.take(third, LANES, TTL_S) is None
    submit_jobs(queue, "bob", 1)
    assert owner_of_next(queue, third) == "bob"


def test_last_worker_is_not_kept_for_long(queue: ClockedQueue) -> None:
    first, second = hired(queue, 2)
    submit_jobs(queue, "bob", 1)
    job_id, attempt = taken(queue, first)
    queue.finish(job_id, "finished", {}, 60, attempt=attempt, stored=True)
    submit_jobs(queue, "ann", 2)
    assert owner_of_next(queue, first) == "ann"
    assert queue.take(second, LANES, TTL_S) is None
    for _ in range(31):
        queue.pass_time(1)
        queue.take(second, [], TTL_S)
    assert owner_of_next(queue, second) == "ann"


def test_other_lane_counts_as_well(queue: ClockedQueue) -> None:
    workers = hired(queue, 2)
    submit_jobs(queue, "ann", 2)
    submit_jobs(queue, "bob", 1, lane="short")
    assert [owner_of_next(queue, worker) for worker in workers] == ["ann", "bob"]


def test_lane_that_a_worker_does_not_serve_does_not_count(queue: ClockedQueue) -> None:
    first, second = hired(queue, 2)
    submit_jobs(queue, "bob", 1)
    submit_jobs(queue, "ann", 2, lane="short")
    assert queue.take(first, ["short"], TTL_S)
    assert queue.take(second, ["short"], TTL_S)


def test_owners_who_all_run_half_take_turns(queue: ClockedQueue) -> None:
    workers = hired(queue, 3)
    submit_jobs(queue, "ann", 2)
    submit_jobs(queue, "bob", 2)
    owners = [owner_of_next(queue, worker) for worker in workers]
    assert owners == ["ann", "bob", "ann"]


def test_workers_that_died_do_not_count(queue: ClockedQueue) -> None:
    hired(queue, 6)
    queue.pass_time(11)
    workers = [f"new worker {number}" for number in range(2)]
    assert all(queue.take(worker, LANES, TTL_S) is None for worker in workers)
    submit_jobs(queue, "ann", 1)
    assert owner_of_next(queue, workers[0]) == "ann"
    submit_jobs(queue, "ann", 1)
    submit_jobs(queue, "bob", 2)
    assert owner_of_next(queue, workers[1]) == "bob"


def test_job_says_how_many_of_its_owner_wait_behind_it(queue: ClockedQueue) -> None:
    submit_jobs(queue, "ann", 3, lane="short")
    submit_jobs(queue, "bob", 1, lane="short")
    found = [fields_of(queue, taken(queue)[0]) for _ in range(4)]
    behind = [(job.owner, job.queued_behind, job.is_background) for job in found]
    assert sorted(behind) == [
        ("ann", 0, False),
        ("ann", 1, True),
        ("ann", 2, True),
        ("bob", 0, False),
    ]


def test_workers_that_run_long_jobs_count_on(queue: ClockedQueue) -> None:
    workers = hired(queue, 4)
    submit_jobs(queue, "ann", 3)
    job_id, attempt = taken(queue, workers[0])
    for _ in range(30):
        queue.pass_time(1)
        assert queue.renew_lease(job_id, attempt, TTL_S)
        for worker in workers[1:]:
            queue.take(worker, [], TTL_S)
    submit_jobs(queue, "bob", 2)
    assert owner_of_next(queue, workers[1]) == "ann"
    assert owner_of_next(queue, workers[2]) == "bob"
