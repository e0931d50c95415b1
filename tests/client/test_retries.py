"""Repeated requests: after which faults, with which pauses, and with the same key."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import client as module
from client import APIError, Client, RowcastError, ServiceUnreachableError
from tests.support.fake_service import (
    D1,
    DROP,
    Reply,
    Request,
    Server,
    keys_of,
    problem,
)

# Each method that sends a POST, by its path, and its arguments.
SUBMISSIONS: dict[str, list[Any]] = {
    "/upload": [b""],
    "/fit": [D1],
    "/predict": [D1, "j1"],
    "/cancel": ["j1"],
}


@pytest.mark.parametrize(
    "fault", [DROP, Reply(502), Reply(503), Reply(504), Reply(429)]
)
@pytest.mark.parametrize("path", ["/status", "/upload"])
def test_request_is_repeated_with_growing_pauses(
    client: Client, service: Server, pauses: list[float], path: Any, fault: Any
) -> None:
    service.queued[path] = [fault] * 3
    if path == "/upload":
        client.upload(b"")
    else:
        client.status("j1")
    assert len(service.received(path)) == 4
    assert pauses == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500])
def test_other_error_answers_are_not_repeated(
    client: Client, service: Server, pauses: list[float], status: Any
) -> None:
    service.queued["/status"] = [Reply(status)]
    with pytest.raises(APIError) as raised:
        client.status("j1")
    assert raised.value.status == status
    assert pauses == []


def test_last_fault_is_raised(
    client: Client, service: Server, pauses: list[float]
) -> None:
    service.queued["/status"] = [problem(503, "queue_unavailable")] * 4
    with pytest.raises(APIError, match="It is queue_unavailable") as raised:
        client.status("j1")
    assert raised.value.status == 503
    assert len(service.requests) == 4


def test_silent_service_is_unreachable_after_all_attempts(
    service: Server, pauses: list[float]
) -> None:
    def stay_silent(_request: Request) -> Reply:
        time.sleep(0.3)
        return DROP

    service.queued["/status"] = [stay_silent] * 4
    with (
        Client(service.url, timeout_s=0.1) as client,
        pytest.raises(ServiceUnreachableError) as raised,
    ):
        client.status("j1")
    assert str(raised.value) == (
        f"No answer from {service.url}: timed out. It may have received the request."
    )
    assert len(pauses) == 3


@pytest.mark.parametrize(
    "fault",
    [DROP, Reply(502), problem(503, "queue_unavailable"), Reply(504), Reply(429)],
)
@pytest.mark.parametrize("path", SUBMISSIONS)
def test_post_is_repeated_with_the_same_key(
    client: Client, service: Server, pauses: list[float], path: Any, fault: Any
) -> None:
    service.queued[path] = [fault] * 3
    getattr(client, path[1:])(*SUBMISSIONS[path])
    keys = keys_of(service.received(path))
    assert len(keys) == 4
    assert len(set(keys)) == 1
    assert re.fullmatch("[0-9a-f]{32}", str(keys[0]))
    assert len(client.jobs) == (path in ("/fit", "/predict"))


def test_every_post_has_a_new_key_and_other_requests_have_none(
    client: Client, service: Server
) -> None:
    for _ in range(2):
        for path, arguments in SUBMISSIONS.items():
            getattr(client, path[1:])(*arguments)
    assert len(set(keys_of(service.requests))) == 8
    service.requests.clear()
    client.status("j1")
    service.queued["/models/j1"] = [Reply(204)]
    client.delete("j1")
    assert keys_of(service.requests) == [None, None]


@pytest.mark.parametrize("fault", [Reply(500), problem(409, "idempotency_conflict")])
def test_rejected_submission_is_not_repeated(
    client: Client, service: Server, pauses: list[float], fault: Any
) -> None:
    service.queued["/fit"] = [fault]
    with pytest.raises(APIError):
        client.fit(D1, learner="boosting")
    assert len(service.requests) == 1
    assert client.jobs == []


def test_job_is_submitted_again_after_a_failed_connection(
    serve: Callable[..., Server], free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_during_pause(_pause_s: float) -> float:
        serve(lambda _request: Reply(202, {"id": "j1"}), free_port)
        return 0.0

    monkeypatch.setattr(module, "_jittered", start_during_pause)
    with Client(f"http://127.0.0.1:{free_port}") as client:
        assert client.fit(D1, learner="boosting") == "j1"


def test_unreachable_service_is_named(free_port: int, pauses: list[float]) -> None:
    url = f"http://user:password@127.0.0.1:{free_port}"
    with Client(url) as client, pytest.raises(ServiceUnreachableError) as raised:
        client.status("j1")
    assert str(raised.value) == (
        f"No answer from http://127.0.0.1:{free_port}: Connection refused. "
        "Is the address right, and is the service running?"
    )
    assert not raised.value.sent


def test_unreachable_service_is_explained_inside_another_handler(
    client: Client, service: Server, pauses: list[float]
) -> None:
    service.queued["/fit"] = [DROP] * 4
    try:
        Path("/nowhere/at/all").stat()
    except OSError:
        reason = "closed connection without response"
        with pytest.raises(ServiceUnreachableError, match=reason):
            client.fit(D1, learner="boosting")


def test_retry_after_is_obeyed(
    client: Client, service: Server, pauses: list[float]
) -> None:
    service.queued["/status"] = [Reply(503, headers={"Retry-After": "7"})]
    client.status("j1")
    assert pauses == [7.0]


def test_retry_after_of_more_than_a_minute_is_an_error(
    client: Client, service: Server, pauses: list[float]
) -> None:
    service.queued["/status"] = [Reply(429, headers={"Retry-After": "3600"})]
    with pytest.raises(APIError) as raised:
        client.status("j1")
    assert raised.value.retry_after_s == 3600
    assert pauses == []


def test_pauses_of_an_outage_of_hours_stay_short() -> None:
    assert module._pause_s(5000, ServiceUnreachableError()) <= 15


def test_jitter_only_lengthens_pauses() -> None:
    pauses = {module._jittered(2.0) for _ in range(200)}
    assert len(pauses) > 100
    assert 2.0 <= min(pauses) < max(pauses) <= 3.0


@pytest.mark.parametrize("fault", [DROP, Reply(502)])
def test_deletion_that_may_have_happened_is_not_repeated(
    client: Client, service: Server, pauses: list[float], fault: Any
) -> None:
    service.queued["/models/x1"] = [fault]
    with pytest.raises(RowcastError):
        client.delete("x1")
    assert len(service.requests) == 1
