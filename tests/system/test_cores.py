"""Jobs share the cores. Here each job is a process, forked from one with all imports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rowcast.system import cores
from rowcast.system.cores import BIG_CELLS
from tests.support import ROOT
from tests.support.waiting import eventually

# Every connection is a job: a fork that takes a seat on command, and reports its cores and its
# limits of threads. The number of cores and the other programs are those of a simulated machine.
JOB_FACTORY = """
import json, os, pathlib, signal, socket, sys
import joblib, pyarrow, sklearn.ensemble, threadpoolctl
from rowcast.system import cores

def limits():
    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return {"arrow": pyarrow.cpu_count(), "joblib": joblib.effective_n_jobs(None), "pools": pools}

def held(seat):
    return {"n_cores": len(seat.cores), "overflows": seat.overflow is not None, **limits()}

def run(commands, answer):
    machine = commands()
    if machine["n_cores"]:
        joblib.cpu_count = os.cpu_count = lambda: machine["n_cores"]
    cores._STAT = pathlib.Path(machine["stat"])
    answer(pid=os.getpid())
    while commands() == "seat":
        with cores.seat(machine["folder"]) as seat:
            answer(**held(seat))
            while (work := commands()) != "leave":
                others_wait = lambda: work["n_waiting"] > 0
                with seat.threads(n_cells=work["n_cells"], others_wait=others_wait) as n:
                    answer(n_threads=n, **held(seat))
        answer()

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    if os.fork() == 0:
        stream = connection.makefile("rw")
        answer = lambda **what: print(json.dumps(what), file=stream, flush=True)
        run(lambda: json.loads(stream.readline()), answer)
    connection.close()
