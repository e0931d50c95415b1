"""Online workers: models that are missing or changed, and workers that are killed or too slow."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import requests

from rowcast.online import protocol
from rowcast.store import documents
from tests.faults.breaking import stopped
from tests.support.online import (
    ONE,
    PARQUET,
    UNKNOWN,
    answered,
    ask,
    online_workers,
    ready,
    records,
    refused,
)
from tests.support.stack import Stack, StartStack
from tests.support.tables import parquet, table
from tests.support.waiting import eventually

# Models that are not there, or not what they were


@pytest.fixture(scope="module")
def rough(start_stack: StartStack) -> Stack:
    """Return a stack whose parts are stopped and killed; it accepts large, slow tables."""
    return ready(
        start_stack(
            workers=1,
            ONLINE_WORKERS="2",
            ONLINE_MAX_ROWS="10000000",
            ONLINE_MAX_BYTES="100000000",
            ONLINE_MEMORY_BYTES="600000000",
        )
    )


@pytest.fixture(scope="module")
def forest(rough: Stack) -> str:
    """Return a model that takes seconds for many rows."""
    params = '{"n_estimators": 300}'
    return rough.fitted(
        table(2_000, 10), learner="forest", params=params, validation="none"
    )


def test_unknown_model_is_404(rough: Stack) -> None:
    refused(ask(rough, UNKNOWN, ONE), 404, "model_not_found")


def test_model_that_is_being_fitted_is_409_and_then_answers(rough: Stack) -> None:
    with rough.frozen():
        model_id = rough.fit(table())
        refused(ask(rough, model_id, ONE), 409, "model_not_ready")
    rough.finished(model_id)
    answered(ask(rough, model_id, ONE))


def test_model_whose_fit_failed_is_409_and_says_why(rough: Stack) -> None:
    model_id = rough.fit(table(50).assign(col_0=np.inf))
    assert rough.wait(model_id)["status"] == "failed"
    assert "infinite" in str(
        refused(ask(rough, model_id, ONE), 409, "model_failed")["errors"]
    )


@pytest.mark.parametrize("name", ["model.joblib", "manifest.json"])
def test_model_that_somebody_changed_is_untrusted_each_time(
    rough: Stack, name: str
) -> None:
    model_id, storage = rough.fitted(table()), rough.storage()
    content = storage.read("models", "default", model_id, f"1/{name}")
    changed = content + b"."
    if name == "manifest.json":
        manifest = documents.parsed(content, name)
        changed = documents.as_json({**manifest, "target": "z"})
    storage.write("models", "default", model_id, f"1/{name}", changed)
    for _ in range(3):
        refused(ask(rough, model_id, ONE), 409, "model_untrusted")


def test_deleted_model_is_immediately_404_from_all_workers(rough: Stack) -> None:
    model_id = rough.fitted(table())
    for _ in range(8):
        answered(ask(rough, model_id, ONE))
    assert rough.process.poll() is None
    assert (
        requests.delete(f"{rough.url}/models/{model_id}", timeout=40).status_code == 204
    )
    for _ in range(8):
        refused(ask(rough, model_id, ONE), 404, "model_not_found")


def test_deleted_model_is_404_although_redis_is_away(rough: Stack) -> None:
    model_id, kept = rough.fitted(table()), rough.fitted(table())
    for _ in range(8):
        answered(ask(rough, model_id, ONE))
    with stopped(rough.part("redis")):
        # The deletion cannot end without Redis, but it has begun.
        refused(
            requests.delete(f"{rough.url}/models/{model_id}", timeout=40),
            503,
            "queue_unavailable",
        )
        for _ in range(4):
            refused(ask(rough, model_id, ONE), 404, "model_not_found")
        answered(ask(rough, kept, ONE))
    eventually(lambda: rough.get("/readyz").status_code == 200)


# Workers that die


@contextmanager
def at_work(
    stack: Stack, model_id: str
) -> Iterator[tuple[psutil.Process, Future[requests.Response]]]:
    """Yield the worker that computes a long answer, and the request."""
    before = {worker: worker.cpu_times().user for worker in online_workers(stack)}
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(
            ask, stack, model_id, parquet(table(200_000)), PARQUET, PARQUET
        )
        yield (
            eventually(
                lambda: next(
                    (w for w, s in before.items() if w.cpu_times().user > s + 0.3), None
                )
            ),
            request,
        )


def is_replaced(
    stack: Stack, worker: psutil.Process, others: list[psutil.Process]
) -> bool:
    """Return whether another worker runs in place of this one, and the others are the same."""
    found = online_workers(stack)
    return (
        worker not in found
        and len(found) == len(others) + 1
        and set(others) <= set(found)
    )


def test_killed_worker_fails_its_question_alone_and_is_restarted(
    rough: Stack, forest: str
) -> None:
    parent = rough.part("online")
    with at_work(rough, forest) as (worker, request):
        others = [other for other in online_workers(rough) if other != worker]
        worker.kill()
        refused(request.result(), 500, "online_worker_lost")
        for _ in range(3):
            answered(ask(rough, forest, ONE))
    eventually(lambda: is_replaced(rough, worker, others))
    assert rough.part("online") == parent
    assert not list((rough.data / "scratch").glob(f"*{worker.pid}*"))
    for _ in range(8):
        answered(ask(rough, forest, ONE))


def test_busy_worker_does_not_delay_the_other(rough: Stack, forest: str) -> None:
    with at_work(rough, forest) as (worker, request), stopped(worker):
        for _ in range(5):
            answered(ask(rough, forest, ONE))
        worker.resume()
        assert request.result().status_code == 200


def test_when_no_worker_is_free_there_is_a_503_after_some_seconds(
    rough: Stack, forest: str
) -> None:
    with stopped(*online_workers(rough)):
        started = time.monotonic()
        answer = ask(rough, forest, ONE)
        refused(answer, 503, "no_online_worker")
        assert 4 < time.monotonic() - started < 25
        assert answer.headers["Retry-After"] == "1"
    answered(ask(rough, forest, ONE))


def test_worker_that_takes_too_much_memory_is_replaced(
    rough: Stack, forest: str
) -> None:
    before = online_workers(rough)
    body = (
        b"["
        + b",".join([json.dumps({f"col_{i}": i for i in range(10)}).encode()] * 700_000)
        + b"]"
    )
    refused(ask(rough, forest, body), 500, "online_worker_lost")
    eventually(
        lambda: (
            len(online_workers(rough)) == 2
            and len(set(online_workers(rough)) & set(before)) == 1
        )
    )
    assert "Killing the online worker" in (rough.data / "test.log").read_text()
    answered(ask(rough, forest, ONE))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_end_of_the_pool_leaves_no_process_and_the_stack_restarts_it(
    rough: Stack, forest: str, end: signal.Signals
) -> None:
    answered(ask(rough, forest, ONE))
    parent, workers = rough.part("online"), online_workers(rough)
    parent.send_signal(end)
    gone, alive = psutil.wait_procs([parent, *workers], timeout=20)
    assert (len(gone), alive) == (3, [])
    eventually(lambda: ask(rough, forest, ONE).status_code == 200)
    assert rough.part("online") != parent


def test_worker_that_is_told_to_stop_answers_its_question_first(
    rough: Stack, forest: str
) -> None:
    parent = rough.part("online")
    with at_work(rough, forest) as (_, request):
        parent.terminate()
        assert request.result().status_code == 200
    eventually(lambda: ask(rough, forest, ONE).status_code == 200)


def test_worker_that_takes_too_long_is_ended_and_replaced(
    start_stack: StartStack,
) -> None:
    stack = start_stack(
        workers=1, ONLINE_WORKERS="1", ONLINE_TIMEOUT_S="1", ONLINE_MAX_ROWS="10000000"
    )
    model_id = ready(stack).fitted(table(60, 3))
    (worker,) = online_workers(stack)
    path = str(stack.data / "online" / "socket")
    # The worker waits for a question that never comes.
    with protocol._connected(path, 30) as connection:
        connection.send_bytes(b'{"owner": "ann"}')
        assert b"accepted" in connection.recv_bytes()
        assert connection.poll(20)
        with pytest.raises((EOFError, OSError)):
            connection.recv_bytes()
    eventually(lambda: is_replaced(stack, worker, []))
    assert "takes longer than its limit" in (stack.data / "test.log").read_text()
    eventually(lambda: ask(stack, model_id, records(table(1, 3))).status_code == 200)
    stack.stop()
