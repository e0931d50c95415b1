"""The broker: hands the connections of servers to free online workers, owner by owner.

It runs in the parent of the workers, between two checks of them, and never blocks: it reads only
the hello of a connection, which names the owner, and passes the connection to a worker. What the
server and the worker send each other then does not go through here.
"""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from rowcast.online import limits, protocol
from rowcast.system import FairQueue


@dataclass(eq=False)
class Visitor:
    """A server's connection that no worker has yet; `owner` is None until its hello has come."""

    connection: socket.socket
    came_at: float
    said: bytes = b""
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
        self._selector = selectors.DefaultSelector()
        accept = partial(self._accept, listener)
        self._selector.register(listener, selectors.EVENT_READ, accept)

    def serve(self, seconds: float) -> None:
        """Pass connections to workers for so many seconds."""
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left_s):
                key.data()
            self._assign()
            self._drop_silent()

    def hire(self) -> socket.socket:
        """Return the channel of a new worker; close it in this process after the fork."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        hear = partial(self._hear, Desk(ours))
        self._selector.register(ours, selectors.EVENT_READ, hear)
        return theirs

    def close_copies(self) -> None:
        """Close, in a forked worker, the connections of its parent.

        Otherwise a connection would live on after the worker that has it.
        """
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _end(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
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
            listen = partial(self._listen, visitor)
            self._selector.register(connection, selectors.EVENT_READ, listen)
            # Mostly the hello is there already.
            self._listen(visitor)

    def _listen(self, visitor: Visitor) -> None:
        """Read a hello; a visitor that hangs up, or sends anything else, is dropped."""
        try:
            visitor.said += protocol.read_now(visitor.connection)
            owner = protocol.owner_of(visitor.said)
        except BlockingIOError:
            return
        except protocol.LOST:
            self._drop(visitor)
            return
        if owner is None:
            return
        del self._arriving[visitor]
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
