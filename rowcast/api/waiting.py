"""Requests that wait: seats for them, events for as long as a job goes on, and gone callers."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import flask

from rowcast.api import events


class WaitingRoom:
    """The threads of this process that may wait at once; the others stay free for short
    requests."""

    def __init__(self, seats: int) -> None:
        """Allow `seats` waiting threads."""
        self._seats = threading.BoundedSemaphore(seats)

    @contextmanager
    def seat(self) -> Iterator[bool]:
        """Yield whether the caller may wait."""
        admitted = self._seats.acquire(blocking=False)
        try:
            yield admitted
        finally:
            if admitted:
                self._seats.release()


def event_stream(
    statuses: Iterable[dict[str, Any] | None], seat: AbstractContextManager[bool]
) -> flask.Response:
    """Answer by events for as long as the job goes on; without a seat by one, after which to come
    again.

    The seat is given up when the answer has ended, however that came.
    """
    held = ExitStack()
    may_stay = held.enter_context(seat)
    is_wanted = _stream_check(flask.request.environ) if may_stay else lambda: False
    response = flask.Response(
        events.stream(statuses, is_wanted), mimetype=events.MIME_TYPE
    )
    # Some proxies keep an answer until it is complete.
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    if not may_stay:
        response.headers["Retry-After"] = "1"
    response.call_on_close(held.close)
    return response


def _stream_check(environ: dict[str, Any]) -> Callable[[], bool]:
    is_connected, is_stopping = (
        connection_check(environ),
        environ.get("rowcast.is_stopping", lambda: False),
    )
    return lambda: is_connected() and not is_stopping()


def connection_check(environ: dict[str, Any]) -> Callable[[], bool]:
    """Return a function that tells whether the caller is still connected, as far as the server
    shows it."""
    connection: socket.socket | None = environ.get("gunicorn.socket")

    def is_connected() -> bool:
        if connection is None:
            return True
        try:
            readable = select.select([connection], [], [], 0)[0]
            return not readable or bool(
                connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            )
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False

    return is_connected
