"""Places that owners share: while others wait, none holds more than half of them.

The caller of a queue brings the time, in seconds of any clock that does not run back.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

# Seconds for which a place is kept for an owner that has asked for one.
KEPT_S = 30.0
Item = TypeVar("Item")


class Places:
    """A number of places, and who holds how many of them."""

    def __init__(self, n_places: int) -> None:
        """Begin with free places. Their number may change at any time."""
        self.n_places = n_places
        self._held: Counter[str] = Counter()

    @property
    def n_free(self) -> int:
        """The number of places that nobody holds."""
        return self.n_places - self._held.total()

    def held_by(self, owner: str) -> int:
        """Return how many places an owner holds."""
        return self._held[owner]

    def take(self, owner: str) -> None:
        """Note that an owner holds one more place."""
        self._held[owner] += 1

    def leave(self, owner: str) -> None:
        """Note that an owner holds one place less."""
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]


class FairQueue(Generic[Item]):
    """A bounded line of items that wait for places.

    A free place goes to the owner that holds the fewest; those that hold as many take turns. So an
    owner holds more than half only while nobody else waits. What holds a place is not interrupted:
    therefore the last free place is kept for owners that hold none and have asked in the last
    KEPT_S, so that they need not wait until another owner's long work ends.
    """

    def __init__(self, n_places: int, max_waiting: int) -> None:
        """Let `max_waiting` items wait, of one owner at most half of them."""
        self.places = Places(n_places)
        self._max_waiting = max_waiting
        self._n_waiting = 0
        # The owners whose items wait, by whose turn it is.
        self._turns: OrderedDict[str, deque[Item]] = OrderedDict()
        # When each owner asked last, the latest at the end.
        self._asked_at: OrderedDict[str, float] = OrderedDict()

    def join(self, owner: str, item: Item, now: float) -> bool:
        """Have an item wait; False if the line is full, or half of it is this owner's."""
        self._note(owner, now)
        n_of_owner = len(self._turns.get(owner, ()))
        is_full = self._n_waiting >= self._max_waiting
        if is_full or n_of_owner >= max(1, self._max_waiting // 2):
            return False
        self._turns.setdefault(owner, deque()).append(item)
        self._n_waiting += 1
        return True

    def withdraw(self, owner: str, item: Item) -> None:
        """Have an item wait no longer.

        Raises:
            KeyError, ValueError: it does not wait.
        """
        items = self._turns[owner]
        items.remove(item)
        self._n_waiting -= 1
        if not items:
            del self._turns[owner]

    def admit(self, now: float) -> tuple[str, Item] | None:
        """Give the next item a place, and return its owner and it; None if all have to wait.

        Call `places.leave` with the owner when the place is free again.
        """
        owner = min(self._turns, key=self.places.held_by, default=None)
        if owner is None or not self._may_take(owner, now):
            return None
        items = self._turns.pop(owner)
        item = items.popleft()
        if items:
            self._turns[owner] = items
        self._n_waiting -= 1
        self.places.take(owner)
        return owner, item

    def _may_take(self, owner: str, now: float) -> bool:
        n_free = self.places.n_free
        if n_free > 1 or not self.places.held_by(owner):
            return n_free > 0
        return n_free == 1 and not self._is_last_kept(owner, now)

    def _is_last_kept(self, owner: str, now: float) -> bool:
        return any(
            other != owner
            and now - asked_at < KEPT_S
            and not self.places.held_by(other)
            for other, asked_at in self._asked_at.items()
        )

    def _note(self, owner: str, now: float) -> None:
        self._asked_at[owner] = now
        self._asked_at.move_to_end(owner)
        while now - next(iter(self._asked_at.values()), math.inf) >= KEPT_S:
            self._asked_at.popitem(last=False)


class FairGate:
    """A fair queue for threads: each waits until it has a place, for a limited time."""

    def __init__(self, n_places: int, max_waiting: int) -> None:
        """Let `max_waiting` threads wait, for one owner at most half of them."""
        self._queue: FairQueue[object] = FairQueue(n_places, max_waiting)
        self._admitted: set[object] = set()
        self._changed = threading.Condition()

    @contextmanager
    def place(self, owner: str, timeout_s: float) -> Iterator[None]:
        """Hold a place.

        Raises:
            BlockingIOError: too many wait.
            TimeoutError: no place was free for this owner within `timeout_s`.
        """
        ticket = object()
        with self._changed:
            if not self._queue.join(owner, ticket, time.monotonic()):
                raise BlockingIOError
            self._wait(owner, ticket, time.monotonic() + timeout_s)
        try:
            yield
        finally:
            with self._changed:
                self._queue.places.leave(owner)
                self._admit()

    def _wait(self, owner: str, ticket: object, deadline: float) -> None:
        self._admit()
        while ticket not in self._admitted:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._queue.withdraw(owner, ticket)
                raise TimeoutError
            # A place that was kept for another owner is free after a while.
            self._changed.wait(min(left_s, 1.0))
            self._admit()
        self._admitted.remove(ticket)

    def _admit(self) -> None:
        while (admission := self._queue.admit(time.monotonic())) is not None:
            self._admitted.add(admission[1])
            self._changed.notify_all()
