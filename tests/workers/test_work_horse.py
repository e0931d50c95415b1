"""A work horse as its worker sees it: how long it works, and how it ended."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from rowcast.workers.report_pipe import ReportPipe
from rowcast.workers.work_horse import HANGS_S, WorkHorse

Run = Callable[..., WorkHorse]


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets the clock, in seconds from the start of the test."""
    now = 0.0

    def set_to(seconds: float) -> None:
        nonlocal now
        now = seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    return set_to


@pytest.fixture
def run() -> Iterator[Run]:
    """Return a function that starts a process as a work horse, which reports nothing itself."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, **pipes: int) -> WorkHorse:
        started.append(subprocess.Popen(command))
        return WorkHorse(started[-1].pid, **pipes)

    yield start
    for process in started:
        process.kill()
        process.wait()


def look(seen: WorkHorse, set_to: Callable[[float], None], *at_s: float) -> float:
    """Wait for the work horse at these times, and return the seconds that it has worked."""
    for each in at_s:
        set_to(each)
        seen.wait(0)
    return round(seen.worked_s, 3)


@pytest.mark.parametrize(
    ("said", "worked_s"),
    [
        ([], 1),
        (["downloading"], 1),
        (["fitting"], 10),
        (["uploading"], 0),
        (["fitting", "ending"], 0),
    ],
)
def test_waiting_for_the_store_does_not_count_as_work(
    run: Run,
    hours: Callable[[float], None],
    said: list[str],
    worked_s: float,
) -> None:
    reader, writer = os.pipe()
    seen = run("sleep", "60", reader=reader)
    reports = ReportPipe(writer)
    for each in said:
        if each == "ending":
            reports.send_ending()
        else:
            reports.send_progress({"phase": each})
    look(seen, hours, 0)
    assert look(seen, hours, 1, 2, 3, 10) == worked_s
    os.close(writer)


def test_a_download_that_reports_progress_counts_as_work(
    run: Run, hours: Callable[[float], None]
) -> None:
    reader, writer = os.pipe()
    seen, reports = run("sleep", "60", reader=reader), ReportPipe(writer)
    for second in range(10):
        reports.send_progress({"phase": "downloading"})
        look(seen, hours, second, second + 0.5)
    assert seen.worked_s == 9.5
    os.close(writer)


def test_a_silence_that_is_too_long_counts_as_work(
    run: Run, hours: Callable[[float], None]
) -> None:
    reader, writer = os.pipe()
    seen = run("sleep", "60", reader=reader)
    assert look(seen, hours, 1, HANGS_S - 1) == 1
    assert look(seen, hours, HANGS_S, HANGS_S + 10) == 12
    os.close(writer)


def test_waiting_for_a_job_does_not_count_as_work(
    run: Run, hours: Callable[[float], None]
) -> None:
    (reader, writer), (order, orders) = os.pipe(), os.pipe()
    seen = run("sleep", "60", reader=reader, orders=orders)
    look(seen, hours, 1, HANGS_S, 2 * HANGS_S)
    seen.send_order(b'{"id": "a job"}\n')
    assert look(seen, hours, 2 * HANGS_S + 0.5) == 0.5
    assert os.read(order, 100) == b'{"id": "a job"}\n'
    for end in (writer, order):
        os.close(end)
    seen.dismiss()


@pytest.mark.parametrize(
    ("command", "was_killed"),
    [("kill -9 $$", True), ("kill -6 $$", False), ("exit 3", False)],
)
def test_how_it_ended_is_known(run: Run, command: str, *, was_killed: bool) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    seen = run("sh", "-c", command, reader=reader)
    assert seen.wait(10)
    assert seen.was_killed == was_killed
