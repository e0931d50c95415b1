"""What goes over the socket between the server and the online workers.

The server connects, and a free worker accepts the connection and says so. Then the question goes
one way, and the predictions or the error the other. Each message is a JSON object; a table follows
its question as bytes, and so do the predictions:

    worker  {"type": "accepted"}
    server  {"owner": "ann", "model_id": "...", "output": "labels", ...}, then the table
    worker  {"type": "predictions"}, then the predictions
            {"type": "error", "error": {"code": "invalid_table", ...}}

A worker serves one connection at a time, and the kernel keeps the others in the order in which they
came. A server that gives up closes its connection; when a worker dies, its connection breaks
immediately.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from rowcast import errors
from rowcast.learning import RESULT_FORMATS
from rowcast.online import limits
from rowcast.system import directories, messages

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
    "application/octet-stream",
)
# Media types of predictions, the default first.
ANSWERS = tuple(found.media_type for found in RESULT_FORMATS.values())


@dataclass(frozen=True)
class Question:
    """What to predict with which model, for which owner; `sent_as` and `wanted` are media types."""

    owner: str
    request_id: str
    model_id: str
    output: str
    quantiles: Sequence[float]
    keep: Sequence[str]
    sent_as: str
    wanted: str


# The server's side


def ask(path: str, question: Question, table: bytes, timeout_s: float) -> bytes:
    """Return the predictions for a table, in the format that the question wants.

    Raises:
        NoOnlineWorker: none was free in time, or none runs.
        OnlineWorkerLost: it died, or needed more than `timeout_s` seconds.
        RowcastError: the worker's own refusal of the question.
    """
    limit_s = timeout_s + limits.ANSWER_MARGIN_S
    with _connected(path, limit_s) as connection:
        try:
            messages.send(connection, asdict(question))
            connection.send_bytes(table)
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


@contextmanager
def _connected(path: str, timeout_s: float) -> Iterator[Connection]:
    """Yield a connection that a worker has accepted; nothing on it waits longer than the limit."""
    with socket.socket(socket.AF_UNIX) as attempt:
        _connect(attempt, path)
        # A worker that is stopped reads no more of a table than the kernel holds.
        connection = messages.connection_of(attempt, timeout_s)
    with connection:
        _wait_until_accepted(connection)
        yield connection


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


def _wait_until_accepted(connection: Connection) -> None:
    try:
        if not connection.poll(limits.WAIT_FOR_WORKER_S):
            raise _none_free()
        messages.receive(connection)
    except messages.LOST:
        # The workers are being restarted, the one that accepted has just died, or another version
        # still runs.
        raise _none_free() from None


def _none_free() -> errors.NoOnlineWorker:
    return errors.NoOnlineWorker(
        f"No online worker was free within {limits.WAIT_FOR_WORKER_S:g} s."
    )


# The worker's side


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


def accept(listener: socket.socket) -> Connection:
    """Wait for the next connection, and tell the server that it was accepted."""
    accepted, _ = listener.accept()
    connection = Connection(accepted.detach())
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
