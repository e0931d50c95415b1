"""Hostile tables through HTTP: they cost their own request, and nobody else's."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from tests.faults.breaking import is_alive, kill
from tests.support.http import assert_problem
from tests.support.online import ANN, BOB
from tests.support.processes import has_ended
from tests.support.stack import Stack, StartStack
from tests.support.tables import table
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def guarded(start_stack: StartStack) -> Stack:
    """Return a stack of two owners with the smallest limits of inspections."""
    return start_stack(
        workers=1,
        API_KEYS="ann:ann-key-0001,bob:bob-key-0002",
        INSPECTION_TIMEOUT_S="1",
        INSPECTION_MEMORY_BYTES="50000000",
    )


def as_owner(stack: Stack, headers: dict[str, str]) -> Stack:
    return Stack(stack.process, stack.url, stack.data, headers)


@pytest.fixture(scope="module")
def ann(guarded: Stack) -> Stack:
    return as_owner(guarded, ANN)


@pytest.fixture(scope="module")
def bob(guarded: Stack) -> Stack:
    return as_owner(guarded, BOB)


def web_processes(stack: Stack) -> list[psutil.Process]:
    return list(stack.part("server").children())


def pools(stack: Stack) -> list[psutil.Process]:
    found = [each for process in web_processes(stack) for each in process.children()]
    return [each for each in found if is_alive(each)]


def inspectors(stack: Stack) -> list[psutil.Process]:
    return [each for pool in pools(stack) for each in pool.children()]


def csv_of_digits() -> bytes:
    return b"a,y\n" + b"1" * 20_000 + b"x,1\n"


def sparse_json_lines() -> bytes:
    members = ",".join(f'"k{i}":1' for i in range(9_999))
    return f"{{{members}}}\n".encode() + b"{}\n" * 20_000


def large_footer() -> bytes:
    """Return a Parquet file whose footer has about 30 MB."""
    buffer = io.BytesIO()
    names = [f"c{i}" for i in range(9_999)]
    rows = pa.table({name: pa.array([1.0] * 15) for name in names})
    pq.write_table(rows, buffer, row_group_size=1)
    return buffer.getvalue()


ATTACKS: dict[str, Callable[[], bytes]] = {
    "digits": csv_of_digits,
    "sparse": sparse_json_lines,
    "footer": large_footer,
}


@contextmanager
def attacking(stack: Stack, dataset_id: str) -> Iterator[list[requests.Response]]:
    """Have four callers submit a dataset again and again."""
    is_over = Event()
    answers: list[requests.Response] = []

    def attack() -> None:
        while not is_over.is_set():
            answers.append(stack.post("/fit", id=dataset_id))

    with ThreadPoolExecutor(4) as threads:
        attacks = [threads.submit(attack) for _ in range(4)]
        try:
            yield answers
        finally:
            is_over.set()
        for each in attacks:
            each.result()


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_table_holds_up_nobody_else(
    guarded: Stack, ann: Stack, bob: Stack, attack: str
) -> None:
    hostile_id = ann.upload(ATTACKS[attack]())
    dataset_id = bob.upload(table())
    before = {each: each.memory_info().rss for each in web_processes(guarded)}
    with attacking(ann, hostile_id) as answers:
        eventually(lambda: len(answers) >= 2)
        slowest_s = 0.0
        for _ in range(20):
            started_at = time.monotonic()
            assert guarded.get("/healthz").status_code == 200
            slowest_s = max(slowest_s, time.monotonic() - started_at)
            time.sleep(0.05)
        eventually(lambda: bob.post("/fit", id=dataset_id).status_code == 202)
    assert slowest_s < 1.5
    assert {answer.status_code for answer in answers} <= {202, 422, 429, 503}
    # The same processes answer, and have parsed nothing.
    grown = [each.memory_info().rss - rss for each, rss in before.items()]
    assert max(grown) < 60_000_000


def test_table_that_takes_too_much_memory_is_too_complex(ann: Stack) -> None:
    names = [f"{'n' * 900}_{i}" for i in range(9_999)]
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: pa.array([1.0]) for name in names}), buffer)
    answer = ann.post("/fit", id=ann.upload(buffer.getvalue()), target=names[0])
    problem: dict[str, Any] = assert_problem(answer, 422, "table_too_complex")
    assert problem["hint"]


def test_killed_inspectors_and_pools_are_replaced(guarded: Stack, ann: Stack) -> None:
    dataset_id = ann.upload(table())

    def is_fitted() -> bool:
        return ann.post("/fit", id=dataset_id).status_code == 202

    eventually(lambda: len(inspectors(guarded)) == 4)
    kill(*inspectors(guarded))
    eventually(is_fitted)
    eventually(lambda: len(inspectors(guarded)) == 4)

    killed = [*pools(guarded), *inspectors(guarded)]
    kill(*pools(guarded))
    eventually(lambda: all(map(has_ended, killed)))
    eventually(is_fitted)
    eventually(lambda: len(inspectors(guarded)) >= 2)


def test_pools_end_with_their_server(guarded: Stack, ann: Stack) -> None:
    dataset_id = ann.upload(table())
    eventually(lambda: ann.post("/fit", id=dataset_id).status_code == 202)
    found = [*pools(guarded), *inspectors(guarded)]
    assert found
    kill(*web_processes(guarded))
    eventually(lambda: all(map(has_ended, found)))
    eventually(lambda: ann.post("/fit", id=dataset_id).status_code == 202)
    guarded.stop()
