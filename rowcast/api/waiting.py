"""Requests that wait: seats for them, events while a job goes on, and callers that have gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import flask

from rowcast.api import events
from rowcast.system import Places


@dataclass(eq=False)
class Seat:
    """A seat in a waiting room, if there was one; who has it asks now and then `may_stay`."""

    owner: str
    was_given: bool
    is_needed: bool = False

    def may_stay(self) -> bool:
        """Return whether the caller has the seat, and no other owner needs it."""
        return self.was_given and not self.is_needed


class WaitingRoom:
    """Seats for the threads that may wait; the others stay free for short requests.

    An owner may have all seats. If none is free when another owner comes, the owner with the most
    gives up its oldest, as long as it has two more than the other: so owners end with equally many.
    """

    def __init__(self, n_seats: int) -> None:
        """Allow `n_seats` waiting threads, and for a second half as many again.

        Those are the ones that have given up their seats, and have not left yet.
        """
        self._lock = threading.Lock()
        self._places = Places(n_seats)
        # Seats that are held, the oldest first, and the number of those that were given up.
        self._held: dict[Seat, None] = {}
        self._n_leaving = 0

    @contextmanager
    def seat(self, owner: str) -> Iterator[Seat]:
        """Yield a seat; whether the owner has got one, and still has it, is its `may_stay`."""
        seat = self._seat(owner)
        try:
            yield seat
        finally:
            self._leave(seat)

    def _seat(self, owner: str) -> Seat:
        with self._lock:
            is_given = self._places.n_free > 0 or self._make_room(owner)
            seat = Seat(owner, is_given)
            if is_given:
                self._places.take(owner)
                self._held[seat] = None
            return seat

    def _make_room(self, owner: str) -> bool:
        oldest = max(self._held, key=lambda seat: self._places.held_by(seat.owner))
        n_more = self._places.held_by(oldest.owner) - self._places.held_by(owner)
        if n_more < 2 or self._n_leaving >= max(1, self._places.n_places // 2):
            return False
        del self._held[oldest]
        self._n_leaving += 1
        self._places.leave(oldest.owner)
        oldest.is_needed = True
        return True

    def _leave(self, seat: Seat) -> None:
        with self._lock:
            if seat in self._held:
                del self._held[seat]
                self._places.leave(seat.owner)
            elif seat.was_given:
                self._n_leaving -= 1


def event_stream(
    statuses: Iterable[dict[str, Any] | None], seat: AbstractContextManager[Seat]
) -> flask.Response:
    """Answer by events for as long as the job goes on; without a seat, by one event only.

    A browser reconnects after that. The seat is free again when the answer has ended, in any way.
    """
    held = ExitStack()
    taken = held.enter_context(seat)
    is_wanted = _stream_check(flask.request.environ, taken)
    response = flask.Response(
        events.stream(statuses, is_wanted), mimetype=events.MIME_TYPE
    )
    # Some proxies buffer an answer until it is complete.
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    if not taken.may_stay():
        response.headers["Retry-After"] = "1"
    response.call_on_close(held.close)
    return response


def _stream_check(environ: dict[str, Any], seat: Seat) -> Callable[[], bool]:
    is_connected = connection_check(environ)
    is_stopping = environ.get("rowcast.is_stopping", lambda: False)
    return lambda: seat.may_stay() and is_connected() and not is_stopping()


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
