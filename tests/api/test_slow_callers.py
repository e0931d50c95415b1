"""Callers that send or read slowly keep no thread: others are answered at once."""

from __future__ import annotations

import json
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests

from rowcast.api.connections import chunks_end
from tests.support.callers import answer_of, connected
from tests.support.http import UNKNOWN, assert_problem
from tests.support.stack import Stack, StartStack

KEY = "a-long-key-of-ann"
OTHER_KEY = "a-long-key-of-bob"
AUTHORIZED = f"Host: localhost\r\nAuthorization: Bearer {KEY}\r\n"
BODY = json.dumps({"id": UNKNOWN}).encode()
HEAD_OF_POST = (
    f"POST /fit HTTP/1.1\r\n{AUTHORIZED}Content-Type: application/json\r\n".encode()
)
# One owner's bodies get 64 MB of a server process.
N_BODIES_OF_AN_OWNER = 12
# Before, each caller held one of the four threads for 10 s or more.
AT_ONCE_S = 5.0


@pytest.fixture(scope="module")
def guarded(start_stack: StartStack) -> Stack:
    """Return a stack with few threads and with keys."""
    stack = start_stack(
        workers=1,
        SERVER_WORKERS="1",
        SERVER_THREADS="4",
        API_KEYS=f"ann:{KEY},bob:{OTHER_KEY}",
        KEY_REQUESTS_PER_MINUTE="6000",
    )
    stack.headers = {"Authorization": f"Bearer {KEY}"}
    return stack


def assert_others_are_answered(stack: Stack) -> None:
    for path, status in (("/healthz", 200), ("/status?id=" + UNKNOWN, 404)):
        answer = requests.get(
            stack.url + path, headers=stack.headers, timeout=AT_ONCE_S
        )
        assert answer.status_code == status


@contextmanager
def dripping(connections: list[socket.socket], pause_s: float) -> Iterator[None]:
    """Send a byte on each connection now and then."""
    is_over = threading.Event()

    def drip() -> None:
        while not is_over.wait(pause_s):
            for connection in connections:
                try:
                    connection.send(b"x")
                except OSError:
                    continue

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("n_callers", [70, 300])
def test_slow_heads_keep_nobody_out(guarded: Stack, n_callers: int) -> None:
    with connected(guarded, n_callers) as slow:
        for connection in slow:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        with dripping(slow, 0.3):
            time.sleep(0.4)
            assert_others_are_answered(guarded)


def test_heads_and_bodies_have_ten_seconds_however_steadily_they_drip(
    guarded: Stack,
) -> None:
    with connected(guarded, 2) as slow:
        slow[0].sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        slow[1].sendall(HEAD_OF_POST + b"Content-Length: 500000\r\n\r\n")
        with dripping(slow, 0.5):
            answers = [answer_of(connection) for connection in slow]
    found = [(status, body["code"]) for status, _, body in answers]
    assert found == [(408, "request_timeout")] * 2


def test_idle_connections_give_way_to_new_ones(guarded: Stack) -> None:
    # Gunicorn accepts nobody beyond a thousand.
    with connected(guarded, 1100):
        assert_others_are_answered(guarded)


def test_connections_that_are_never_closed_keep_nobody_out(guarded: Stack) -> None:
    with connected(guarded, 20) as rude:
        for connection in rude:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        for connection in rude:
            assert connection.recv(12) == b"HTTP/1.1 200"
        # Gunicorn waits 2 s for each in its main loop.
        assert_others_are_answered(guarded)


def test_a_body_without_a_valid_key_is_not_awaited(guarded: Stack) -> None:
    with connected(guarded, 1) as callers:
        callers[0].sendall(
            b"POST /predict HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 5000000\r\n"
            b"Host: localhost\r\n\r\n"
        )
        status, headers, body = answer_of(callers[0])
    assert (status, body["code"]) == (401, "unauthorized")
    assert headers["connection"] == "close"


@pytest.mark.parametrize(
    ("line", "kind", "status"),
    [
        ("POST /nothing HTTP/1.1", "application/json", 404),
        ("POST /status HTTP/1.1", "application/json", 405),
        ("POST /fit HTTP/1.1", "text/csv", 415),
        ("POST /fit HTTP/1.1", "application/json", 413),
    ],
)
def test_a_body_that_no_route_reads_is_not_awaited(
    guarded: Stack, line: str, kind: str, status: int
) -> None:
    head = (
        f"{line}\r\n{AUTHORIZED}Content-Type: {kind}\r\nContent-Length: 3000000\r\n\r\n"
    )
    with connected(guarded, 1) as callers:
        callers[0].sendall(head.encode())
        assert answer_of(callers[0])[0] == status