"""


class Job:
    """A process that takes a seat on command."""

    def __init__(self, port: int, machine: dict[str, Any]) -> None:
        """Have the job_factory on that port fork it."""
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            self._stream = connection.makefile("rw")
        self._pid = self._tell(machine)["pid"]

    def _tell(self, message: Any) -> dict[str, Any]:
        self._stream.write(f"{json.dumps(message)}\n")
        self._stream.flush()
        return dict(json.loads(self._stream.readline()))

    def sit(self) -> dict[str, Any]:
        return self._tell("seat")

    def compute(
        self, *, n_cells: int = BIG_CELLS, n_waiting: int = 0
    ) -> dict[str, Any]:
        return self._tell({"n_cells": n_cells, "n_waiting": n_waiting})

    def leave(self) -> None:
        self._tell("leave")

    def kill(self) -> None:
        if not self._stream.closed:
            os.kill(self._pid, signal.SIGKILL)
            eventually(
                lambda: (
                    not Path(f"/proc/{self._pid}").exists()
                    and self._stream.read() == ""
                )
            )
            self._stream.close()


StartJobs = Callable[..., list[Job]]


@pytest.fixture(scope="module")
def job_factory() -> Iterator[int]:
    """Return the port of the process that forks the jobs."""
    with subprocess.Popen(
        [sys.executable, "-c", JOB_FACTORY], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


@pytest.fixture
def start_jobs(job_factory: int, tmp_path: Path) -> Iterator[StartJobs]:
    """Return a function that starts n jobs on a machine of so many cores (0: this one) and busy
    programs."""
    jobs: list[Job] = []

    def start(n: int, *, n_cores: int, n_busy: int = 0) -> list[Job]:
        stat = tmp_path / "stat"
        # The kernel counts the job itself, too.
        stat.write_text(f"cpu 1 2 3\nprocs_running {n_busy + 1}\nprocs_blocked 0\n")
        machine = {
            "folder": str(tmp_path / "cores"),
            "stat": str(stat),
            "n_cores": n_cores,
        }
        jobs.extend(Job(job_factory, machine) for _ in range(n))
        return jobs[-n:]

    yield start
    for job in jobs:
        job.kill()


@pytest.mark.slow
def test_big_job_alone_takes_all_cores(start_jobs: StartJobs) -> None:
    (job,) = start_jobs(1, n_cores=3)
    assert job.sit()["n_cores"] == 1
    assert job.compute()["n_threads"] == 3


def test_small_job_takes_one_core(start_jobs: StartJobs) -> None:
    (job,) = start_jobs(1, n_cores=3)
    job.sit()
    assert job.compute(n_cells=BIG_CELLS - 1)["n_threads"] == 1


def test_big_job_takes_one_core_while_others_wait(start_jobs: StartJobs) -> None:
    (job,) = start_jobs(1, n_cores=3)
    job.sit()
    assert job.compute(n_waiting=1)["n_threads"] == 1


def test_big_job_takes_one_core_while_other_programs_are_busy(
    start_jobs: StartJobs,
) -> None:
    (job,) = start_jobs(1, n_cores=3, n_busy=1)
    job.sit()
    assert job.compute()["n_threads"] == 1


def test_job_takes_one_core_of_two_while_another_has_a_seat(
    start_jobs: StartJobs,
) -> None:
    first, second = start_jobs(2, n_cores=2)
    first.sit()
    second.sit()
    assert [job.compute()["n_threads"] for job in (first, second)] == [1, 1]


def test_job_takes_what_another_has_left(start_jobs: StartJobs) -> None:
    first, second = start_jobs(2, n_cores=2)
    first.sit()
    second.sit()
    first.leave()
    assert second.compute()["n_threads"] == 2


def test_two_big_jobs_together_hold_no_more_cores_than_there_are(
    start_jobs: StartJobs,
) -> None:
    first, second = start_jobs(2, n_cores=4)
    first.sit()
    second.sit()
    assert first.compute()["n_cores"] + second.compute()["n_cores"] == 4


def test_job_without_a_free_core_overflows_and_runs_one_thread(
    start_jobs: StartJobs,
) -> None:
    first, second = start_jobs(2, n_cores=1)
    first.sit()
    assert second.sit()["overflows"]
    computing = second.compute()
    assert (computing["n_cores"], computing["n_threads"], computing["overflows"]) == (
        0,
        1,
        True,
    )


def test_any_number_of_jobs_may_overflow(start_jobs: StartJobs) -> None:
    jobs = start_jobs(4, n_cores=1)
    assert [job.sit()["overflows"] for job in jobs] == [False, True, True, True]


def test_overflowing_job_moves_to_a_free_core(start_jobs: StartJobs) -> None:
    first, second, third = start_jobs(3, n_cores=1)
    first.sit()
    second.sit()
    first.leave()
    moved = second.compute()
    assert (moved["n_cores"], moved["overflows"]) == (1, False)
    assert third.sit()["overflows"]


def test_overflowing_job_that_is_alone_by_then_takes_all_cores(
    start_jobs: StartJobs,
) -> None:
    first, second = start_jobs(2, n_cores=3)
    first.sit()
    first.compute()
    assert second.sit()["overflows"]
    first.leave()
    assert second.compute()["n_threads"] == 3


def test_no_job_takes_more_than_one_core_while_another_overflows(
    start_jobs: StartJobs,
) -> None:
    first, second, third = start_jobs(3, n_cores=2)
    first.sit()
    second.sit()
    assert third.sit()["overflows"]
    first.leave()
    assert second.compute()["n_threads"] == 1
    assert third.compute()["n_cores"] == 1


def test_killed_job_frees_its_cores_immediately(start_jobs: StartJobs) -> None:
    first, second = start_jobs(2, n_cores=2)
    first.sit()
    assert first.compute()["n_cores"] == 2
    first.kill()
    second.sit()
    assert second.compute()["n_cores"] == 2


def test_killed_job_that_overflowed_blocks_no_other_job(start_jobs: StartJobs) -> None:
    first, second, third = start_jobs(3, n_cores=2)
    first.sit()
    second.sit()
    assert third.sit()["overflows"]
    first.kill()
    third.kill()
    assert second.compute()["n_threads"] == 2


def test_seat_can_be_taken_again_after_leaving(start_jobs: StartJobs) -> None:
    (job,) = start_jobs(1, n_cores=2)
    job.sit()
    job.compute()
    job.leave()
    assert job.sit()["n_cores"] == 1
    assert job.compute()["n_cores"] == 2


def test_arrow_reads_with_one_thread_until_more_are_given(
    start_jobs: StartJobs,
) -> None:
    (job,) = start_jobs(1, n_cores=3)
    assert job.sit()["arrow"] == 1
    assert job.compute()["arrow"] == 3


@pytest.mark.parametrize("n_waiting", [0, 1])
def test_no_library_starts_more_threads_than_cores_are_held(
    n_waiting: int, start_jobs: StartJobs
) -> None:
    (job,) = start_jobs(1, n_cores=0)
    job.sit()
    computing = job.compute(n_waiting=n_waiting)
    limits = [computing["arrow"], computing["joblib"], *computing["pools"]]
    assert len(limits) > 3
    assert max(limits) == computing["n_cores"] == computing["n_threads"]


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"),
    reason="this system cannot bind processes to cores",
)
def test_cores_are_those_that_the_process_may_run_on(tmp_path: Path) -> None:
    code = f"""
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from rowcast.system import cores
with cores.seat({str(tmp_path)!r}) as seat:
    print(seat.n_cores)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "1\n"


def test_a_job_that_wants_all_cores_waits_for_warm_ups(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    (job,) = start_jobs(1, n_cores=4, n_busy=1)
    job.sit()
    with ThreadPoolExecutor(1) as pool:
        with cores.warm_up(tmp_path / "cores") as may_compute:
            assert may_compute
            computing = pool.submit(job.compute)
            time.sleep(0.05)
            # Who warms up is what keeps the machine busy.
            (tmp_path / "stat").write_text("procs_running 1\n")
        assert computing.result()["n_cores"] == 4


def test_no_warm_up_runs_beside_a_job_on_several_cores(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    (job,) = start_jobs(1, n_cores=4)
    job.sit()
    assert job.compute()["n_cores"] == 4
    with cores.warm_up(tmp_path / "cores") as may_compute:
        assert not may_compute
    job.leave()
    with cores.warm_up(tmp_path / "cores") as may_compute:
        assert may_compute
