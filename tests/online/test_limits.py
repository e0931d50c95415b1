"""The limits of online predictions, of owners too, and a service without online workers."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pandas as pd
import pytest
import requests

from tests.faults.breaking import stopped
from tests.support.online import (
    ANN,
    BOB,
    BODIES,
    CSV,
    answered,
    ask,
    csv,
    ready,
    records,
    refused,
)
from tests.support.stack import Stack, StartStack
from tests.support.tables import table
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def small(start_stack: StartStack) -> Stack:
    """Return a stack of two owners that takes and keeps little; requests are ann's."""
    stack = start_stack(
        workers=1,
        ONLINE_WORKERS="1",
        ONLINE_MAX_ROWS="100",
        ONLINE_MAX_BYTES="20000",
        ONLINE_CACHE_BYTES="700000",
        API_KEYS="ann:ann-key-0001,bob:bob-key-0002",
    )
    stack.headers = ANN
    return ready(stack)


@pytest.fixture(scope="module")
def anns(small: Stack) -> str:
    return small.fitted(table(60, 3), learner="linear", validation="none")


@pytest.mark.parametrize("body", ["records", "lines", "csv", "parquet", "stream"])
def test_too_many_rows_are_413_and_say_what_to_do(
    small: Stack, anns: str, body: str
) -> None:
    kind, write = BODIES[body]
    rows = pd.DataFrame({f"col_{i}": [0] * 101 for i in range(3)})
    assert len(answered(ask(small, anns, write(rows[:100]), kind))) == 100
    problem = refused(ask(small, anns, write(rows), kind), 413, "request_too_large")
    assert "100 rows" in problem["detail"]
    assert "job" in problem["hint"]


def test_too_many_bytes_are_413_with_or_without_a_length(
    small: Stack, anns: str
) -> None:
    body = csv(table(90, 3)) + b" " * 20_000
    for sent in (body, iter([body[:9_000], body[9_000:]])):
        problem = refused(ask(small, anns, sent, CSV), 413, "request_too_large")
        assert "20,000 bytes" in problem["detail"]
    assert len(answered(ask(small, anns, iter([csv(table(90, 3))]), CSV))) == 90


def test_packed_text_may_not_unpack_to_much_more(small: Stack, anns: str) -> None:
    body = gzip.compress(csv(table(90, 3)) + b"\n" * 10_000_000)
    assert len(body) < 20_000
    refused(ask(small, anns, body, CSV), 422, "invalid_table")


def test_model_of_another_owner_is_404(small: Stack, anns: str) -> None:
    answered(ask(small, anns, records(table(2, 3))))
    url, body = f"{small.url}/predict?model_id={anns}", json.loads(records(table(2, 3)))
    refused(
        requests.post(url, json=body, headers=BOB, timeout=40), 404, "model_not_found"
    )
    refused(requests.post(url, json=body, timeout=40), 401, "unauthorized")


def test_model_that_is_too_large_is_413_and_others_are_answered_all_the_same(
    small: Stack, anns: str
) -> None:
    rows = table(200, 3)
    large = small.fitted(
        rows,
        learner="forest",
        params='{"n_estimators": 400, "bootstrap": false}',
        validation="none",
    )
    assert small.get(f"/models/{large}").json()["file"]["size"] > 700_000
    problem = refused(ask(small, large, records(rows[:2])), 413, "model_too_large")
    assert "ONLINE_CACHE_BYTES" in problem["hint"]
    others = [
        small.fitted(rows, seed=i, validation="none", params='{"max_iter": 30}')
        for i in range(4)
    ]
    expected = [
        small.result(small.predict(rows[:9], model_id))["y"].tolist()
        for model_id in others
    ]
    for model_id, labels in itertools.chain.from_iterable(
        zip(others, expected, strict=True) for _ in "12"
    ):
        assert [
            row["y"] for row in answered(ask(small, model_id, records(rows[:9])))
        ] == labels


def test_without_online_workers_there_is_a_503_at_once(small: Stack, anns: str) -> None:
    tree = small.part("online")
    with stopped(tree):
        for worker in tree.children():
            worker.kill()
        gone = Path(small.data, "online", "socket")
        gone.rename(gone.with_name("aside"))
        answer = ask(small, anns, records(table(2, 3)))
        refused(answer, 503, "no_online_worker")
        assert answer.headers["Retry-After"] == "1"
        gone.with_name("aside").rename(gone)
    eventually(lambda: ask(small, anns, records(table(2, 3))).status_code == 200)
