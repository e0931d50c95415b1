"""The final status arrives, and no receiver delays another: real receivers, a real Redis."""

from __future__ import annotations

import http.server
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from rowcast.errors import StoreUnavailable
from rowcast.webhooks import delivery, outbox
from tests.support.receiver import Receiver, answering
from tests.support.waiting import eventually
from tests.support.webhooks import NOW, deliver, due, enqueued, settings, status


def test_final_status_is_posted(connection: redis.Redis, receiver: Receiver) -> None:
    job_id = enqueued(connection, receiver.url)
    assert deliver(connection) == 1
    ((path, headers, body),) = receiver.requests
    assert path == "/hook?token=of-the-receiver"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == status("acme", job_id)


@pytest.mark.parametrize("code", [200, 202, 204, 299, 410])
def test_answer_that_ends_the_tries(
    code: int, connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(code)
    enqueued(connection, receiver.url)
    deliver(connection)
    assert due(connection) is None


@pytest.mark.parametrize("code", [300, 304, 400, 401, 404, 429, 500, 503])
def test_answer_that_is_tried_again(
    code: int, connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(code)
    enqueued(connection, receiver.url)
    deliver(connection)
    assert NOW + 4 <= (due(connection) or 0) < NOW + 7


def test_redirect_is_not_followed(
    connection: redis.Redis, start_receiver: Callable[[], Receiver]
) -> None:
    first, second = start_receiver(), start_receiver()
    first.answer = answering(307, Location=second.url)
    enqueued(connection, first.url)
    deliver(connection)
    assert (len(first.requests), second.requests) == (1, [])
    assert due(connection)


def test_refused_connection_is_tried_again(
    connection: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    enqueued(connection, f"http://127.0.0.1:{port}/")
    deliver(connection)
    assert due(connection)
    assert "ConnectionRefusedError; again in" in caplog.text


def test_webhook_waits_while_the_status_cannot_be_read(
    connection: redis.Redis, receiver: Receiver
) -> None:
    def unreadable(owner: str, job_id: str) -> dict[str, Any]:
        raise StoreUnavailable

    enqueued(connection, receiver.url)
    assert delivery.deliver_next(connection, settings(), unreadable, NOW)
    assert receiver.requests == []
    assert deliver(connection, NOW + 60) == 1
    assert len(receiver.requests) == 1


def test_status_of_a_deleted_job_is_not_sent(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    assert delivery.deliver_next(
        connection, settings(), lambda owner, job_id: None, NOW
    )
    assert receiver.requests == []
    assert connection.keys() == []


@pytest.fixture
def threads(connection: redis.Redis) -> Iterator[list[threading.Thread]]:
    stopped = threading.Event()
    threads = delivery.start(connection, settings(), status, stopped)
    yield threads
    stopped.set()
    for thread in threads:
        thread.join(20)


def test_receiver_that_hangs_does_not_delay_another(
    connection: redis.Redis,
    start_receiver: Callable[[], Receiver],
    threads: list[threading.Thread],
) -> None:
    hanging, good = start_receiver(), start_receiver()
    is_over = threading.Event()
    hanging.answer = lambda handler: is_over.wait(30)
    enqueued(connection, hanging.url, time.time())
    eventually(lambda: hanging.requests)
    enqueued(connection, good.url, time.time())
    eventually(lambda: good.requests, timeout_s=5)
    assert due(connection)
    is_over.set()


def test_many_webhooks_to_a_receiver_that_hangs_do_not_delay_another(
    connection: redis.Redis,
    start_receiver: Callable[[], Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging, good = start_receiver(), start_receiver()
    is_over = threading.Event()
    hanging.answer = lambda handler: is_over.wait(60)
    monkeypatch.setattr(delivery, "EXCHANGE_S", 1.0)
    monkeypatch.setattr(delivery, "SLOW_S", 0.5)
    monkeypatch.setattr(delivery, "REST_FACTOR", 60.0)
    for _ in range(20 * delivery.N_THREADS):
        enqueued(connection, hanging.url, time.time())
    stopped = threading.Event()
    threads = delivery.start(connection, settings(), status, stopped)
    eventually(lambda: len(hanging.requests) >= delivery.N_THREADS)
    # Without a rest for the receiver, the threads would hang for 20 s.
    enqueued(connection, good.url, time.time(), owner="other")
    eventually(lambda: good.requests, timeout_s=8)
    is_over.set()
    stopped.set()
    for thread in threads:
        thread.join(20)


def test_threads_survive_an_unexpected_error(
    connection: redis.Redis, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(owner: str, job_id: str) -> dict[str, Any]:
        calls.append(job_id)
        if len(calls) == 1:
            raise ZeroDivisionError
        return status(owner, job_id)

    calls: list[str] = []
    enqueued(connection, receiver.url, time.time())
    stopped = threading.Event()
    threads = delivery.start(connection, settings(), broken, stopped)
    eventually(lambda: calls)
    enqueued(connection, receiver.url, time.time())
    eventually(lambda: receiver.requests)
    stopped.set()
    for thread in threads:
        thread.join(20)
    assert "a webhook could not be sent" in caplog.text


@pytest.mark.parametrize(
    ("start", "is_delivered"),
    [
        (b"HTTP/1.", False),
        (b"HTTP/1.1 200 OK\r\nX: ", False),
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
    ],
)
def test_answer_that_drips_is_cut_off(
    start: bytes,
    is_delivered: bool,
    connection: redis.Redis,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(start)
        with suppress(OSError):
            while not is_over.wait(0.05):
                handler.wfile.write(b"1")

    is_over = threading.Event()
    monkeypatch.setattr(delivery, "EXCHANGE_S", 0.5)
    receiver.answer = drip
    enqueued(connection, receiver.url)
    started_at = time.monotonic()
    deliver(connection)
    is_over.set()
    assert time.monotonic() - started_at < 3
    assert bool(due(connection)) is not is_delivered
    assert ("failed, TimeoutError" in caplog.text) is not is_delivered


def test_long_answer_is_not_read(connection: redis.Redis, receiver: Receiver) -> None:
    def pour(handler: http.server.BaseHTTPRequestHandler) -> None:
        answering(200)(handler)
        with suppress(OSError):
            for _ in range(200):
                handler.wfile.write(b"x" * 1_000_000)
                poured.append(1_000_000)

    poured: list[int] = []
    receiver.answer = pour
    enqueued(connection, receiver.url)
    deliver(connection)
    assert due(connection) is None
    assert sum(poured) < 50_000_000


def test_delivery_takes_less_than_its_lease() -> None:
    longest_s = delivery.PREPARE_S + 2 * delivery.CONNECT_S + delivery.EXCHANGE_S
    assert longest_s < outbox.LEASE_S


def test_log_shows_the_host_of_a_url_and_nothing_else(
    connection: redis.Redis, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    enqueued(connection, receiver.url)
    deliver(connection)
    receiver.answer = answering(500)
    enqueued(connection, receiver.url)
    deliver(connection)
    assert "webhook to 127.0.0.1, try 1: answered 204" in caplog.text
    assert "webhook to 127.0.0.1, try 1: answered 500; again in" in caplog.text
    assert "hook?" not in caplog.text
    assert "token" not in caplog.text
