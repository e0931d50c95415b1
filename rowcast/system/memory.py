"""The memory of jobs: the limit of a job, and the meter that a worker reads.

A job is charged for what the kernel cannot take back while the job lives: anonymous and shared
memory, in RAM or swapped out. Each page is divided by the number of processes that share it (PSS),
so a work horse pays its part of what it has shared with its worker since the fork. Pages of mapped
files, and pages given back with MADV_FREE, do not count: the kernel drops them when it needs them,
before it kills a process, so a job must not fail for them.

All figures come from /proc and from the control groups of Linux. Elsewhere no job exceeds a limit.
"""

from __future__ import annotations

import os
import re
import resource
import time
from contextlib import suppress
from pathlib import Path

from rowcast.config import Settings
from rowcast.errors import OutOfMemory
from rowcast.system import control_groups

# A waiting worker has 9 MB of its own beside what it shares with its pool, measured after ten jobs.
# It shares less the more it writes; this leaves room for three times as much.
WORKER_BYTES = 32_000_000
# A job is checked ten times a second, and can use up to 270 MB more per thread in between. This
# part of all memory, up to this many bytes, stays free, so our meter is usually faster than the
# kernel's killer.
MARGIN_PART, MARGIN_BYTES = 16, 512_000_000
# A job of a few rows needs 40 to 80 MB.
LEAST_JOB_BYTES = 100_000_000

# Reading PSS takes 9 ms per gigabyte, during which the job cannot map memory. It is read when the
# cheap figure has grown by this part, and when that figure is over the limit, with pauses of this
# many times the reading's duration.
GROWTH_PART = 8
REST_TIMES = 50

RAN_OUT = (
    "The memory of the machine or container ran out, and the system ended the job."
)

_PROC = Path("/proc")
_KILOBYTES = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


# The limit


def limit_per_job(settings: Settings, n_workers: int) -> int:
    """Return the memory limit of a job, in bytes.

    Without JOB_MEMORY_BYTES it is an equal share for each of `n_workers` jobs in parallel. The
    shares are of the container's limit or the machine's memory, whichever is smaller, less the
    memory of the pool, its workers and maintenance process, and a margin.

    Call it in the pool, after its imports and before it forks.
    """
    if settings.job_memory_bytes:
        return settings.job_memory_bytes
    total = total_bytes()
    margin = min(total // MARGIN_PART, MARGIN_BYTES)
    overhead = resting_bytes(os.getpid()) + (n_workers + 1) * WORKER_BYTES
    return max((total - overhead - margin) // n_workers, LEAST_JOB_BYTES)


def total_bytes(proc: Path = _PROC) -> int:
    """Return the memory of the machine, or of this process's containers if they have less."""
    # Some containers show their limit in this file only, so it comes before the system call.
    machine = _kilobytes(proc / "meminfo").get("MemTotal")
    if not machine:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *control_groups.memory_limits(proc)])


def resting_bytes(pid: int) -> int:
    """Return the bytes of a waiting process: what a job is charged for, and its code."""
    found = _kilobytes(_PROC / str(pid) / "smaps_rollup")
    if "Pss" not in found:
        return _most_bytes(pid)
    return found["Pss"] + found.get("SwapPss", 0)


# The meter


