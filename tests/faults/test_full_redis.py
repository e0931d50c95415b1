"""A Redis at its maxmemory: the service is not ready, workers live, jobs end, and it goes on."""

from __future__ import annotations

from tests.support.stack import StartStack, submitted
from tests.support.tables import slow_table, table
from tests.support.waiting import eventually


def test_a_full_redis_accepts_no_job_and_ends_those_that_it_has(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1, SHORT_WORKERS="0")
    connection = stack.redis()
    dataset = stack.upload(table())
    running = stack.fit(slow_table(), validation="none", params='{"max_iter": 20}')
    eventually(lambda: stack.status(running)["status"] == "started")
    queued = submitted(stack.post("/fit", id=dataset))
    workers = {child.pid for child in stack.part("worker").children()}

    connection.config_set("maxmemory", connection.info("memory")["used_memory"] // 2)
    refused = stack.post("/fit", id=dataset)
    assert (refused.status_code, refused.json()["code"]) == (503, "queue_unavailable")
    assert refused.json()["detail"] == "Redis is full (maxmemory)."
    not_ready = stack.get("/readyz")
    assert not_ready.status_code == 503
    assert "redis: Redis is full: it uses" in not_ready.json()["detail"]
    assert [stack.finished(job)["attempts"] for job in (running, queued)] == [1, 1]
    assert {child.pid for child in stack.part("worker").children()} == workers

    connection.config_set("maxmemory", 512_000_000)
    figures = stack.get("/readyz").json()["redis"]
    assert 0 < figures["used_bytes"] < figures["max_bytes"] == 512_000_000
    stack.finished(submitted(stack.post("/fit", id=dataset)))


def test_workers_that_start_with_a_full_redis_wait(start_stack: StartStack) -> None:
    stack = start_stack(workers=1, SHORT_WORKERS="0")
    dataset = stack.upload(table())
    stack.redis().config_set("maxmemory", "1mb")
    before = stack.part("worker")
    before.kill()
    eventually(lambda: stack.part("worker").pid != before.pid)
    # A worker, maintenance and the signer.
    eventually(lambda: len(stack.part("worker").children()) == 3)
    workers = {child.pid for child in stack.part("worker").children()}

    stack.redis().config_set("maxmemory", "512mb")
    stack.finished(submitted(stack.post("/fit", id=dataset)))
    assert {child.pid for child in stack.part("worker").children()} == workers
    eventually(lambda: stack.redis().smembers("rq:workers"))