def test_slow_bodies_keep_nobody_out(guarded: Stack) -> None:
    head = f"POST /predict?model_id={UNKNOWN} HTTP/1.1\r\n{AUTHORIZED}Content-Type: text/csv\r\n"
    with connected(guarded, N_BODIES_OF_AN_OWNER + 2) as slow:
        for connection in slow:
            connection.sendall(head.encode() + b"Content-Length: 5000000\r\n\r\na,b\n")
        time.sleep(0.3)
        assert_others_are_answered(guarded)
        # The server may take them up in another order than that of their connections.
        answered, _, _ = select.select(slow, [], [], 5)
        status, headers, body = answer_of(answered[0])
        other = requests.post(
            f"{guarded.url}/predict?model_id={UNKNOWN}",
            data=b"a,b\n" * 1_000_000,
            headers={
                "Authorization": f"Bearer {OTHER_KEY}",
                "Content-Type": "text/csv",
            },
            timeout=20,
        )
    assert (status, body["code"], headers["retry-after"]) == (503, "server_busy", "1")
    # It would have been predicted, did the stack have online workers.
    assert_problem(other, 503, "no_online_worker")


def test_callers_that_do_not_read_keep_nobody_out(guarded: Stack) -> None:
    script = "/docs/swagger/js/swagger-ui-bundle.js"
    length = len(requests.get(guarded.url + script, timeout=20).content)
    assert length > 500_000
    with connected(guarded, 12, receive_buffer=4096) as slow:
        for connection in slow:
            # The system keeps one of them for its caller, and not eight.
            request = f"GET {script} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.sendall(request.encode() * 8)
        assert_others_are_answered(guarded)
        taken = sum(len(piece) for piece in pieces(slow[0], length))
    assert taken >= length


def pieces(connection: socket.socket, n_bytes: int) -> Iterator[bytes]:
    while n_bytes > 0:
        piece = connection.recv(1 << 20)
        assert piece
        n_bytes -= len(piece)
        yield piece


@pytest.mark.parametrize("authorization", [KEY, "wrong"])
def test_a_body_is_asked_for_only_with_a_valid_key(
    guarded: Stack, authorization: str
) -> None:
    head = HEAD_OF_POST.replace(KEY.encode(), authorization.encode())
    with connected(guarded, 1) as callers:
        callers[0].sendall(
            head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        )
        first = callers[0].recv(4096)
        if authorization != KEY:
            assert first.startswith(b"HTTP/1.1 401 ")
            return
        assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
        callers[0].sendall(BODY)
        assert answer_of(callers[0])[2]["code"] == "dataset_not_found"


def as_length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def as_chunks(body: bytes) -> bytes:
    parts = body[:7], body[7:]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX: y\r\n\r\n"


@pytest.mark.parametrize("framed", [as_length, as_chunks])
def test_requests_in_pieces_and_one_behind_another_are_answered(
    guarded: Stack, framed: Callable[[bytes], bytes]
) -> None:
    request = HEAD_OF_POST + framed(BODY)
    with connected(guarded, 1) as callers:
        data = request * 3
        for start in range(0, len(data), 40):
            callers[0].sendall(data[start : start + 40])
            time.sleep(0.005)
        codes = [answer_of(callers[0])[2]["code"] for _ in range(3)]
    assert codes == ["dataset_not_found"] * 3


def test_a_request_whose_body_comes_later_is_counted_once(guarded: Stack) -> None:
    request = HEAD_OF_POST + as_length(BODY)
    left = []
    with connected(guarded, 1) as callers:
        for n_first in (len(request), len(request) - 5, len(request)):
            callers[0].sendall(request[:n_first])
            time.sleep(0.1)
            callers[0].sendall(request[n_first:])
            limits = answer_of(callers[0])[1]["ratelimit"]
            left.append(int(re.search(r'"key";r=(\d+)', limits)[1]))  # type: ignore[index]
    assert left[0] - left[1] == left[1] - left[2] == 1


def test_a_connection_of_http_1_0_is_closed_after_its_answer(guarded: Stack) -> None:
    with connected(guarded, 1) as callers:
        callers[0].sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert answer_of(callers[0])[2] == {"status": "ok"}
        assert callers[0].recv(1) == b""


def test_a_body_that_breaks_off_is_never_taken_for_a_whole_one(guarded: Stack) -> None:
    with connected(guarded, 1) as callers:
        callers[0].sendall(HEAD_OF_POST + b"Content-Length: 500\r\n\r\n" + BODY)
        callers[0].shutdown(socket.SHUT_WR)
        assert callers[0].recv(1) == b""


def test_a_server_that_stops_does_not_wait_for_idle_callers(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1, SERVER_WORKERS="1", SERVER_THREADS="4")
    with connected(stack, 3) as idle:
        idle[0].sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert answer_of(idle[0])[0] == 200
        started_at = time.monotonic()
        stack.stop()
    # Gunicorn would give them its 35 s.
    assert time.monotonic() - started_at < 20


@pytest.mark.parametrize(
    ("data", "is_over"),
    [
        (b"", False),
        (b"5", False),
        (b"5\r\nhello\r\n", False),
        (b"5\r\nhello\r\n0\r\n", False),
        (b"5\r\nhello\r\n0\r\n\r\n", True),
        (b"5;name=value\r\nhello\r\n0\r\nA: b\r\n\r\n", True),
        (b"5\r\n0\r\n\r\n", False),
        (b"-5\r\nhello\r\n", True),
        (b"0x5\r\nhello\r\n", True),
        (b"5" * 200, True),
    ],
)
def test_the_end_of_chunks_is_found(data: bytes, is_over: bool) -> None:
    assert chunks_end(data, 0)[0] is is_over
