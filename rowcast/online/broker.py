"""The broker: hands the connections of servers to free online workers, owner by owner.

It runs in the parent of the workers, between two checks of them, and never blocks: it reads only
the hello of a connection, which names the owner, and passes the connection to a worker. What the
server and the worker send each other then does not go through here.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from rowcast.online import limits, protocol
from rowcast.system import FairQueue


@dataclass(eq=False)
class Visitor:
    """A server's connection that no worker has yet; `owner` is None until its hello has come."""

    connection: socket.socket
    came_at: float
    said: bytearray = field(default_factory=bytearray)
    owner: str | None = None


@dataclass(eq=False)
class Desk:
    """The parent's end of the channel to a worker, and the owner that it works for."""

    channel: socket.socket
    owner: str | None = None


class Broker:
    """Passes connections to free workers; each waits until its owner's turn."""

    def __init__(self, listener: socket.socket) -> None:
        """Accept the connections of a listening socket."""
        self._queue: FairQueue[Visitor] = FairQueue(0, limits.MAX_WAITING_CONNECTIONS)
        # Visitors whose hello has not come, the oldest first.
        self._arriving: dict[Visitor, None] = {}
        # Workers that have been free once, and those that are, the longest free first.
        self._ready: set[Desk] = set()
        self._free: dict[Desk, None] = {}
        listener.setblocking(False)
        # Unlike a selector, it also tells of the end of a connection on which nothing is read.
        self._poll = select.poll()
        self._watched: dict[int, tuple[socket.socket, Callable[[], None]]] = {}
        self._watch(listener, select.POLLIN, partial(self._accept, listener))

    def serve(self, seconds: float) -> None:
        """Pass connections to workers for so many seconds."""
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            for descriptor, _ in self._poll.poll(left_s * 1000):
                self._call(descriptor)
            self._assign()
            self._drop_silent()

    def hire(self) -> socket.socket:
        """Return the channel of a new worker; close it in this process after the fork."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._watch(ours, select.POLLIN, partial(self._hear, Desk(ours)))
        return theirs

    def close_copies(self) -> None:
        """Close, in a forked worker, the connections of its parent.

        Otherwise a connection would live on after the worker that has it.
        """
        for watched, _ in self._watched.values():
            watched.close()

    # Watching

    def _watch(
        self, watched: socket.socket, events: int, call: Callable[[], None]
    ) -> None:
        """Call `call` whenever one of the events comes, or the other end closes."""
        self._poll.register(watched, events)
        self._watched[watched.fileno()] = (watched, call)

    def _call(self, descriptor: int) -> None:
        # An event before it may have ended this one.
        if descriptor in self._watched:
            self._watched[descriptor][1]()

    def _end(self, connection: socket.socket) -> None:
        self._poll.unregister(connection)
        del self._watched[connection.fileno()]
        connection.close()

    # Workers

    def _hear(self, desk: Desk) -> None:
        """Note that a worker is free, or has died."""
        if desk.owner is not None:
            self._queue.places.leave(desk.owner)
            desk.owner = None
        if protocol.is_free(desk.channel):
            self._ready.add(desk)
            self._free[desk] = None
        else:
            self._ready.discard(desk)
            self._free.pop(desk, None)
            self._end(desk.channel)
        self._queue.places.n_places = len(self._ready)

    def _assign(self) -> None:
        while self._free:
            admitted = self._queue.admit(time.monotonic())
            if admitted is None:
                return
            owner, visitor = admitted
            desk = next(iter(self._free))
            del self._free[desk]
            desk.owner = owner
            # To a worker that has just died nothing can be passed: it costs this one request.
            with suppress(OSError):
                protocol.pass_on(desk.channel, visitor.connection)
            self._end(visitor.connection)

    # Visitors

    def _accept(self, listener: socket.socket) -> None:
        # The broker goes on when too many files are open: some are closed soon.
        with suppress(OSError):
            connection, _ = listener.accept()
            visitor = Visitor(connection, time.monotonic())
            self._arriving[visitor] = None
            self._watch(connection, select.POLLIN, partial(self._listen, visitor))
            # Mostly the hello is there already.
            self._listen(visitor)

    def _listen(self, visitor: Visitor) -> None:
        """Read a hello; a visitor that hangs up, or sends anything else, is dropped.

        What it sends after the hello is the worker's. So from then on only its end is watched.
        """
        try:
            owner = protocol.read_hello(visitor.connection, visitor.said)
        except BlockingIOError:
            return
        except protocol.LOST:
            self._drop(visitor)
            return
        del self._arriving[visitor]
        self._watch(visitor.connection, 0, partial(self._drop, visitor))
        if self._queue.join(owner, visitor, time.monotonic()):
            visitor.owner = owner
        else:
            self._end(visitor.connection)

    def _drop(self, visitor: Visitor) -> None:
        if visitor.owner is None:
            del self._arriving[visitor]
        else:
            self._queue.withdraw(visitor.owner, visitor)
        self._end(visitor.connection)

    def _drop_silent(self) -> None:
        oldest = time.monotonic() - limits.HELLO_S
        for visitor in [each for each in self._arriving if each.came_at < oldest]:
            self._drop(visitor)
