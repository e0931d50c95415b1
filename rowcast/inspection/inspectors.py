"""The inspectors of a server process: one place to have a table looked at, with a fair wait."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

from rowcast import errors
from rowcast.config import Settings
from rowcast.inspection import limits, protocol
from rowcast.inspection.protocol import Findings, Question, Read
from rowcast.inspection.spawned_pool import SpawnedPool
from rowcast.system import FairGate, messages


class Inspectors:
    """A pool of inspectors, and the places of the requests that use it or wait for it."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing yet: the first question does, or `start`."""
        self._pool = SpawnedPool(settings)
        self._limit_s = settings.inspection_timeout_s
        # Half of the threads may wait for jobs; some always stay free for short requests.
        max_waiting = max(2, settings.server_threads // 2 - 2 - settings.inspectors)
        self._gate = FairGate(settings.inspectors, max_waiting)

    def start(self) -> None:
        """Start the pool. Raises NoInspector if that fails."""
        self._pool.start()

    def inspect(self, owner: str, question: Question, read: Read) -> Findings:
        """Return what a look at an owner's table shows; `read` returns its parts.

        Raises:
            InvalidTable: the table cannot be used, as far as the look shows.
            InvalidRequest: an option of reading does not apply to it.
            TableTooComplex: the look takes too much time or memory, or its process has died.
            NoInspector: none was free in time, or none runs.
        """
        limit_s = self._limit_s + limits.ANSWER_MARGIN_S
        with self._place(owner), self._accepted() as connection:
            try:
                return protocol.ask(connection, question, read, limit_s)
            except protocol.InspectorLost:
                raise self._too_complex() from None

    @contextmanager
    def _place(self, owner: str) -> Iterator[None]:
        """Hold a free inspector for an owner's request, when it is the owner's turn."""
        with ExitStack() as held:
            try:
                held.enter_context(self._gate.place(owner, limits.WAIT_S))
            except BlockingIOError:
                raise errors.NoInspector(
                    "Too many requests wait for an inspector."
                ) from None
            except TimeoutError:
                raise _none_free(limits.WAIT_S) from None
            yield

    @contextmanager
    def _accepted(self) -> Iterator[Connection]:
        """Yield a connection that an inspector has accepted."""
        ours, theirs = socket.socketpair()
        with theirs, ours:
            self._pool.hand_over(theirs)
            connection = messages.connection_of(ours, self._limit_s)
        with connection:
            wait_s = self._pool.wait_s()
            try:
                protocol.wait_until_accepted(connection, wait_s)
            except protocol.InspectorLost:
                # The pool ended with the question, or its inspectors are started again.
                raise _none_free(wait_s) from None
            yield connection

    def _too_complex(self) -> errors.TableTooComplex:
        return errors.TableTooComplex(
            f"The process that looked at the table took more than {self._limit_s:g} s or more "
            "memory than it may, or died of the table."
        )


def _none_free(wait_s: float) -> errors.NoInspector:
    return errors.NoInspector(f"No inspector was free within {wait_s:.0f} s.")
