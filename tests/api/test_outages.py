"""What a caller gets while a part behind the service is away: a 503, in time. See also
tests/faults."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
import requests

from tests.support.stack import Stack, StartStack
from tests.support.tables import table
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def fragile(start_stack: StartStack) -> Stack:
    """Return a stack whose parts these tests stop and kill."""
    return start_stack()


@contextmanager
def paused(process: psutil.Process) -> Iterator[None]:
    """Stop a part: it accepts connections and never answers, which is worse than being down."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def timed(
    stack: Stack, method: str, path: str, **params: str
) -> tuple[float, requests.Response]:
    started = time.monotonic()
    answer = requests.request(method, stack.url + path, params=params, timeout=20)
    return time.monotonic() - started, answer


def test_a_store_that_hangs_is_a_503_in_time_and_readyz_names_it(
    fragile: Stack,
) -> None:
    dataset = fragile.upload(table())
    with paused(fragile.part("store")):
        took_s, answer = timed(fragile, "POST", "/fit", id=dataset)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert took_s < 4
        took_s, answer = timed(fragile, "GET", "/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        (problem,) = answer.json()["errors"]
        assert problem.startswith("store: The object store does not answer")
        assert took_s < 4
        assert timed(fragile, "GET", "/healthz")[1].status_code == 200
    fragile.finished(
        str(eventually(lambda: fragile.post("/fit", id=dataset).json()["id"]))
    )


def test_many_uploads_beside_a_store_that_hangs_are_all_answered_in_time(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1)
    with paused(stack.part("store")), ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: timed(stack, "GET", "/upload"), range(24)))
    assert max(took_s for took_s, _ in answers) < 5
    assert {answer.status_code for _, answer in answers} <= {200, 503}
    stack.stop()


def test_a_redis_that_hangs_is_a_503_in_time_and_readyz_names_it(
    fragile: Stack,
) -> None:
    dataset = fragile.upload(table())
    with paused(fragile.part("redis")):
        took_s, answer = timed(fragile, "POST", "/fit", id=dataset)
        assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
        assert took_s < 4
        took_s, answer = timed(fragile, "GET", "/status", id=dataset, wait="20")
        assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
        assert took_s < 4
        took_s, answer = timed(fragile, "GET", "/readyz")
        (problem,) = answer.json()["errors"]
        assert problem.startswith("redis: Redis does not answer")
    eventually(lambda: fragile.get("/readyz").status_code == 200)
    fragile.finished(fragile.fit(table()))
