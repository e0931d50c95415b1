"""A Redis at its maxmemory: it accepts no job, ends those that it has, and forgets what it may."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from rowcast.errors import QueueUnavailable
from rowcast.ids import new_id
from rowcast.jobs import JobFields, JobQueue, redis_memory
from rowcast.jobs.queue import our_errors

KEPT = {"rq:job:running": -1, "rowcast:idempotency:ann:key": 86_400}
FORGOTTEN = {
    "rq:job:ended": 3_600,
    "rq:results:ended": 3_600,
    "rowcast:log:ended": 3_600,
    "rowcast:digest:ann:x": 2_592_000,
    "rowcast:content:ann:x": 2_592_000,
    "rowcast:reuse:ann:x": 2_592_000,
}


@pytest.fixture
def full(connection: redis.Redis) -> Iterator[redis.Redis]:
    """Return a connection to a Redis that is full at the end of the `with` of `filled`."""
    yield connection
    connection.config_set("maxmemory", 0)


def fill(connection: redis.Redis) -> None:
    used_bytes = redis_memory.of(connection).used_bytes
    connection.config_set("maxmemory", used_bytes - 1)


def submit(queue: JobQueue) -> str:
    job = JobFields(id=new_id(), owner="ann", kind="fit")
    with our_errors():
        assert queue.submit(job, {}, limits={}, max_of_all=10) is None
    return job.id


def test_full_redis_ends_its_jobs_and_accepts_no_other(full: redis.Redis) -> None:
    queue = JobQueue(full)
    jobs = [submit(queue) for _ in range(2)]
    fill(full)
    with pytest.raises(QueueUnavailable, match=r"Redis is full \(maxmemory\)"):
        submit(queue)
    for job_id in jobs:
        assert queue.take("worker", ["long"], 10) == job_id
        assert queue.confirm_start(job_id, 1, 10)
        assert queue.renew_lease(job_id, 1, 10, "{}", ["a line"])
        record = {"status": "finished"}
        ending = queue.finish(job_id, "finished", record, 60, attempt=1, stored=True)
        assert ending.outcome == "ok"
    full.config_set("maxmemory", 0)
    submit(queue)


def test_full_redis_is_named_with_its_figures(full: redis.Redis) -> None:
    redis_memory.of(full).check()
    fill(full)
    memory = redis_memory.of(full)
    assert memory.is_nearly_full
    with pytest.raises(QueueUnavailable, match=r"Redis is full: it uses [0-9,]+ of"):
        memory.check()


def test_only_what_may_be_forgotten_goes_soon(connection: redis.Redis) -> None:
    for name, ttl_s in {**KEPT, **FORGOTTEN}.items():
        connection.set(name, "x", ex=ttl_s if ttl_s > 0 else None)
    assert redis_memory.relieve(connection) == len(FORGOTTEN)
    for name, ttl_s in KEPT.items():
        assert connection.ttl(name) == ttl_s
    for name in FORGOTTEN:
        assert 0 < connection.ttl(name) <= redis_memory.SOON_S
    assert redis_memory.relieve(connection) == 0
