"""The gunicorn worker: no thread of it ever waits for a caller.

Its main loop collects heads and bodies and sends what a caller is slow to take, each within a time
limit. It also answers malformed HTTP as a problem, and tells long answers whether it is stopping.
"""

from __future__ import annotations

import errno
import json
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Any

import uuid_utils
from gunicorn.http import errors as faults
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker

from rowcast import errors
from rowcast.api import headers
from rowcast.api.connections import (
    GRACE_S,
    LEAST_BYTES_PER_S,
    MAX_HEAD_BYTES,
    BodyAwaited,
    Connection,
)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
# Memory of a server process for bodies that have not arrived, of which one owner gets half, and for
# answers that have not been taken.
BODIES_BYTES = 128_000_000
ANSWERS_BYTES = 64_000_000
# After the last answer of a connection, what its caller still sends is read for this long, and so
# much of it, because closing immediately could make the caller's system drop the answer.
LINGER_S = 2.0
LINGER_BYTES = 1_000_000
_PIECE_BYTES = 262_144
# Connections that are closed together when there are too many.
_MAKE_ROOM_FOR = 32
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
# Seconds between two looks for connections that have waited too long.
_CHECK_S = 0.5
Then = Callable[[Connection], None]

_TOO_LONG: dict[type[Exception], type[errors.RowcastError]] = {
    faults.LimitRequestLine: errors.UriTooLong,
    faults.LimitRequestHeaders: errors.HeadersTooLarge,
}
_STATUS_OF: dict[type[Exception], int] = {
    faults.ExpectationFailed: 417,
    faults.UnsupportedTransferCoding: 501,
    faults.ForbiddenProxyRequest: 403,
}


