"""Seats for requests that wait: an owner alone may have all, and gives some up for others."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from rowcast.api.waiting import Seat, WaitingRoom


def seated(room: WaitingRoom, stack: ExitStack, **n_seats: int) -> list[Seat]:
    """Ask for so many seats for each owner, in this order."""
    return [
        stack.enter_context(room.seat(owner))
        for owner, n in n_seats.items()
        for _ in range(n)
    ]


def held(seats: list[Seat]) -> Counter[str]:
    """Return how many seats each owner has."""
    return Counter(seat.owner for seat in seats if seat.may_stay())


def test_owner_alone_gets_all_seats_and_no_more() -> None:
    with ExitStack() as stack:
        seats = seated(WaitingRoom(4), stack, ann=5)
        assert [seat.may_stay() for seat in seats] == [True] * 4 + [False]


def test_owner_with_most_seats_gives_up_its_oldest_for_another() -> None:
    with ExitStack() as stack:
        room = WaitingRoom(4)
        seats = seated(room, stack, ann=4, bob=1)
        assert [seat.may_stay() for seat in seats] == [False, True, True, True, True]
        seats += seated(room, stack, bob=3, ann=3)
        assert held(seats) == {"ann": 2, "bob": 2}


def test_two_owners_cannot_keep_out_a_third() -> None:
    with ExitStack() as stack:
        seats = seated(WaitingRoom(8), stack, ann=4, bob=4, eve=2)
        assert held(seats) == {"ann": 3, "bob": 3, "eve": 2}


def test_seats_are_free_again_when_their_callers_have_left() -> None:
    room = WaitingRoom(2)
    for _ in range(3):
        with ExitStack() as stack:
            seats = seated(room, stack, ann=2, bob=1)
            assert held(seats) == {"ann": 1, "bob": 1}
    with ExitStack() as stack:
        assert held(seated(room, stack, ann=3)) == {"ann": 2}


def test_threads_of_callers_that_have_not_left_yet_are_bounded() -> None:
    with ExitStack() as stack:
        room = WaitingRoom(4)
        seats = seated(room, stack, ann=4)
        for number in range(9):
            seats += seated(room, stack, **{f"other-{number}": 1})
        n_threads = sum(seat.was_given for seat in seats)
        assert n_threads == 4 + 2
