"""Requests that wait: seats for them, events while a job goes on, and callers that have gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import flask

from rowcast.api import events


class WaitingRoom:
    """Seats for the threads that may wait; the others stay free for short requests."""

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
    """Answer by events for as long as the job goes on; without a seat, by one event only.

    A browser reconnects after that. The seat is free again when the answer has ended, in any way.
    """
    held = ExitStack()
    may_stay = held.enter_context(seat)
    is_wanted = _stream_check(flask.request.environ) if may_stay else lambda: False
    response = flask.Response(
        events.stream(statuses, is_wanted), mimetype=events.MIME_TYPE
    )
    # Some proxies buffer an answer until it is complete.
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    if not may_stay:
        response.headers["Retry-After"] = "1"
    response.call_on_close(held.close)
    return response


def _stream_check(environ: dict[str, Any]) -> Callable[[], bool]:
    is_connected = connection_check(environ)
    is_stopping = environ.get("rowcast.is_stopping", lambda: False)
    return lambda: is_connected() and not is_stopping()


def connection_check(environ: dict[str, Any]) -> Callable[[], bool]:
    """Return a function that returns whether the caller is still connected, if that is known."""
    connection: socket.socket | None = environ.get("gunicorn.socket")

    def is_connected() -> bool:
        if connection is None:
            return True
        try:
            # A closed connection is readable, and has nothing to read.
            return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False

    return is_connected
