"""A real service behind a proxy that loses answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from client import Client
from tests.support.lossy_proxy import LossyProxy
from tests.support.stack import Stack
from tests.support.tables import table as numbers


@pytest.fixture
def losing(stack: Stack) -> Iterator[LossyProxy]:
    with LossyProxy(stack.url) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


@pytest.fixture
def behind(losing: LossyProxy) -> Iterator[Client]:
    with Client(losing.url) as connected:
        yield connected


def test_job_whose_answer_was_lost_is_submitted_once(
    behind: Client, losing: LossyProxy, live: Client, pauses: list[float]
) -> None:
    dataset_id = live.upload(numbers(50, 2))
    losing.to_lose = {"POST /fit": 2, "POST /predict": 1}
    model_id = behind.fit(dataset_id, validation="none")
    result_id = behind.predict(dataset_id, model_id)
    assert losing.passed_on == ["POST /fit"] * 3 + ["POST /predict"] * 2
    assert [each["id"] for each in live.list_jobs(dataset_id=dataset_id)] == [
        result_id,
        model_id,
    ]
    assert behind.wait(result_id)["model_id"] == model_id


def test_cancel_whose_answer_was_lost_is_not_a_conflict(
    behind: Client, losing: LossyProxy, stack: Stack, pauses: list[float]
) -> None:
    with stack.frozen():
        job_id = behind.fit(numbers(50, 2))
        losing.to_lose = {"POST /cancel": 1}
        assert behind.cancel(job_id)["status"] == "canceled"
        assert losing.passed_on[-2:] == ["POST /cancel"] * 2
