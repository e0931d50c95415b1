"""The processes of a pool: looks that take too much time or memory, or kill their process."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkProcess

import numpy as np
import psutil
import pytest

from rowcast.config import Settings
from rowcast.errors import TableTooComplex
from rowcast.inspection import inspector, pool, protocol
from rowcast.inspection.protocol import Check, Findings, InspectorLost, Question, Read
from rowcast.system import messages
from rowcast.tables import Limits
from tests.faults.breaking import is_alive
from tests.support.waiting import eventually

SETTINGS = Settings(
    inspectors=1, inspection_timeout_s=1, inspection_memory_bytes=100_000_000
)
LIMITS = vars(Limits.of(SETTINGS))
Look = Callable[[], None]
ALL_IS_WELL = Findings(1, 2, "y")


@dataclass
class Pool:
    """A running pool, and the socket to it."""

    process: psutil.Process
    control: socket.socket

    def ask(self, kind: str) -> Findings:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.control, [b"?"], [theirs.fileno()])
        with messages.connection_of(ours, 10) as connection:
            protocol.wait_until_accepted(connection, 20)
            question = Question(1, LIMITS, Check.fit(kind, None))
            return protocol.ask(connection, question, lambda *_: b"x", 10)

    def inspectors(self) -> list[psutil.Process]:
        return self.process.children()


@pytest.fixture
def pool_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pool]]:
    """Return a function that starts a pool whose looks are functions of the test, by name."""
    started: list[tuple[ForkProcess, socket.socket]] = []

    def start(**looks: Look) -> Pool:
        monkeypatch.setattr(inspector, "inspect", _look_of(looks))
        ours, theirs = socket.socketpair()
        process = ForkProcess(target=_run, args=(ours, theirs))
        process.start()
        theirs.close()
        started.append((process, ours))
        return Pool(psutil.Process(process.pid), ours)

    yield start
    for process, control in started:
        control.close()
        process.join(10)
        assert process.exitcode == 0


def _run(ours: socket.socket, theirs: socket.socket) -> None:
    ours.close()
    pool.run(SETTINGS, theirs)


def _look_of(looks: dict[str, Look]) -> Callable[[Question, Read], Findings]:
    def look(question: Question, read: Read) -> Findings:
        looks.get(question.check.arguments["target"], lambda: None)()
        return ALL_IS_WELL

    return look


def never_end() -> None:
    while True:
        pass


def wait_for_ever() -> None:
    signal.pause()


def die() -> None:
    os._exit(3)


def take_memory() -> None:
    np.ones(2 * SETTINGS.inspection_memory_bytes // 8)


def take_memory_for_python() -> None:
    held: list[str] = []
    while True:
        held.append("x" * 1_000)


def keep_memory() -> None:
    np.ones(int(0.7 * SETTINGS.inspection_memory_bytes) // 8)


@pytest.mark.parametrize("look", [never_end, wait_for_ever, die])
def test_look_without_an_end_costs_one_question(
    pool_of: Callable[..., Pool], look: Look
) -> None:
    running = pool_of(bad=look)
    assert running.ask("good") == ALL_IS_WELL
    asked_at = time.monotonic()
    with pytest.raises(InspectorLost):
        running.ask("bad")
    assert time.monotonic() < asked_at + 8
    assert running.ask("good") == ALL_IS_WELL


@pytest.mark.parametrize("look", [take_memory, take_memory_for_python])
def test_look_that_takes_too_much_memory_is_too_complex(
    pool_of: Callable[..., Pool], look: Look
) -> None:
    running = pool_of(bad=look)
    running.ask("good")
    with pytest.raises((TableTooComplex, InspectorLost)):
        running.ask("bad")
    assert running.ask("good") == ALL_IS_WELL


def test_process_that_took_much_memory_is_replaced(
    pool_of: Callable[..., Pool],
) -> None:
    running = pool_of(large=keep_memory)
    running.ask("good")
    (first,) = running.inspectors()
    assert running.ask("large") == ALL_IS_WELL
    eventually(lambda: running.inspectors() and first not in running.inspectors())
    assert running.ask("good") == ALL_IS_WELL


def test_pool_ends_with_its_server_although_a_look_goes_on(
    pool_of: Callable[..., Pool],
) -> None:
    running = pool_of(bad=never_end)
    running.ask("good")
    processes = [running.process, *running.inspectors()]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(running.control, [b"?"], [theirs.fileno()])
        running.control.close()
        eventually(lambda: not any(map(is_alive, processes)))
