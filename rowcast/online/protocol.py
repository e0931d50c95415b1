"""Predictions that are answered at once: what goes over the socket between the server and the warm
workers.

The server connects, and waits until a worker that is free takes the connection and says so. Then
the question goes one way, and the answer or the error the other. A worker serves one connection at
a time, and the kernel keeps the others in the order in which they came; a server that has given up
has closed its own. When a worker dies, its connection breaks at once.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from rowcast import errors
from rowcast.system import directories

# How long a request waits for a worker that is free.
PATIENCE_S = 0.5
# A worker that takes too long is killed; only one that cannot be is waited for no longer than this
# beyond.
MARGIN_S = 5.0
# So many connections wait in the kernel at most.
_BACKLOG = 256
_TAKEN, _ANSWER, _ERROR = b"taken", b"answer", b"error"

# What a table may be sent as. All but records are told by their content, whatever their type.
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
# What the predictions may be asked for as, the default first.
ANSWERS = (
    "application/json",
    "application/x-ndjson",
    "text/csv",
    "application/vnd.apache.parquet",
    "application/vnd.apache.arrow.stream",
)


@dataclass(frozen=True)
class Question:
    """What to predict with which model, for whom; `sent_as` and `wanted` are media types."""

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
    """Return the predictions for a table, as the question wants them.

    Raises:
        NoOnlineWorker: none was free within half a second, or none runs.
        OnlineWorkerLost: it died, or needed more than `timeout_s` seconds.
        RowcastError: whatever the worker refuses the question for.
    """
    with _connected(path, timeout_s + MARGIN_S) as connection:
        try:
            connection.send_bytes(json.dumps(asdict(question)).encode())
            connection.send_bytes(table)
            if not connection.poll(timeout_s + MARGIN_S):
                raise errors.OnlineWorkerLost(
                    f"There was no answer within {timeout_s:g} s."
                )
            kind, content = connection.recv_bytes(), connection.recv_bytes()
        except (EOFError, OSError):
            raise errors.OnlineWorkerLost(
                f"The process that computed the answer died, or was ended after {timeout_s:g} s."
            ) from None
    if kind == _ERROR:
        raise errors.of_cause(json.loads(content))
    return content


@contextmanager
def _connected(path: str, silence_s: float) -> Iterator[Connection]:
    """Yield a connection that a worker has taken, on which nothing waits longer than
    `silence_s`."""
    with socket.socket(socket.AF_UNIX) as attempt:
        attempt.settimeout(PATIENCE_S)
        try:
            attempt.connect(path)
        except (TimeoutError, BlockingIOError):
            # As many wait already as the kernel keeps.
            raise _none_free() from None
        except OSError as error:
            raise errors.NoOnlineWorker(
                f"No online worker runs ({error.strerror or error})."
            ) from None
        attempt.settimeout(None)
        # A worker that is stopped, with its parent, takes no more of a table than the kernel holds.
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            attempt.setsockopt(
                socket.SOL_SOCKET, option, struct.pack("@ll", int(silence_s), 0)
            )
        connection = Connection(attempt.detach())
    with connection:
        try:
            if not connection.poll(PATIENCE_S):
                raise _none_free()
            connection.recv_bytes()
        except (EOFError, OSError):
            # They are being started anew, or the one that took it has died just then.
            raise _none_free() from None
        yield connection


def _none_free() -> errors.NoOnlineWorker:
    return errors.NoOnlineWorker(f"No online worker was free within {PATIENCE_S:g} s.")


# The worker's side


def listen(path: str) -> socket.socket:
    """Return a socket at a path; another one that is there is replaced.

    Raises:
        PermissionError: others may enter the folder.
        OSError: the path is too long, or cannot be written.
    """
    directories.private(Path(path).parent)
    listener, part = socket.socket(socket.AF_UNIX), Path(f"{path}.new")
    part.unlink(missing_ok=True)
    listener.bind(str(part))
    listener.listen(_BACKLOG)
    # At once, so that nobody finds none in between.
    part.rename(path)
    return listener


def take(listener: socket.socket) -> Connection:
    """Return the next connection, once there is one, and tell the server that it was taken."""
    accepted, _ = listener.accept()
    connection = Connection(accepted.detach())
    with suppress(OSError):
        connection.send_bytes(_TAKEN)
    return connection


def question(connection: Connection) -> tuple[Question, bytes] | None:
    """Return the question and its table; None where the server has given up, or asks as none of
    ours does."""
    try:
        return Question(**json.loads(connection.recv_bytes())), connection.recv_bytes()
    except (EOFError, OSError, TypeError, ValueError):
        return None


def reply(connection: Connection, outcome: bytes | errors.RowcastError) -> None:
    """Send the answer, or why there is none; a server that has given up needs neither."""
    if isinstance(outcome, errors.RowcastError):
        kind, content = _ERROR, json.dumps(outcome.cause()).encode()
    else:
        kind, content = _ANSWER, outcome
    with suppress(OSError):
        connection.send_bytes(kind)
        connection.send_bytes(content)
