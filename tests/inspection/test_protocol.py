"""The socket between server and inspector: what arrives, and inspectors that die or go wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import pytest

from rowcast.errors import InvalidTable
from rowcast.inspection import limits, protocol
from rowcast.inspection.protocol import Check, Findings, InspectorLost, Question
from rowcast.system import messages

CONTENT = bytes(range(100))
QUESTION = Question(100, {"max_rows": 7}, Check.fit("price", None), "request-1")
FOUND = {"type": "found", "found": {"n_rows": 1, "n_columns": 2, "target": "y"}}


def read(offset: int, length: int) -> bytes:
    return CONTENT[offset : offset + length]


@pytest.fixture
def connections() -> Iterator[tuple[Connection, Connection]]:
    """Return the two ends of a connection: that of the server and that of the inspector."""
    ours, theirs = (messages.connection_of(end, 5) for end in socket.socketpair())
    with ours, theirs:
        yield ours, theirs


def asked(
    connections: tuple[Connection, Connection],
    inspect: Callable[[Connection], Any],
    limit_s: float = 5,
    read: protocol.Read = read,
) -> Findings:
    """Ask the question of an inspector that runs in a thread."""
    ours, theirs = connections

    def run() -> None:
        inspect(theirs)
        theirs.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        return protocol.ask(ours, QUESTION, read, limit_s)
    finally:
        ours.close()
        thread.join()


def sending(message: Any) -> Callable[[Connection], None]:
    def inspect(connection: Connection) -> None:
        protocol.receive_question(connection)
        with suppress(OSError):
            messages.send(connection, message)

    return inspect


def test_question_and_parts_arrive_and_the_findings_come_back(
    connections: tuple[Connection, Connection],
) -> None:
    seen: list[Any] = []

    def inspect(connection: Connection) -> None:
        seen.append(protocol.receive_question(connection))
        seen.append(protocol.ask_for_part(connection, 10, 5))
        protocol.send_outcome(connection, Findings(3, 4, "price"))

    assert asked(connections, inspect) == Findings(3, 4, "price")
    assert seen == [QUESTION, CONTENT[10:15]]


def test_server_raises_the_error_that_the_inspector_sent(
    connections: tuple[Connection, Connection],
) -> None:
    error = InvalidTable("Wrong.", hint="Do this.", errors=["a", "b"])
    with pytest.raises(InvalidTable) as raised:
        asked(connections, sending({"type": "error", "error": error.cause()}))
    assert raised.value.cause() == error.cause()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "read", "offset": -1, "length": 5},
        {"type": "read", "offset": 0, "length": 0},
        {"type": "read", "offset": 90, "length": 11},
        {"type": "read", "offset": "all", "length": 5},
        {"type": "read"},
        {"type": "found", "found": {"n_rows": "many", "n_columns": 2, "target": "y"}},
        {"type": "error", "error": "none"},
        {"type": "found", "found": {"target": "y" * limits.MAX_ANSWER_BYTES}},
        {},
        [],
        None,
    ],
)
def test_what_no_inspector_sends_counts_as_lost(
    connections: tuple[Connection, Connection], message: Any
) -> None:
    with pytest.raises(InspectorLost):
        asked(connections, sending(message), 1)


def test_inspector_that_asks_for_ever_counts_as_lost(
    connections: tuple[Connection, Connection],
) -> None:
    n_parts = 0

    def inspect(connection: Connection) -> None:
        nonlocal n_parts
        protocol.receive_question(connection)
        with suppress(EOFError, OSError):
            while protocol.ask_for_part(connection, 0, 100):
                n_parts += 1

    with pytest.raises(InspectorLost):
        asked(connections, inspect)
    assert n_parts <= limits.MAX_PARTS + 1


def test_inspector_that_dies_or_is_silent_counts_as_lost(
    connections: tuple[Connection, Connection],
) -> None:
    started_at = time.monotonic()
    with pytest.raises(InspectorLost):
        asked(connections, protocol.receive_question)
    assert time.monotonic() < started_at + 4


def test_time_that_the_store_takes_does_not_count(
    connections: tuple[Connection, Connection],
) -> None:
    def slow_read(offset: int, length: int) -> bytes:
        time.sleep(0.6)
        return read(offset, length)

    def inspect(connection: Connection) -> None:
        protocol.receive_question(connection)
        protocol.ask_for_part(connection, 0, 5)
        messages.send(connection, FOUND)

    assert asked(connections, inspect, 0.5, slow_read) == Findings(1, 2, "y")


def test_error_of_the_store_passes(connections: tuple[Connection, Connection]) -> None:
    class StoreError(Exception):
        pass

    def failing_read(offset: int, length: int) -> bytes:
        raise StoreError

    with pytest.raises(StoreError):
        asked(
            connections,
            sending({"type": "read", "offset": 0, "length": 5}),
            read=failing_read,
        )


def test_inspector_notices_that_the_server_has_given_up(
    connections: tuple[Connection, Connection],
) -> None:
    ours, theirs = connections
    ours.close()
    assert protocol.receive_question(theirs) is None
    protocol.send_outcome(theirs, Findings(1, 2))
    with pytest.raises((EOFError, OSError)):
        protocol.ask_for_part(theirs, 0, 5)
