"""The lanes that a worker takes from, and when it must not be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from rowcast.system import cores
from rowcast.workers.dispatch import Dispatcher, WorkerKind
from rowcast.workers.stop_request import StopRequest

Make = Callable[..., Dispatcher]


class EmptyQueue:
    """A queue without a job, which notes the lanes that it was asked for."""

    def __init__(self, stop: StopRequest) -> None:
        self.asked: list[list[str]] = []
        self.could_interrupt: list[bool] = []
        self._stop = stop

    def take(self, _worker: str, lanes: list[str], _ttl_s: float) -> None:
        self.asked.append(list(lanes))
        self.could_interrupt.append(self._stop.may_interrupt)

    def wait_for_job(self, _lanes: list[str], _timeout_s: float) -> bool:
        self.could_interrupt.append(self._stop.may_interrupt)
        self._stop.make()
        return True


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that makes a dispatcher, beside a wide job or not."""

    def made(
        kind: WorkerKind = "any", *, short_workers: int = 1, is_wide: bool = False
    ) -> Dispatcher:
        monkeypatch.setattr(cores, "is_any_wide", lambda _folder: is_wide)
        stop = StopRequest(grace_s=10)
        settings: Any = SimpleNamespace(
            short_workers=short_workers, cores_dir="", worker_ttl_s=15
        )
        standby: Any = SimpleNamespace(is_kept=True, drop_dead=lambda: None)
        queue: Any = EmptyQueue(stop)
        return Dispatcher(
            kind=kind,
            worker="a worker",
            settings=settings,
            queue=queue,
            standby=standby,
            stop=stop,
            heartbeat=lambda: None,
        )

    return made


def ended(lane: str) -> Any:
    return SimpleNamespace(job=SimpleNamespace(lane=lane))


def test_beside_workers_for_short_jobs_others_begin_with_the_long_lane(
    make: Make,
) -> None:
    assert make("any")._lanes_now() == ("long", "short")
    assert make("short")._lanes_now() == ("short",)


def test_without_workers_for_short_jobs_the_lanes_take_turns(make: Make) -> None:
    dispatcher = make(short_workers=0)
    assert dispatcher._lanes_now() == ("short", "long")
    dispatcher._last_lane = "short"
    assert dispatcher._lanes_now() == ("long", "short")
    dispatcher._last_lane = "long"
    assert dispatcher._lanes_now() == ("short", "long")


def test_beside_a_wide_job_only_workers_for_short_jobs_take_short_ones(
    make: Make,
) -> None:
    assert make("any", is_wide=True)._lanes_now() == ["long"]
    assert make("short", is_wide=True)._lanes_now() == ("short",)


def test_beside_a_wide_job_a_short_one_is_followed_by_a_rest(make: Make) -> None:
    dispatcher = make("short", short_workers=1, is_wide=True)
    dispatcher.note_end(ended("short"), 0.0)
    assert dispatcher._lanes_now() == ("short",)
    dispatcher.note_end(ended("short"), 60.0)
    assert dispatcher._lanes_now() == []


def test_signal_waits_while_a_job_is_being_taken_and_not_else(make: Make) -> None:
    dispatcher = make()
    assert dispatcher.next_order() is None
    queue: Any = dispatcher.queue
    assert queue.asked == [["long", "short"]]
    assert queue.could_interrupt == [False, True]


def test_worker_stays_uninterrupted_until_its_job_has_ended(make: Make) -> None:
    dispatcher = make()
    dispatcher.stop.may_interrupt = False
    dispatcher.note_end(ended("long"), 1.0)
    assert dispatcher.stop.may_interrupt
