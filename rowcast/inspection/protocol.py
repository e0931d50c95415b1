"""What goes over the socket between the server and an inspector.

The server sends one end of a new pair of sockets over the pool's own socket, and a free inspector
takes it and says so. Each message is a JSON object. The inspector holds no keys: it asks the server
for the parts of the table that it wants to see, and they follow as bytes:

    inspector  {"type": "accepted"}
    server     {"size": 5321, "limits": {...}, "check": {"kind": "fit", "arguments": {...}}, ...}
    inspector  {"type": "read", "offset": 0, "length": 5321}
    server     5321 bytes
    inspector  {"type": "found", "found": {"n_rows": 100, "n_columns": 3, "target": "y"}}
               {"type": "error", "error": {"code": "invalid_table", ...}}

An inspector serves one question at a time. A server that gives up closes its end; when an inspector
dies, its end breaks immediately.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

from rowcast import errors
from rowcast.inspection import limits
from rowcast.system import messages

# Returns a part of a table: offset and length in bytes.
Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Check:
    """What a table must contain: the kind of the check, and the arguments that it takes."""

    kind: Literal["fit", "predict", "none"]
    arguments: Mapping[str, Any]

    @classmethod
    def fit(
        cls,
        target: str | None,
        weights: str | None,
        time_column: str | None = None,
        group_column: str | None = None,
        selection: Mapping[str, Any] | None = None,
    ) -> Check:
        """Have a table checked for a fit; see `checks.check_fit`."""
        return cls(
            "fit",
            {
                "target": target,
                "weights": weights,
                "time_column": time_column,
                "group_column": group_column,
                "selection": dict(selection or {}),
            },
        )

    @classmethod
    def predict(
        cls, features: Sequence[Mapping[str, Any]], keep: Sequence[str]
    ) -> Check:
        """Have a table checked for a prediction; features have what their check needs."""
        return cls("predict", {"features": list(features), "keep": list(keep)})

    @classmethod
    def none(cls) -> Check:
        """Have a table looked at, for a model that is not known yet."""
        return cls("none", {})


@dataclass(frozen=True)
class Question:
    """A table of `size` bytes, the limits of tables as `tables.Limits` has them, and its check.

    `reading` are the members of `tables.ReadingOptions`.
    """

    size: int
    limits: Mapping[str, int]
    check: Check
    request_id: str = ""
    reading: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """What the look has shown: rows, an estimate unless the file says, columns and the target."""

    n_rows: int
    n_columns: int
    target: str = ""

    @classmethod
    def of(cls, found: dict[str, Any]) -> Findings:
        """Return what an inspector sent. Raises one of `messages.MALFORMED`: it went wrong."""
        return cls(int(found["n_rows"]), int(found["n_columns"]), str(found["target"]))


class InspectorLost(Exception):
    """The inspector died, fell silent or sent what no inspector sends."""


# The server's side


@contextmanager
def _losing() -> Iterator[None]:
    try:
        yield
    except messages.LOST:
        raise InspectorLost from None


@_losing()
def wait_until_accepted(connection: Connection, wait_s: float) -> None:
    """Wait until an inspector accepts the connection. Raises InspectorLost: none does in time."""
    _receive(connection, wait_s)


def ask(
    connection: Connection, question: Question, read: Read, limit_s: float
) -> Findings:
    """Return what a look at a table shows, within `limit_s` seconds; `read` returns its parts.

    Raises:
        InspectorLost: the inspector died, or took too long.
        RowcastError: the inspector's refusal of the table.
    """
    _send_question(connection, question)
    left_s = limit_s
    for _ in range(limits.MAX_PARTS + 1):
        asked_at = time.monotonic()
        message = _next_message(connection, left_s, question.size)
        # The time that the store takes does not count.
        left_s -= time.monotonic() - asked_at
        if isinstance(message, Findings):
            return message
        if isinstance(message, errors.RowcastError):
            raise message
        _send_part(connection, read(*message))
    raise InspectorLost


@_losing()
def _send_question(connection: Connection, question: Question) -> None:
    messages.send(connection, asdict(question))


@_losing()
def _send_part(connection: Connection, part: bytes) -> None:
    connection.send_bytes(part)


@_losing()
def _next_message(
    connection: Connection, wait_s: float, size: int
) -> Findings | errors.RowcastError | tuple[int, int]:
    """Return the outcome, or offset and length of the part that the inspector wants."""
    message = _receive(connection, wait_s)
    if message["type"] == "found":
        return Findings.of(message["found"])
    if message["type"] == "error":
        return errors.of_cause(message["error"])
    offset, length = int(message["offset"]), int(message["length"])
    is_part = 0 <= offset < offset + length <= size
    if not is_part or length > limits.MAX_PART_BYTES:
        raise InspectorLost
    return offset, length


def _receive(connection: Connection, wait_s: float) -> Any:
    """Return the next message. Raises TimeoutError and what `messages.LOST` names."""
    if not connection.poll(max(wait_s, 0.0)):
        raise TimeoutError
    return messages.receive(connection, limits.MAX_ANSWER_BYTES)


# The inspector's side


def accept(control: socket.socket) -> Connection | None:
    """Wait for the next question, and say that it is accepted; None once the server has ended."""
    # One byte for each question, so that no inspector takes two.
    _, handed_over, _, _ = socket.recv_fds(control, 1, 1)
    if not handed_over:
        return None
    connection = Connection(handed_over[0])
    with suppress(OSError):
        messages.send(connection, {"type": "accepted"})
    return connection


def receive_question(connection: Connection) -> Question | None:
    """Return the question; None if the server has given up."""
    try:
        given = messages.receive(connection)
        return Question(**{**given, "check": Check(**given["check"])})
    except messages.LOST:
        return None


def ask_for_part(connection: Connection, offset: int, length: int) -> bytes:
    """Return a part of the table. Raises EOFError or OSError if the server has given up."""
    messages.send(connection, {"type": "read", "offset": offset, "length": length})
    return connection.recv_bytes()


def send_outcome(
    connection: Connection, outcome: Findings | errors.RowcastError
) -> None:
    """Send what was found, or the error; a server that has given up gets neither."""
    with suppress(OSError):
        if isinstance(outcome, errors.RowcastError):
            messages.send(connection, {"type": "error", "error": outcome.cause()})
        else:
            messages.send(connection, {"type": "found", "found": asdict(outcome)})
