"""The gunicorn worker: it drops silent callers, and answers malformed HTTP as a problem.

Long answers can ask it whether it is stopping.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import uuid_utils
from gunicorn import util
from gunicorn.http import errors as faults
from gunicorn.workers.gthread import ThreadWorker

from rowcast.errors import InvalidRequest

# Seconds that a caller may be silent within its request, or read nothing of its answer.
SILENCE_S = 10

_STATUS_OF: dict[type[Exception], int] = {
    faults.LimitRequestLine: 414,
    faults.LimitRequestHeaders: 431,
    faults.ExpectationFailed: 417,
    faults.UnsupportedTransferCoding: 501,
    faults.ForbiddenProxyRequest: 403,
}


class Worker(ThreadWorker):  # type: ignore[misc]
    """A gthread worker with a limit on silence, and problems as answers to malformed requests."""

    def load_wsgi(self) -> None:
        """Load the application, and let each request ask whether this worker is stopping."""
        super().load_wsgi()
        self.wsgi: Any = partial(_answer_while, self.wsgi, lambda: not self.alive)

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to a thread; a read or write that lasts too long closes it."""
        # Set in the kernel, because gunicorn makes the socket blocking again, which resets Python's
        # timeout. The limit holds for all requests of the connection; this is the first.
        if not conn.initialized:
            seconds = struct.pack("ll", SILENCE_S, 0)
            for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                conn.sock.setsockopt(socket.SOL_SOCKET, limit, seconds)
        super().enqueue_req(conn)

    def handle_error(
        self, req: Any, client: socket.socket, addr: Any, exc: Exception
    ) -> None:
        """Answer a malformed request; only the kind of its fault is logged."""
        if not isinstance(exc, faults.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("refused a malformed request: %s", type(exc).__name__)
        status = HTTPStatus(_STATUS_OF.get(type(exc), 400))
        util.write_nonblock(client, _answer(status))


def _answer_while(
    wsgi: Callable[..., Any],
    is_stopping: Callable[[], bool],
    environ: dict[str, Any],
    start: Any,
) -> Any:
    environ["rowcast.is_stopping"] = is_stopping
    return wsgi(environ, start)


def _answer(status: HTTPStatus) -> bytes:
    request_id = str(uuid_utils.uuid7())
    problem = InvalidRequest(
        f"The request is not valid HTTP, or too long ({status.phrase})."
    )
    body = json.dumps({**problem.problem(request_id), "status": status.value}).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
        f"X-Request-ID: {request_id}\r\n\r\n"
    )
    return head.encode() + body