class Meter:
    """The memory of one process, cheap enough (20 µs) to be read ten times a second.

    `peak_bytes` is the largest figure so far. A process that has ended uses no memory.
    """

    def __init__(self, pid: int, limit_bytes: int) -> None:
        """Measure a process of the same user, which this process may trace."""
        self.pid = pid
        self.limit_bytes = limit_bytes
        self.peak_bytes = 0
        # The last exact reading, and the cheap upper bound at that time.
        self._held = 0
        self._most_then = 0
        # The next exact reading is due above this bound, or after this time if over the limit.
        self._read_above = -1
        self._rested_at = 0.0

    def is_over(self) -> bool:
        """Return whether the process uses more than its limit."""
        most = _most_bytes(self.pid)
        may_be_over = most > self.limit_bytes
        has_rested = time.monotonic() >= self._rested_at
        if most > self._read_above or (may_be_over and has_rested):
            self._read(most)

        grown = most - self._most_then
        self.peak_bytes = max(self.peak_bytes, self._held + grown)
        return may_be_over and self._held > self.limit_bytes

    def _read(self, most: int) -> None:
        started = time.monotonic()
        self._held = held_bytes(self.pid)
        self._most_then = most
        took_s = time.monotonic() - started
        self._rested_at = started + took_s * (1 + REST_TIMES)

        # New memory is the job's own, so the job is over its limit when the remaining room is
        # used. Without growth, only its part of shared pages can become larger.
        room = max(self.limit_bytes - self._held, 0)
        self._read_above = most + min(room, most // GROWTH_PART)

    def failure(self, reason: str = "") -> OutOfMemory:
        """Return the failure of a job that was over its limit, or ran out for another `reason`."""
        limit = _megabytes(self.limit_bytes)
        peak = _megabytes(self.peak_bytes)
        if reason:
            return OutOfMemory(
                f"{reason} It used at most {peak}; the limit is {limit}."
            )
        return OutOfMemory(f"The job used {peak} of memory; the limit is {limit}.")


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"


def refused(limit_bytes: int) -> OutOfMemory:
    """Return the failure of this process, a job whose request for memory failed."""
    meter = Meter(os.getpid(), limit_bytes)
    meter.is_over()
    return meter.failure("The job requested more memory than was available.")


def held_bytes(pid: int) -> int:
    """Return the bytes that a process is charged for; 0 if it has ended."""
    found = _kilobytes(_PROC / str(pid) / "smaps_rollup")
    if "Pss" not in found:
        # Some sandboxes lack this file. The upper bound counts shared pages fully.
        return _most_bytes(pid)

    # Kernels before 5.3 do not separate the pages of files from the others.
    kept = found["Pss"]
    if "Pss_Anon" in found:
        kept = found["Pss_Anon"] + found["Pss_Shmem"]
    # What MADV_FREE gave back still counts there.
    kept = max(kept - found.get("LazyFree", 0), 0)
    return kept + found.get("SwapPss", 0)


def _most_bytes(pid: int) -> int:
    """Return an upper bound of `held_bytes`; 0 if the process has ended.

    It comes from `status`, which takes 6 µs longer than `statm` but separates the pages of files.
    Otherwise a job that has mapped a large file would need exact readings all the time.
    """
    found = _kilobytes(_PROC / str(pid) / "status")
    if "RssAnon" not in found:
        return found.get("VmRSS", 0)
    return found["RssAnon"] + found["RssShmem"] + found.get("VmSwap", 0)


def _kilobytes(path: Path) -> dict[str, int]:
    """Return the figures of a /proc file, in bytes; none if it is gone or may not be read."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    return {name: int(figure) * 1024 for name, figure in _KILOBYTES.findall(text)}


# Limits that the kernel keeps


def limit_growth(n_bytes: int) -> None:
    """Let this process map so many bytes more than now; a request for more raises MemoryError.

    Only memory of its own that it may write to counts. Linux only; elsewhere it does nothing.
    """
    mapped = _kilobytes(_PROC / "self/status").get("VmData")
    if mapped:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (mapped + n_bytes, hard))


def peak_bytes() -> int:
    """Return the most memory that this process ever had in RAM; 0 if the system does not tell."""
    return _kilobytes(_PROC / "self/status").get("VmHWM", 0)


# The kernel's out-of-memory killer


def oom_kills(proc: Path = _PROC) -> int:
    """Return how many processes the kernel has killed for lack of memory; 0 if it does not tell.

    A worker compares two values to learn why its work horse died by SIGKILL.
    """
    return control_groups.oom_kills(proc)


def die_first() -> None:
    """Have the kernel kill this process, a work horse, before others when memory runs out.

    A container that is killed as a whole (`memory.oom.group`) ignores that; then only the meter
    helps.
    """
    with suppress(OSError):
        (_PROC / "self/oom_score_adj").write_text("1000")
