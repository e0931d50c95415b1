"""The memory limit of a job, and the memory that counts, with real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from rowcast.config import Settings
from rowcast.system import memory
from rowcast.system.memory import Meter
from tests.support import ROOT
from tests.support.waiting import eventually

MB = 1_000_000
PAGE = 4096
START = f"""
import mmap, os, sys

def map_(n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, file=-1):
    return mmap.mmap(file, n_bytes, flags=flags)

def touch(memory):
    for place in range(0, len(memory), {PAGE}):
        memory[place] = 1

def read(memory):
    return sum(memory[place] for place in range(0, len(memory), {PAGE}))

def say(word):
    print(word, flush=True)
    sys.stdin.readline()
"""


@dataclass
class Child:
    """A process that does one step after the other, and waits in between."""

    process: subprocess.Popen[str]

    def step(self) -> str:
        """Let it go on, and return what it says when it waits again."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.said()

    def said(self) -> str:
        assert self.process.stdout is not None
        word = self.process.stdout.readline().strip()
        assert word
        return word


@contextmanager
def child(code: str, *arguments: str) -> Iterator[Child]:
    """Run code until it says something for the first time."""
    command = [sys.executable, "-c", START + code, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        started = Child(process)
        try:
            started.said()
            yield started
        finally:
            process.kill()


def is_about(n_bytes: int, expected: int) -> bool:
    # A Python without anything takes 7 MB.
    return expected <= n_bytes < expected + 25 * MB


# What counts


@pytest.mark.parametrize("flags", ["mmap.MAP_PRIVATE", "mmap.MAP_SHARED"])
def test_memory_that_is_used_counts(flags: str) -> None:
    with child(
        f"m = map_({200 * MB}, {flags} | mmap.MAP_ANONYMOUS); touch(m); say('ready')"
    ) as found:
        meter = Meter(found.process.pid, 150 * MB)
        assert meter.is_over()
        assert is_about(meter.peak_bytes, 200 * MB)
        assert not Meter(found.process.pid, 300 * MB).is_over()


def test_memory_that_is_only_reserved_does_not_count() -> None:
    with child(f"m = map_({2000 * MB}); say('ready')") as found:
        meter = Meter(found.process.pid, 50 * MB)
        assert not meter.is_over()
        assert is_about(meter.peak_bytes, 0)


def test_pages_of_a_mapped_file_do_not_count() -> None:
    # Not in the folder of temporary files, which may lie in memory, where its pages do count.
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        file.write(b"x" * 200 * MB)
        file.flush()
        code = (
            f"m = map_({200 * MB}, mmap.MAP_SHARED, os.open(sys.argv[1], os.O_RDWR)); "
            "read(m); say('ready')"
        )
        with child(code, file.name) as found:
            assert psutil.Process(found.process.pid).memory_info().rss > 200 * MB
            meter = Meter(found.process.pid, 50 * MB)
            assert not meter.is_over()
            assert is_about(meter.peak_bytes, 0)


def test_memory_that_was_given_back_does_not_count() -> None:
    code = f"m = map_({200 * MB}); touch(m); m.madvise(mmap.MADV_FREE); say('ready')"
    with child(code) as found:
        assert psutil.Process(found.process.pid).memory_info().rss > 200 * MB
        assert not Meter(found.process.pid, 50 * MB).is_over()


def test_a_fork_is_charged_for_its_part_until_it_writes() -> None:
    code = f"""
m = map_({200 * MB})
touch(m)
if not (fork := os.fork()):
    say(os.getpid())
    touch(m)
    say('written')
os.waitpid(fork, 0)
"""
    with child(
        code.replace("say(os.getpid())", "say('ready'); say(os.getpid())")
    ) as found:
        pid = int(found.step())
        try:
            meter = Meter(pid, 150 * MB)
            assert psutil.Process(pid).memory_info().rss > 200 * MB
            assert not meter.is_over()
            assert is_about(meter.peak_bytes, 100 * MB)
            found.step()
            # No cheap figure shows that the pages are its own now.
            eventually(meter.is_over)
            assert is_about(meter.peak_bytes, 200 * MB)
        finally:
            os.kill(pid, 9)


def test_a_job_that_grows_is_over_at_the_next_check() -> None:
    code = f"""
say('ready')
parts = []
for _ in range(4):
    parts.append(map_({50 * MB}))
    touch(parts[-1])
    say('more')
"""
    with child(code) as found:
        meter = Meter(found.process.pid, 180 * MB)
        verdicts = [meter.is_over()]
        for _ in range(4):
            found.step()
            verdicts.append(meter.is_over())
    assert verdicts == [False, False, False, False, True]
    assert is_about(meter.peak_bytes, 200 * MB)


def test_peak_follows_growth_that_needs_no_exact_reading() -> None:
    more = f"more = map_({20 * MB}); touch(more); say('more')"
    with child(f"m = map_({200 * MB}); touch(m); say('ready'); {more}") as found:
        meter = Meter(found.process.pid, 500 * MB)
        meter.is_over()
        before = meter.peak_bytes
        found.step()
        meter.is_over()
    assert 19 * MB < meter.peak_bytes - before < 25 * MB


def test_peak_stays_when_memory_is_returned() -> None:
    with child(
        f"m = map_({100 * MB}); touch(m); say('ready'); m.close(); say('less')"
    ) as found:
        meter = Meter(found.process.pid, 500 * MB)
        meter.is_over()
        found.step()
        assert not meter.is_over()
        assert is_about(memory.held_bytes(found.process.pid), 0)
        assert is_about(meter.peak_bytes, 100 * MB)


def test_measuring_ten_times_a_second_costs_less_than_a_hundredth_of_the_time() -> None:
    with child(f"m = map_({200 * MB}); touch(m); say('ready')") as found:
        meter = Meter(found.process.pid, 300 * MB)
        meter.is_over()

        def took_s() -> float:
            started = time.perf_counter()
            meter.is_over()
            return time.perf_counter() - started

        assert min(took_s() for _ in range(50)) < 0.001


# Processes that end


def test_a_process_that_ended_is_not_over() -> None:
    with child(f"m = map_({100 * MB}); touch(m); say('ready')") as found:
        meter = Meter(found.process.pid, 50 * MB)
        assert meter.is_over()
        found.process.kill()
        # First it is a zombie, then it is gone.
        eventually(
            lambda: psutil.Process(found.process.pid).status() == psutil.STATUS_ZOMBIE
        )
        assert not meter.is_over()
        found.process.wait()
        assert not meter.is_over()
        assert is_about(meter.peak_bytes, 100 * MB)
        assert not Meter(found.process.pid, 0).is_over()


def test_nothing_is_over_on_a_machine_without_proc(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    meter = Meter(os.getpid(), 1)
    assert not meter.is_over()
    assert meter.peak_bytes == 0
    assert memory.oom_kills(tmp_path) == 0
    assert memory.total_bytes(tmp_path) == pytest.approx(
        psutil.virtual_memory().total, rel=0.05
    )
    memory.die_first()


def test_in_a_sandbox_with_fewer_figures_resident_memory_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tpython\nVmRSS:\t  1000 kB\n")
    meter = Meter(7, 1_000_000)
    assert meter.is_over()
    assert meter.peak_bytes == 1_024_000


def test_failure_names_limit_and_peak() -> None:
    with child(f"m = map_({200 * MB}); touch(m); say('ready')") as found:
        meter = Meter(found.process.pid, 150 * MB)
        assert meter.is_over()
    for error in (meter.failure(), meter.failure(memory.RAN_OUT)):
        assert error.code == "out_of_memory"
        assert "the limit is 150 MB" in error.detail
        assert f"{meter.peak_bytes / 1e6:.0f} MB" in error.detail
    assert "system ended the job" in error.detail


def test_refused_memory_is_a_failure_with_limit_and_peak() -> None:
    error = memory.refused(150 * MB)
    assert error.code == "out_of_memory"
    assert re.search("It used at most [0-9,]+ MB; the limit is 150 MB.", error.detail)


# The limit


MountedAt = Callable[..., Path]


@pytest.fixture
def machine(tmp_path: Path) -> MountedAt:
    """Return a function that makes a /proc of 8 GB as a process in a control group sees it."""

    def make(cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
        proc, mount = tmp_path / "proc", tmp_path / "cgroup"
        for name, text in files.items():
            (mount / name).parent.mkdir(parents=True, exist_ok=True)
            (mount / name).write_text(text)
        (proc / "self").mkdir(parents=True)
        (proc / "self/cgroup").write_text(cgroup)
        (proc / "self/mountinfo").write_text(mountinfo.replace("MOUNT", str(mount)))
        (proc / "meminfo").write_text("MemTotal:        8000000 kB\nMemFree:  1 kB\n")
        (proc / "vmstat").write_text("nr_free_pages 5\noom_kill 9\n")
        return proc

    return make


ROOTED = "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
V2 = ROOTED + "30 22 0:26 / MOUNT rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    ROOTED
    + "31 22 0:27 / MOUNT/cpu rw - cgroup cgroup rw,cpu\n"
    + "32 22 0:28 {root} MOUNT/memory rw - cgroup cgroup rw,memory\n"
)
IN_V1 = "9:cpu:/\n4:memory:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "expected"),
    [
        ("0::/\n", V2, {}, 8_192_000_000),
        ("0::/\n", V2, {"memory.max": "4000000000\n"}, 4_000_000_000),
        ("0::/\n", V2, {"memory.max": "max\n"}, 8_192_000_000),
        (
            "0::/a/b\n",
            V2,
            {"a/b/memory.max": "max\n", "a/memory.max": "1000000000\n"},
            1_000_000_000,
        ),
        ("0::/a/b\n", V2, {"a/b/memory.max": "2000\n", "a/memory.max": "3000\n"}, 2000),
        ("0::/a\n", V2, {"a/memory.max": "max\n", "a/memory.high": "5000\n"}, 5000),
        (
            "0::/a\n",
            V2,
            {"a/memory.max": "max\n", "b/memory.max": "5000\n"},
            8_192_000_000,
        ),
        ("0::/../b\n", V2, {"memory.max": "6000\n"}, 6000),
        (
            IN_V1,
            V1.format(root="/"),
            {"memory/docker/abc/memory.limit_in_bytes": "3000\n"},
            3000,
        ),
        (
            IN_V1,
            V1.format(root="/"),
            {"memory/docker/memory.limit_in_bytes": "3000\n"},
            3000,
        ),
        (
            IN_V1,
            V1.format(root="/docker/abc"),
            {"memory/memory.limit_in_bytes": "3000\n"},
            3000,
        ),
        (
            IN_V1,
            V1.format(root="/"),
            {
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "cpu/memory.limit_in_bytes": "1\n",
            },
            8_192_000_000,
        ),
    ],
)
def test_memory_is_that_of_the_machine_or_of_the_smallest_container_around(
    machine: MountedAt,
    cgroup: str,
    mountinfo: str,
    files: dict[str, str],
    expected: int,
) -> None:
    assert memory.total_bytes(machine(cgroup, mountinfo, files)) == expected


def test_limit_of_this_machine_leaves_room_for_the_workers() -> None:
    total = memory.total_bytes()
    assert 0 < total <= psutil.virtual_memory().total
    own = memory.resting_bytes(os.getpid())
    assert own > 50 * MB
    for n_workers in (1, 2, 7):
        limit = memory.limit_per_job(Settings(), n_workers)
        assert n_workers * (limit + memory.WORKER_BYTES) + own < total
        assert n_workers * limit > 0.5 * total


def test_limit_is_the_setting_where_there_is_one() -> None:
    assert memory.limit_per_job(Settings(job_memory_bytes=123_456), 4) == 123_456


def test_limit_lets_the_smallest_job_run_however_many_workers_there_are() -> None:
    assert memory.limit_per_job(Settings(), 1_000_000) == memory.LEAST_JOB_BYTES


# The kernel's killer


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "expected"),
    [
        (
            "0::/a\n",
            V2,
            {"a/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 7\n"},
            2,
        ),
        (
            IN_V1,
            V1.format(root="/"),
            {"memory/docker/abc/memory.oom_control": "under_oom 0\noom_kill 4\n"},
            4,
        ),
        ("0::/\n", V2, {}, 9),
    ],
)
def test_kills_are_counted_where_the_kernel_counts_them(
    machine: MountedAt,
    cgroup: str,
    mountinfo: str,
    files: dict[str, str],
    expected: int,
) -> None:
    assert memory.oom_kills(machine(cgroup, mountinfo, files)) == expected


def test_a_work_horse_goes_before_its_worker() -> None:
    code = (
        "from rowcast.system import memory; memory.die_first(); "
        "print(open('/proc/self/oom_score_adj').read())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1000"
    assert int(Path("/proc/self/oom_score_adj").read_text()) < 1000
