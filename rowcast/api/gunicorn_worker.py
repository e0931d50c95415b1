"""The gunicorn worker: silent callers lose their thread, what is not HTTP is answered as a problem.

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

# How long a caller may be silent in the middle of its request, or take nothing of its answer.
SILENCE_S = 10

_STATUS_OF: dict[type[Exception], int] = {
    faults.LimitRequestLine: 414,
    faults.LimitRequestHeaders: 431,
    faults.ExpectationFailed: 417,
    faults.UnsupportedTransferCoding: 501,
    faults.ForbiddenProxyRequest: 403,
}


class Worker(ThreadWorker):  # type: ignore[misc]
    """A gthread worker with a limit to silence, and answers as all of Rowcast's."""

    def load_wsgi(self) -> None:
        """Load the application, and tell each request how to ask whether this worker stops."""
        super().load_wsgi()
        self.wsgi: Any = partial(_answer_while, self.wsgi, lambda: not self.alive)

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to a thread; a read or a write that lasts too long fails and closes
        it."""
        # Set in the kernel, because gunicorn makes the socket blocking again, which resets Python's
        # timeout. There it holds for all requests of a connection, of which this is the first.
        if not conn.initialized:
            for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                conn.sock.setsockopt(
                    socket.SOL_SOCKET, limit, struct.pack("ll", SILENCE_S, 0)
                )
        super().enqueue_req(conn)

    def handle_error(
        self, req: Any, client: socket.socket, addr: Any, exc: Exception
    ) -> None:
        """Answer what is no valid request; nothing of it is logged but the kind of fault."""
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
