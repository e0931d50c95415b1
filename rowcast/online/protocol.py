"""What goes over the socket between the server and the online workers.

The server connects, says for which owner, and sends its question. The broker, in the parent of the
workers, reads the owner only. It passes the connection to a free worker when it is the owner's
turn, and the worker says so. Then the predictions or the error go the other way. Each message is a
JSON object; a table follows its question as bytes, and so do the predictions:

    server  {"owner": "ann"}
    server  {"owner": "ann", "model_id": "...", "options": {...}, ...}, then the table
    worker  {"type": "accepted"}
    worker  {"type": "predictions"}, then the predictions
            {"type": "error", "error": {"code": "invalid_table", ...}}

A small question goes ahead, because each wait of one process for another costs more than some
predictions. One over AHEAD_BYTES is sent when it was accepted: it would block a server, which may
give up while it waits.

A worker serves one connection at a time. A server that gives up closes its connection; when a
worker dies, its connection breaks immediately.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rowcast import errors
from rowcast.learning import RESULT_FORMATS
from rowcast.online import limits
from rowcast.system import directories, messages

# What a broken connection or a malformed message raises.
LOST = messages.LOST
_LENGTH = struct.Struct("!i")

# Media types of a table. Only records need the right one: the others are known by their content.
RECORDS = "application/json"
TABLES = (
    RECORDS,
    "application/x-ndjson",
    "application/jsonl",
    "text/csv",
    "application/vnd.apache.parquet",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.arrow.file",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/octet-stream",
)
# Media types of predictions, the default first.
ANSWERS = tuple(found.media_type for found in RESULT_FORMATS.values())


@dataclass(frozen=True)
class Question:
    """What to predict with which model, for which owner.

    `options` are those of /predict; `sent_as` and `wanted` are media types.
    """

    owner: str
    request_id: str
    model_id: str
    options: Mapping[str, Any]
    sent_as: str
    wanted: str


# The server's side


def ask(
    path: str,
    question: Question,
    table: bytes,
    timeout_s: float,
    may_wait: Callable[[], bool] = lambda: True,
) -> bytes:
    """Return the predictions for a table, in the format that the question wants.

    `may_wait` is asked several times a second while no worker is free.

    Raises:
        NoOnlineWorker: none was free in time, or none runs.
        OnlineWorkerLost: it died, or needed more than `timeout_s` seconds.
        RowcastError: the worker's own refusal of the question.
    """
    limit_s = timeout_s + limits.ANSWER_MARGIN_S
    with _connected(path, limit_s) as connection:
        late = _send_ahead(connection, question, table)
        _wait_until_accepted(connection, may_wait)
        try:
            for part in late:
                connection.send_bytes(part)
            if not connection.poll(limit_s):
                raise errors.OnlineWorkerLost(
                    f"There was no answer within {timeout_s:g} s."
                )
            answer = messages.receive(connection)
            if answer["type"] == "predictions":
                return connection.recv_bytes()
        except messages.LOST:
            raise errors.OnlineWorkerLost(
                "The process that computed the answer died, or was killed after "
                f"{timeout_s:g} s."
            ) from None
    raise errors.of_cause(answer["error"])


def _connected(path: str, timeout_s: float) -> Connection:
    """Return a connection on which nothing waits longer than the limit."""
    with socket.socket(socket.AF_UNIX) as attempt:
        _connect(attempt, path)
        # A worker that is stopped reads no more of a table than the kernel holds.
        return messages.connection_of(attempt, timeout_s)


def _connect(attempt: socket.socket, path: str) -> None:
    attempt.settimeout(limits.WAIT_FOR_WORKER_S)
    try:
        attempt.connect(path)
    except (TimeoutError, BlockingIOError):
        # The kernel keeps no more waiting connections.
        raise _none_free() from None
    except OSError as error:
        reason = error.strerror or error
        raise errors.NoOnlineWorker(f"No online worker runs ({reason}).") from None
    attempt.settimeout(None)


def _send_ahead(
    connection: Connection, question: Question, table: bytes
) -> list[bytes]:
    """Send what needs no free worker, and return the parts that are still to be sent."""
    asked = json.dumps(asdict(question)).encode()
    parts = [asked, table]
    n_ahead = len(parts) if len(asked) + len(table) <= limits.AHEAD_BYTES else 0
    with _refused_if_lost():
        messages.send(connection, {"owner": question.owner})
        for part in parts[:n_ahead]:
            connection.send_bytes(part)
    return parts[n_ahead:]


def _wait_until_accepted(connection: Connection, may_wait: Callable[[], bool]) -> None:
    deadline = time.monotonic() + limits.WAIT_FOR_WORKER_S
    with _refused_if_lost():
        while not connection.poll(limits.WAIT_CHECK_S):
            if time.monotonic() >= deadline or not may_wait():
                raise _none_free()
        messages.receive(connection)


@contextmanager
def _refused_if_lost() -> Iterator[None]:
    """Raise NoOnlineWorker if the connection breaks.

    Too many wait, the workers are being restarted, the one that accepted has just died, or another
    version still runs.
    """
    try:
        yield
    except messages.LOST:
        raise _none_free() from None


def _none_free() -> errors.NoOnlineWorker:
    return errors.NoOnlineWorker(
        f"No online worker was free within {limits.WAIT_FOR_WORKER_S:g} s."
    )


# The broker's side


def listen(path: str) -> socket.socket:
    """Return a socket that listens at a path, in place of any other one there.

    Raises:
        PermissionError: other users may enter the folder.
        OSError: the path is too long, or cannot be written.
    """
    directories.private(Path(path).parent)
    listener = socket.socket(socket.AF_UNIX)
    part = Path(f"{path}.new")
    part.unlink(missing_ok=True)
    listener.bind(str(part))
    listener.listen(limits.MAX_WAITING_CONNECTIONS)
    # Renamed as a whole, so that there is always one at the path.
    part.rename(path)
    return listener


def read_hello(connection: socket.socket, said: bytearray) -> str:
    """Add what has arrived of a hello to `said`; return the owner that it names when it is whole.

    What follows it is left to the worker.

    Raises:
        BlockingIOError: the rest has not arrived.
        EOFError, OSError: the server has given up.
        ValueError, KeyError, TypeError: this is not a hello.
    """
    while n_missing := _n_missing(said):
        found = connection.recv(n_missing, socket.MSG_DONTWAIT)
        if not found:
            raise EOFError
        said += found
    return str(json.loads(said[_LENGTH.size :])["owner"])


def _n_missing(said: bytearray) -> int:
    """Return how many bytes of a hello, or of its length, are missing."""
    # As Connection.send_bytes writes it: four bytes of length, then the message.
    if len(said) < _LENGTH.size:
        return _LENGTH.size - len(said)
    (n_bytes,) = _LENGTH.unpack_from(said)
    if not 0 < n_bytes <= limits.MAX_HELLO_BYTES:
        raise ValueError("this is not a hello")
    return int(_LENGTH.size + n_bytes - len(said))


def pass_on(channel: socket.socket, connection: socket.socket) -> None:
    """Pass a connection to a worker. Raises OSError if the worker has died."""
    socket.send_fds(channel, [b"+"], [connection.fileno()])


def is_free(channel: socket.socket) -> bool:
    """Return whether a worker says that it is free; False if it has died."""
    try:
        return bool(channel.recv(1))
    except OSError:
        return False


# The worker's side


def accept(channel: socket.socket) -> Connection:
    """Say that this worker is free, wait for a connection, and tell the server.

    Raises:
        OSError: the parent has died.
    """
    channel.sendall(b".")
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    if not descriptors:
        raise BrokenPipeError("the parent has died")
    connection = Connection(descriptors[0])
    with suppress(OSError):
        messages.send(connection, {"type": "accepted"})
    return connection


def receive_question(connection: Connection) -> tuple[Question, bytes] | None:
    """Return the question and its table.

    None stands for a server that has given up, or one of another version, whose question is not
    understood.
    """
    try:
        question = Question(**messages.receive(connection))
        return question, connection.recv_bytes()
    except messages.LOST:
        return None


def send_outcome(connection: Connection, outcome: bytes | errors.RowcastError) -> None:
    """Send the predictions or the error; a server that has given up gets neither."""
    with suppress(OSError):
        if isinstance(outcome, errors.RowcastError):
            messages.send(connection, {"type": "error", "error": outcome.cause()})
        else:
            messages.send(connection, {"type": "predictions"})
            connection.send_bytes(outcome)
