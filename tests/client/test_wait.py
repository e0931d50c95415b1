"""Waiting for the end of a job, also through outages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

import client as module
from client import (
    APIError,
    Client,
    JobCanceledError,
    JobFailedError,
    NotFoundError,
    ServiceUnreachableError,
    WaitTimeoutError,
)
from tests.support.fake_service import D1, DROP, Reply, Request, Server, job, problem


def test_negative_timeout_does_not_wait(client: Client, service: Server) -> None:
    client.fit(D1, learner="boosting")
    client.fit(D1, timeout=-0.5, learner="boosting")
    assert service.received("/status") == []


def test_timeout_none_waits_for_the_end(
    client: Client, service: Server, pauses: list[float]
) -> None:
    service.queued["/status"] = [Reply(200, job("queued")), Reply(200, job("started"))]
    assert client.fit(D1, timeout=None, learner="boosting") == "j1"
    waits = [float(request.query["wait"]) for request in service.received("/status")]
    assert waits == [20, 20, 20]


def test_timeout_0_raises_unless_the_job_has_finished(
    client: Client, service: Server
) -> None:
    assert client.fit(D1, timeout=0, learner="boosting") == "j1"
    service.queued["/status"] = [Reply(200, job("started"))]
    message = "j1 did not end within the timeout: its status is started"
    with pytest.raises(WaitTimeoutError, match=message) as raised:
        client.fit(D1, timeout=0, learner="boosting")
    assert raised.value.job_id == "j1"
    assert isinstance(raised.value, TimeoutError)
    assert len(client.jobs) == 2


def test_wait_ends_at_its_deadline(client: Client, service: Server) -> None:
    service.answer = lambda _request: Reply(200, job("started"))
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError):
        client.wait("j1", timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 2
    assert all(float(request.query["wait"]) <= 0.5 for request in service.requests)


@pytest.mark.slow
def test_wait_ends_soon_after_its_deadline_even_if_the_service_is_silent(
    client: Client, service: Server
) -> None:
    def stay_silent(_request: Request) -> Reply:
        time.sleep(4)
        return DROP

    service.answer = stay_silent
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError, match="timed out") as raised:
        client.wait("j1", timeout=0.2)
    assert time.monotonic() - began < 3.5
    assert isinstance(raised.value.__cause__, ServiceUnreachableError)


def test_wait_returns_the_last_status(client: Client, service: Server) -> None:
    assert client.wait("j1") == job()


def test_wait_asks_again_when_the_service_is_too_busy_to_hold_the_request(
    client: Client, service: Server, pauses: list[float]
) -> None:
    service.queued["/status"] = [Reply(200, job("started"), {"Retry-After": "1"})] * 2
    client.wait("j1")
    assert pauses[:2] == [1.0, 1.0]


def test_wait_survives_an_outage(
    client: Client, service: Server, pauses: list[float]
) -> None:
    busy = problem(503, "queue_unavailable")._replace(headers={"Retry-After": "1"})
    outage = [DROP, Reply(502), busy] * 4
    service.queued["/status"] = [Reply(200, job("queued")), *outage]
    assert client.wait("j1")["status"] == "finished"
    assert len(service.requests) == 14


def test_wait_survives_a_restart_of_the_service(
    serve: Callable[..., Server], free_port: int
) -> None:
    def start() -> None:
        serve(lambda _request: Reply(200, job()), free_port)

    restart = threading.Timer(0.7, start)
    restart.start()
    with Client(f"http://127.0.0.1:{free_port}") as client:
        assert client.wait("j1", timeout=20)["status"] == "finished"
    restart.join()


def test_wait_without_timeout_gives_up_after_a_long_outage(
    client: Client,
    service: Server,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "OUTAGE_S", 0.2)
    service.answer = lambda _request: DROP
    with pytest.raises(ServiceUnreachableError):
        client.wait("j1")


def test_wait_with_timeout_keeps_asking_through_a_longer_outage(
    client: Client,
    service: Server,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "OUTAGE_S", 0.1)
    service.answer = lambda _request: Reply(503)
    with pytest.raises(WaitTimeoutError) as raised:
        client.wait("j1", timeout=0.4)
    assert isinstance(raised.value.__cause__, APIError)


def test_wait_for_an_unknown_job_ends_immediately(
    client: Client, service: Server
) -> None:
    service.queued["/status"] = [problem(404, "job_not_found")]
    with pytest.raises(NotFoundError):
        client.wait("j1", timeout=10)


def test_failed_job_says_why_and_what_to_do(client: Client, service: Server) -> None:
    cause = {
        "code": "invalid_table",
        "detail": "Two columns are unusable",
        "hint": "Drop them.",
        "errors": ["'x' is empty", "'z' is a list"],
    }
    service.queued["/status"] = [Reply(200, job("failed", error=cause))]
    with pytest.raises(JobFailedError) as raised:
        client.fit(D1, timeout=None, learner="boosting")
    error = raised.value
    assert str(error) == (
        "The fit j1 failed: Two columns are unusable. "
        "'x' is empty; 'z' is a list. Drop them."
    )
    assert {name: getattr(error, name) for name in cause} == cause
    assert error.job_id == "j1"


def test_failed_job_without_a_cause_is_a_sentence(
    client: Client, service: Server
) -> None:
    service.queued["/status"] = [Reply(200, job("failed"))]
    with pytest.raises(JobFailedError, match="The fit j1 failed: No reason was given"):
        client.wait("j1")


def test_canceled_job_is_an_error(client: Client, service: Server) -> None:
    service.queued["/status"] = [Reply(200, job("canceled"))]
    with pytest.raises(JobCanceledError, match="The fit j1 was canceled") as raised:
        client.wait("j1")
    assert raised.value.job_id == "j1"