class Worker(ThreadWorker):  # type: ignore[misc]
    """A gthread worker whose threads only get what has arrived.

    `_waiting` has the connections that no thread works on, the one that has waited longest first.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Start without connections."""
        super().__init__(*args, **kwargs)
        self._waiting: dict[Connection, None] = {}
        self._bodies: Counter[str] = Counter()
        self._checked_at = 0.0

    def load_wsgi(self) -> None:
        """Load the application, and give each request what it may ask its connection for."""
        super().load_wsgi()
        self.wsgi: Any = partial(_serve, self.wsgi, lambda: not self.alive)

    # Connections come and go.

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, at the cost of those that have waited longest if need be."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in _NO_DESCRIPTORS:
                self._make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        conn = Connection(self.cfg, accepted, address, listener.getsockname())
        self._wait(conn, READ, GRACE_S, self._on_head)
        self._take(conn, self._on_head)
        if self.nr_conns >= self.worker_connections:
            self._make_room()

    def _make_room(self) -> None:
        """Close some of the connections that wait, of the address that has most of them."""
        addresses = Counter(conn.address for conn in self._waiting)
        for address, _ in addresses.most_common(1):
            of_address = (conn for conn in self._waiting if conn.address == address)
            for conn in list(islice(of_address, _MAKE_ROOM_FOR)):
                self._close(conn)

    def _wait(self, conn: Connection, event: int, seconds: float, then: Then) -> None:
        """Call `then` whenever the event comes, until `_stop_waiting`."""
        conn.deadline = time.monotonic() + seconds
        self._waiting[conn] = None
        self.poller.register(conn.sock, event, partial(self._wake, conn, then))

    def _wake(self, conn: Connection, then: Then, _socket: Any) -> None:
        # It may have been closed since the events were fetched.
        if conn in self._waiting:
            self._take(conn, then)

    def _take(self, conn: Connection, step: Then) -> None:
        """Take a step with a connection, which the caller may have broken off."""
        try:
            step(conn)
        except OSError:
            self._close(conn)

    def _stop_waiting(self, conn: Connection) -> None:
        if conn in self._waiting:
            del self._waiting[conn]
            self.poller.unregister(conn.sock)

    def _close(self, conn: Connection) -> None:
        self._stop_waiting(conn)
        self._release_body(conn)
        self.nr_conns -= 1
        conn.close()

    def murder_keepalived(self, force: bool = False) -> None:
        """End the connections that have waited too long, or all."""
        now = time.monotonic()
        if not force and now - self._checked_at < _CHECK_S:
            return
        self._checked_at = now
        for conn in list(self._waiting):
            if force:
                self._close(conn)
            elif conn.deadline < now:
                self._end_late(conn)

    def murder_pending(self) -> None:
        """Do nothing: `murder_keepalived` looks at all connections."""

    def _end_late(self, conn: Connection) -> None:
        if conn.received or conn.body:
            self._refuse(conn, errors.RequestTimeout())
        else:
            self._close(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """Close the connections without a request soon, because this worker is stopping."""
        for conn in self._waiting:
            if conn.is_idle:
                conn.deadline = min(conn.deadline, deadline)

    # A request: its head, then its body if the application wants it.

    def _on_head(self, conn: Connection) -> None:
        is_first = not conn.received
        if not self._receive(conn):
            return
        if is_first:
            conn.deadline = time.monotonic() + GRACE_S
        if conn.head_has_arrived():
            self._stop_waiting(conn)
            self._start(conn)
        elif len(conn.received) > MAX_HEAD_BYTES:
            is_line = b"\r\n" not in conn.received
            too_long = errors.UriTooLong if is_line else errors.HeadersTooLarge
            self._refuse(conn, too_long())

    def _start(self, conn: Connection) -> None:
        """Let a thread work on a request that has arrived."""
        conn.hand_over()
        self.enqueue_req(conn)

    def _receive(self, conn: Connection) -> bool:
        """Return whether something has arrived; close a connection that its caller has closed."""
        try:
            n_bytes = conn.receive(_PIECE_BYTES)
        except TimeoutError:
            return False
        if not n_bytes:
            self._close(conn)
        return bool(n_bytes)

    def _await_body(self, conn: Connection, awaited: BodyAwaited) -> None:
        if not self._has_room(awaited):
            self._refuse(conn, errors.ServerBusy())
            return
        self._bodies[awaited.owner] += awaited.most_bytes
        conn.begin_body(awaited)
        self._wait(conn, READ, GRACE_S, self._on_body)
        self._take(conn, Connection.ask_for_body)

    def _has_room(self, awaited: BodyAwaited) -> bool:
        """Return whether the bodies that are on their way leave room for one more.

        One owner gets half of the room; the first body is admitted whatever its size.
        """
        own = self._bodies[awaited.owner]
        fits_own = not own or own + awaited.most_bytes <= BODIES_BYTES // 2
        total = self._bodies.total()
        return fits_own and (not total or total + awaited.most_bytes <= BODIES_BYTES)

    def _release_body(self, conn: Connection) -> None:
        if conn.body:
            self._bodies[conn.body.owner] -= conn.body.most_bytes
            self._bodies += Counter()
            conn.body = None

    def _on_body(self, conn: Connection) -> None:
        if not self._receive(conn):
            return
        n_received = len(conn.received)
        conn.deadline = conn.began_at + GRACE_S + n_received / LEAST_BYTES_PER_S
        if conn.body_has_arrived():
            self._stop_waiting(conn)
            conn.hand_over_body()
            self.enqueue_req(conn)

    # An answer: what is left of it, then the next request or the end.

    def finish_request(self, conn: Connection, finished: Future[bool]) -> None:
        """Go on with a connection that a thread has worked on."""
        error = None if finished.cancelled() else finished.exception()
        if isinstance(error, BodyAwaited):
            self._await_body(conn, error)
            return
        self._release_body(conn)
        if conn.sock.fileno() < 0:
            self._close(conn)
            return
        conn.is_kept = not (error or finished.cancelled()) and finished.result()
        self._take(conn, self._send_rest)

    def _send_rest(self, conn: Connection) -> None:
        if conn.sock.flush():
            self._go_on(conn)
            return
        conn.begin_sending()
        self._wait(conn, WRITE, GRACE_S, self._on_writable)
        self._bound_answers()

    def _on_writable(self, conn: Connection) -> None:
        if conn.sock.flush():
            self._stop_waiting(conn)
            self._go_on(conn)
        else:
            n_sent = conn.sock.n_sent
            conn.deadline = conn.began_at + GRACE_S + n_sent / LEAST_BYTES_PER_S

    def _bound_answers(self) -> None:
        """Close the connections that take too long for their answers, when these get too much."""
        slow = [conn for conn in self._waiting if conn.sock.unsent]
        n_bytes = sum(len(conn.sock.unsent) for conn in slow)
        for conn in slow:
            if n_bytes <= ANSWERS_BYTES:
                return
            n_bytes -= len(conn.sock.unsent)
            self._close(conn)

    def _go_on(self, conn: Connection) -> None:
        if not conn.is_kept:
            self._linger(conn)
            return
        conn.begin()
        if conn.head_has_arrived():
            self._start(conn)
            return
        seconds = self.cfg.keepalive if self.alive else STOP_KEEPALIVE_LINGER
        self._wait(conn, READ, GRACE_S if conn.received else seconds, self._on_head)

    def _linger(self, conn: Connection) -> None:
        conn.sock.shutdown(socket.SHUT_WR)
        self._wait(conn, READ, LINGER_S, self._on_lingering)

    def _on_lingering(self, conn: Connection) -> None:
        if not self._receive(conn):
            return
        conn.n_ignored += len(conn.received)
        conn.received.clear()
        if conn.n_ignored >= LINGER_BYTES:
            self._close(conn)

    # Requests that the application never sees.

    def _refuse(self, conn: Connection, problem: errors.RowcastError) -> None:
        self._stop_waiting(conn)
        self._release_body(conn)
        conn.received.clear()
        conn.is_kept = False
        with suppress(OSError):
            conn.sock.sendall(_answer(problem))
        self._take(conn, self._send_rest)

    def handle_error(
        self, req: Any, client: socket.socket, addr: Any, exc: Exception
    ) -> None:
        """Answer a malformed request; only the kind of its fault is logged."""
        if not isinstance(exc, faults.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("refused a malformed request: %s", type(exc).__name__)
        client.sendall(_answer(_malformed(exc)))


def _serve(
    wsgi: Callable[..., Any],
    is_stopping: Callable[[], bool],
    environ: dict[str, Any],
    start: Any,
) -> Any:
    parser = environ["gunicorn.socket"].parser
    environ["rowcast.is_stopping"] = is_stopping
    environ["rowcast.await_body"] = parser.await_body
    environ["rowcast.notes"] = parser.notes

    def start_answer(*answer: Any) -> Any:
        if not parser.body_has_arrived():
            # Nobody reads that body, so no other request can follow it.
            start.__self__.force_close()
        return start(*answer)

    return wsgi(environ, start_answer)


def _malformed(fault: Exception) -> errors.RowcastError:
    if too_long := _TOO_LONG.get(type(fault)):
        return too_long()
    status = HTTPStatus(_STATUS_OF.get(type(fault), 400))
    problem = errors.InvalidRequest(f"The request is not valid HTTP ({status.phrase}).")
    problem.status = status
    return problem


def _answer(problem: errors.RowcastError) -> bytes:
    request_id = str(uuid_utils.uuid7())
    body = json.dumps(problem.problem(request_id)).encode()
    head = (
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
        f"Connection: close\r\n"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
        f"X-Request-ID: {request_id}\r\n"
    )
    for name, value in (*headers.ALWAYS, *headers.DEFAULTS):
        head += f"{name}: {value}\r\n"
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        head += "Retry-After: 1\r\n"
    return head.encode() + b"\r\n" + body
