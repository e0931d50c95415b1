"""One owner floods the service; another one's requests are answered meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest
import requests

from tests.support.online import ANN, BOB, PARQUET, answered, ask, ready, records
from tests.support.stack import Stack, StartStack
from tests.support.tables import parquet, slow_table, table
from tests.support.waiting import eventually

N_STREAMS = 80
ONE = records(table(1, 3))


@pytest.fixture(scope="module")
def shared(start_stack: StartStack) -> Stack:
    """Return a stack with two workers, two online workers, and seats for eight waits."""
    stack = start_stack(
        workers=2,
        SHORT_WORKERS="0",
        SERVER_WORKERS="1",
        SERVER_THREADS="16",
        ONLINE_WORKERS="2",
        ONLINE_MAX_ROWS="10000000",
        ONLINE_MAX_BYTES="100000000",
        API_KEYS="ann:ann-key-0001,bob:bob-key-0002",
        KEY_REQUESTS_PER_MINUTE="0",
        ADDRESS_REQUESTS_PER_MINUTE="0",
    )
    stack.headers = BOB
    return ready(stack)


def as_ann(stack: Stack) -> Stack:
    return Stack(stack.process, stack.url, stack.data, ANN)


@contextmanager
def repeated(call: Callable[[], None], n: int, done: threading.Event) -> Iterator[None]:
    """Make a call in so many threads, until `done`, which is set at the end in any case."""
    with ThreadPoolExecutor(n) as pool:
        for _ in range(n):
            pool.submit(call)
        try:
            yield
        finally:
            done.set()


@contextmanager
def flood(stack: Stack, n: int, **params: str) -> Iterator[None]:
    """Keep so many of ann's requests for /status open, each made again when it has ended."""
    done = threading.Event()

    def repeat() -> None:
        with suppress(requests.RequestException):
            while not done.is_set():
                with requests.get(
                    f"{stack.url}/status",
                    params=params,
                    headers=ANN,
                    stream=True,
                    timeout=20,
                ) as answer:
                    for _ in answer.iter_content(1_000):
                        if done.is_set():
                            return
                done.wait(1)

    with repeated(repeat, n, done):
        time.sleep(2)
        yield


@pytest.mark.parametrize("params", [{"stream": "1"}, {"wait": "5"}])
def test_streams_and_waits_of_one_owner_leave_seats_to_another(
    shared: Stack, params: dict[str, str]
) -> None:
    with ExitStack() as stack:
        stack.enter_context(shared.frozen())
        anns, bobs = (
            as_ann(shared).fit(table(50, 2), learner="boosting"),
            shared.fit(table(50, 2)),
        )
        stack.enter_context(flood(shared, N_STREAMS, id=anns, **params))
        for _ in range(3):
            began = time.monotonic()
            answer = shared.get("/status", id=bobs, wait=1)
            assert answer.json()["status"] == "queued"
            assert "Retry-After" not in answer.headers
            assert 0.9 < time.monotonic() - began < 10


def test_slow_online_predictions_of_one_owner_leave_a_worker_to_another(
    shared: Stack,
) -> None:
    ann = as_ann(shared)
    params = '{"n_estimators": 300}'
    slow = ann.fitted(
        table(2_000, 10), learner="forest", params=params, validation="none"
    )
    model_id = shared.fitted(table(60, 3))
    rows = parquet(table(100_000))
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            ask(ann, slow, rows, PARQUET, PARQUET)

    answered(ask(shared, model_id, ONE))
    with repeated(repeat, 4, done):
        time.sleep(1)
        for _ in range(5):
            answer = ask(shared, model_id, ONE)
            assert answer.status_code == 200, answer.text
            time.sleep(0.5)


def test_jobs_of_one_owner_leave_a_worker_to_another(shared: Stack) -> None:
    ann = as_ann(shared)
    rows = slow_table()
    with shared.frozen():
        anns = [ann.fit(rows, validation="none", learner="boosting") for _ in range(3)]
        bobs = [shared.fit(table(50, 2)) for _ in range(3)]
    for job_id in bobs:
        shared.finished(job_id)
    assert "queued" in {ann.status(job_id)["status"] for job_id in anns}
    for job_id in anns:
        ann.post("/cancel", id=job_id)


def test_many_callers_at_saturation_are_all_served_in_turn(shared: Stack) -> None:
    model_id = shared.fitted(table(60, 3))

    def caller(_: int) -> float:
        began = time.monotonic()
        while (answer := ask(shared, model_id, ONE)).status_code == 503:
            assert time.monotonic() - began < 60
            time.sleep(float(answer.headers["Retry-After"]))
        answered(answer)
        return time.monotonic() - began

    with ThreadPoolExecutor(200) as pool:
        assert max(pool.map(caller, range(200))) < 60
    eventually(lambda: shared.get("/healthz").status_code == 200)
