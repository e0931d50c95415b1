"""The walk back through an owner's ids: each once, newest first, however they are spread."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

import pytest

from rowcast.ids import first_at, folder_of
from rowcast.store import time_index

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()


def id_at(seconds: float, number: int = 0) -> str:
    return str(UUID(int=int(seconds * 1000) << 80 | 7 << 76 | 2 << 62 | number))


class Store:
    """Folders of ids, listed in order as a store does; it counts requests, and the paths that it
    has sent."""

    def __init__(self, ids: Sequence[str]) -> None:
        paths = {str(folder_of("acme", each)) for each in ids}
        self.paths = {
            "/".join(path.split("/")[:n]) for path in paths for n in (2, 3, 4)
        }
        self.requests = self.sent = 0

    def __call__(self, folder: str, after: str, before: str) -> list[str]:
        inside = sorted(
            path for path in self.paths if path.rpartition("/")[0] == folder
        )
        found = [
            path
            for path in inside[bisect_right(inside, after) :]
            if path + "/" < before
        ]
        self.requests, self.sent = self.requests + 1, self.sent + len(found)
        return found


def spread(n: int, seconds: float) -> list[str]:
    """Return ids of the time before noon, newest first."""
    rng = random.Random(0)
    return sorted(
        (id_at(NOON - 1 - rng.random() * seconds, i) for i in range(n)), reverse=True
    )


SPREADS = {
    "few": spread(10, 3_000),
    "dense": spread(3_000, 3_000),
    "over days": spread(500, 300_000),
}


@pytest.mark.parametrize("ids", SPREADS.values(), ids=SPREADS)
def test_all_ids_come_once_newest_first(ids: list[str]) -> None:
    assert list(time_index.walk(Store(ids), "acme", None)) == ids


@pytest.mark.slow
@pytest.mark.parametrize("ids", SPREADS.values(), ids=SPREADS)
def test_pages_join_wherever_they_are_cut(ids: list[str]) -> None:
    for position in range(0, len(ids), 7):
        found = islice(time_index.walk(Store(ids), "acme", ids[position]), 10)
        assert list(found) == ids[position + 1 : position + 11]


def test_a_page_of_a_full_hour_does_not_list_all_of_it() -> None:
    store = Store(SPREADS["dense"])
    assert len(list(islice(time_index.walk(store, "acme", None), 20))) == 20
    assert store.sent < 100


def test_a_thinly_filled_hour_costs_one_request_but_the_first() -> None:
    store = Store([id_at(NOON - 3_600 * hour - 1) for hour in range(20)])
    assert len(list(time_index.walk(store, "acme", None))) == 20
    # The owner, the two days, twenty hours, and the windows of the first of them.
    assert store.requests <= 1 + 2 + 20 + 4


def test_ids_of_the_last_and_first_moment_of_an_hour_are_found() -> None:
    ids = [
        id_at(NOON),
        id_at(NOON - 0.001, 2),
        id_at(NOON - 0.001, 1),
        id_at(NOON - 3_600),
        id_at(NOON - 3_600.001),
    ]
    assert list(time_index.walk(Store(ids), "acme", None)) == ids


def test_ids_of_the_future_are_found() -> None:
    """Clocks of servers differ."""
    now = datetime.now(UTC)
    late = now.replace(minute=59, second=59, microsecond=0)
    ids = [id_at(late.timestamp()), id_at((now - timedelta(hours=1)).timestamp())]
    assert list(time_index.walk(Store(ids), "acme", None)) == ids


def test_ids_begin_with_their_time() -> None:
    before, of, after = (id_at(NOON + offset) for offset in (-0.001, 0, 0.001))
    assert before < first_at(NOON) < of < first_at(NOON + 0.001) < after
    assert of.startswith(first_at(NOON))
