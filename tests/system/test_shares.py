"""Places that owners share: whose turn it is, and what is kept for others."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from rowcast.system.shares import KEPT_S, FairGate, FairQueue


def line(n_places: int, **waiting: int) -> FairQueue[str]:
    """Return a queue of which so many items of each owner wait."""
    queue: FairQueue[str] = FairQueue(n_places, max_waiting=100)
    for owner, n_items in waiting.items():
        for number in range(n_items):
            assert queue.join(owner, f"{owner}-{number}", now=0)
    return queue


def admitted(queue: FairQueue[str], now: float = 0) -> list[str]:
    """Return the items that get a place now."""
    found = []
    while (admission := queue.admit(now)) is not None:
        found.append(admission[1])
    return found


def test_owner_alone_gets_all_places_in_the_order_of_arrival() -> None:
    queue = line(3, ann=5)
    assert admitted(queue) == ["ann-0", "ann-1", "ann-2"]
    queue.places.leave("ann")
    assert admitted(queue) == ["ann-3"]


def test_owners_take_turns() -> None:
    assert admitted(line(4, ann=9, bob=9)) == ["ann-0", "bob-0", "ann-1", "bob-1"]


@pytest.mark.parametrize("n_places", [2, 3, 4, 9])
def test_no_owner_gets_more_than_half_while_another_waits(n_places: int) -> None:
    chance = random.Random(n_places)
    queue = line(n_places)
    held: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for now in range(3_000):
        owner = chance.choice(["ann", "ann", "bob"])
        waiting[owner] += queue.join(owner, owner, now)
        while admission := queue.admit(now):
            owner, _ = admission
            waiting[owner] -= 1
            held[owner] += 1
            others_wait = waiting.total() > waiting[owner]
            assert held[owner] <= (n_places + 1) // 2 or not others_wait
        # Ann's work takes long.
        owner = chance.choice([*held.elements()])
        if owner == "bob" or chance.random() < 0.2:
            held[owner] -= 1
            queue.places.leave(owner)


def test_last_place_is_kept_for_those_who_asked_a_moment_ago() -> None:
    queue = line(2, bob=1)
    assert admitted(queue) == ["bob-0"]
    queue.places.leave("bob")
    for number in range(3):
        queue.join("ann", f"ann-{number}", now=1)
    assert admitted(queue, now=1) == ["ann-0"]
    assert queue.join("bob", "bob-1", now=2)
    assert admitted(queue, now=2) == ["bob-1"]
    queue.places.leave("bob")
    assert admitted(queue, now=2 + KEPT_S - 1) == []
    assert admitted(queue, now=2 + KEPT_S) == ["ann-1"]


def test_only_place_is_not_kept() -> None:
    queue = line(1, bob=1, ann=2)
    assert admitted(queue) == ["bob-0"]
    queue.places.leave("bob")
    assert admitted(queue) == ["ann-0"]


def test_line_is_bounded_and_half_of_it_is_left_to_others() -> None:
    queue: FairQueue[int] = FairQueue(0, max_waiting=4)
    assert [queue.join("ann", number, 0) for number in range(3)] == [True, True, False]
    assert [queue.join("bob", number, 0) for number in range(3)] == [True, True, False]
    assert not queue.join("eve", 0, 0)
    queue.withdraw("ann", 0)
    assert queue.join("eve", 0, 0)


def test_item_that_withdrew_is_not_admitted() -> None:
    queue = line(1, ann=1, bob=1)
    queue.withdraw("ann", "ann-0")
    assert admitted(queue) == ["bob-0"]
    with pytest.raises(KeyError):
        queue.withdraw("ann", "ann-0")


def test_places_may_be_added_and_lost() -> None:
    queue = line(0, ann=2)
    assert admitted(queue) == []
    queue.places.n_places = 2
    assert admitted(queue) == ["ann-0", "ann-1"]
    queue.places.n_places = 1
    queue.places.leave("ann")
    queue.join("ann", "ann-2", 0)
    assert admitted(queue) == []


def test_thread_waits_for_a_place_for_a_limited_time() -> None:
    gate = FairGate(1, max_waiting=2)
    with gate.place("ann", 1), pytest.raises(TimeoutError), gate.place("ann", 0.05):
        pass
    with gate.place("bob", 1):
        pass


def test_thread_gets_the_place_that_another_leaves() -> None:
    gate = FairGate(1, max_waiting=4)
    with ThreadPoolExecutor(2) as pool:

        def hold(owner: str) -> str:
            with gate.place(owner, 20):
                return owner

        with gate.place("ann", 1):
            waiting = [pool.submit(hold, owner) for owner in ("ann", "bob")]
        assert [each.result(20) for each in waiting] == ["ann", "bob"]
