"""What a thread reads of a body: all of a small one that is there, and nothing of any other."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from gunicorn.config import Config

from rowcast.api.connections import SMALL_BODY_BYTES, BodyAwaited, Connection

BODY = b'{"id": "1"}'


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, Connection]]:
    """Return a caller's end of a connection, and the server's."""
    caller, accepted = socket.socketpair()
    with caller:
        connection = Connection(Config(), accepted, ("127.0.0.1", 1), ("127.0.0.1", 2))
        yield caller, connection
        connection.close()


def start_request(sockets: tuple[socket.socket, Connection], framing: str) -> None:
    """Send the head of a request, and have it parsed."""
    caller, connection = sockets
    caller.sendall(f"POST /fit HTTP/1.1\r\n{framing}\r\n\r\n".encode())
    connection.receive(10_000)
    connection.hand_over()
    next(connection.parser)


def test_small_body_behind_the_head_is_read_immediately(
    sockets: tuple[socket.socket, Connection],
) -> None:
    caller, connection = sockets
    start_request(sockets, f"Content-Length: {len(BODY)}")
    caller.sendall(BODY + b"GET /next")
    connection.parser.await_body("ann", len(BODY))
    assert connection.parser.mesg.body.read() == BODY
    assert connection.sock.recv(100) == b"GET /next"


def test_first_part_of_a_small_body_is_kept(
    sockets: tuple[socket.socket, Connection],
) -> None:
    caller, connection = sockets
    start_request(sockets, f"Content-Length: {len(BODY)}")
    caller.sendall(BODY[:5])
    with pytest.raises(BodyAwaited) as raised:
        connection.parser.await_body("ann", len(BODY))
    connection.begin_body(raised.value)
    caller.sendall(BODY[5:])
    connection.receive(100)
    assert connection.body_has_arrived()
    assert connection.received == BODY


@pytest.mark.parametrize(
    "framing",
    [f"Content-Length: {SMALL_BODY_BYTES + 1}", "Transfer-Encoding: chunked"],
)
def test_other_bodies_are_left_to_the_main_loop(
    sockets: tuple[socket.socket, Connection], framing: str
) -> None:
    caller, connection = sockets
    start_request(sockets, framing)
    caller.sendall(BODY)
    with pytest.raises(BodyAwaited):
        connection.parser.await_body("ann", 1_000_000)
    assert connection.sock.recv(100) == BODY


def test_caller_that_has_gone_is_left_to_the_main_loop(
    sockets: tuple[socket.socket, Connection],
) -> None:
    caller, connection = sockets
    start_request(sockets, f"Content-Length: {len(BODY)}")
    caller.close()
    with pytest.raises(BodyAwaited):
        connection.parser.await_body("ann", len(BODY))
    assert connection.receive(100) == 0
