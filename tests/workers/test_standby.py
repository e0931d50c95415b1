"""Standby work horses: a worker that waits has a work horse ready, which runs its next job and
nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support import ROOT
from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import slow_table, table
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def alone(start_stack: StartStack) -> Stack:
    """Return a stack with one worker, which takes every job."""
    return start_stack(workers=1, SHORT_WORKERS="0")


def standby_of(stack: Stack) -> psutil.Process:
    """Return the standby work horse once it is ready."""
    (standby,) = eventually(stack.standby_horses)
    assert isinstance(standby, psutil.Process)
    return standby


def slow_job(stack: Stack) -> str:
    return stack.fit(slow_table(), validation="none")


def horse_of(stack: Stack, job: str) -> psutil.Process:
    (horse,) = eventually(
        lambda: stack.status(job)["status"] == "started" and stack.horses()
    )
    assert isinstance(horse, psutil.Process)
    return horse


def folders_of(stack: Stack, name: str = "*") -> list[Path]:
    return list((stack.data / "scratch").glob(f"{name}/"))


def stopped_in_warm_up(stack: Stack) -> psutil.Process:
    """Run jobs until the work horse after one is caught before it is ready."""

    def caught() -> psutil.Process | None:
        stack.finished(stack.fit(table(100, 3), validation="none"))
        (horse,) = eventually(stack.warming_horses)
        horse.suspend()
        if horse.name() == "warm-up" and folders_of(stack, "job-warm-up-*"):
            return horse
        horse.resume()
        return None

    found: psutil.Process = eventually(caught, timeout_s=60)
    return found


def test_the_standby_horse_runs_the_next_job_and_no_other(alone: Stack) -> None:
    standby = standby_of(alone)
    job = slow_job(alone)
    assert horse_of(alone, job) == standby
    assert not alone.standby_horses()
    alone.finished(job)
    assert standby_of(alone).pid != standby.pid
    assert not standby.is_running()


@contextmanager
def watched(look: Callable[[], list[psutil.Process]]) -> Iterator[set[int]]:
    """Look repeatedly; the set holds the ids of all processes that were seen."""
    seen: set[int] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            with suppress(psutil.Error):
                seen.update(process.pid for process in look())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()


def test_jobs_that_wait_have_no_warm_up_between_them(alone: Stack) -> None:
    standby_of(alone)
    with alone.frozen():
        jobs = [slow_job(alone) for _ in range(3)]
    with watched(alone.warming_horses) as warming:
        for job in jobs[:-1]:
            horse_of(alone, job)
            assert alone.post("/cancel", id=job).ok
        horse_of(alone, jobs[-1])
        assert not warming
        assert alone.post("/cancel", id=jobs[-1]).ok
        standby_of(alone)
    assert warming


def test_a_standby_horse_that_was_killed_is_replaced(alone: Stack) -> None:
    standby = standby_of(alone)
    standby.kill()
    eventually(lambda: not standby.is_running())
    standby_of(alone)


def test_a_standby_horse_that_was_killed_costs_no_attempt(alone: Stack) -> None:
    standby = standby_of(alone)
    with alone.frozen():
        job = alone.fit(table(), validation="none")
        standby.kill()
        eventually(lambda: standby.status() == psutil.STATUS_ZOMBIE)
    status = alone.finished(job)
    assert (status["attempts"], status["earlier"]) == (1, [])


def test_a_horse_that_still_warms_up_is_not_waited_for(alone: Stack) -> None:
    dataset = alone.upload(slow_table())
    warming = stopped_in_warm_up(alone)
    params = '{"max_iter": 10}'
    job = submitted(alone.post("/fit", id=dataset, validation="none", params=params))
    assert horse_of(alone, job) != warming
    assert not warming.is_running()
    alone.finished(job)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_standby_horse_goes_with_its_worker(
    alone: Stack, how: signal.Signals
) -> None:
    standby = standby_of(alone)
    standby.parent().send_signal(how)
    eventually(lambda: not standby.is_running())
    alone.finished(alone.fit(table(), validation="none"))


def test_a_service_that_stops_leaves_no_scratch_folder(start_stack: StartStack) -> None:
    stack = start_stack(workers=1, SHORT_WORKERS="0", ONLINE_WORKERS="1")
    stopped_in_warm_up(stack)
    assert folders_of(stack, "job-online-*")
    stack.stop()
    assert folders_of(stack) == []


@pytest.mark.slow
def test_a_warm_up_starts_no_thread_and_no_program(tmp_path: Path) -> None:
    code = f"""
import os, sys
from rowcast.workers import program
import ml
from pathlib import Path
from rowcast.config import Settings
from rowcast.workers.warmup import warm_up
ml.warm_up()
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
before = os.listdir("/proc/self/task")
starts = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system")
sys.addaudithook(lambda event, _: os._exit(3) if event in starts else None)
folder = Path({str(tmp_path)!r})
warm_up(Settings(s3_endpoint="http://127.0.0.1:9", cores_dir=str(folder / "cores")), folder)
if not (folder / "result").exists():
    os._exit(5)
os._exit(0 if os.listdir("/proc/self/task") == before else 4)
"""
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode
        == 0
    )
