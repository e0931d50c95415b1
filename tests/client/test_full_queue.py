"""Submissions to a service whose queue is full."""

from __future__ import annotations

import time
from typing import Any

import pytest

import client as module
from client import APIError, Client, WaitTimeoutError
from tests.support.fake_service import D1, DROP, Reply, Server, job, keys_of, queue_full


@pytest.mark.parametrize("timeout", [-1, None, 600])
def test_submission_waits_for_a_place_in_a_full_queue(
    client: Client, service: Server, pauses: list[float], timeout: Any
) -> None:
    service.queued["/fit"] = [queue_full(90)] * 5 + [DROP] + [queue_full(90)] * 5
    assert client.fit(D1, timeout, learner="boosting") == "j1"
    assert pauses[:11] == [90.0] * 5 + [0.5] + [90.0] * 5
    assert len(set(keys_of(service.received("/fit")))) == 1


@pytest.mark.parametrize(("timeout", "retry_after_s"), [(0, 1), (5, 7), (-1, 601)])
def test_full_queue_is_an_error_if_the_next_attempt_would_come_too_late(
    client: Client,
    service: Server,
    monkeypatch: pytest.MonkeyPatch,
    timeout: Any,
    retry_after_s: Any,
) -> None:
    monkeypatch.setattr(module, "_jittered", lambda pause_s: pause_s)
    service.queued["/fit"] = [queue_full(retry_after_s)]
    with pytest.raises(APIError, match="It is queue_full") as raised:
        client.fit(D1, timeout, learner="boosting")
    assert raised.value.code == "queue_full"
    assert raised.value.retry_after_s == retry_after_s
    assert len(service.requests) == 1


@pytest.mark.slow
def test_waiting_for_a_place_counts_towards_the_timeout(
    client: Client, service: Server
) -> None:
    service.queued["/fit"] = [queue_full(1)]
    service.queued["/status"] = [Reply(200, job("started"))] * 99
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError):
        client.fit(D1, timeout=2, learner="boosting")
    assert time.monotonic() - began < 3
