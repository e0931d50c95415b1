"""How much memory a job may take, and how much it takes: the limit, and the meter that a worker
looks at.

What counts is what the kernel cannot take back while the job lives: anonymous and shared memory, in
memory or swapped out, each page divided by how many processes share it (PSS). So a work horse is
charged for its part of what it shares with its worker since the fork, and not at all for the pages
of files that it has mapped, nor for what it gave back with MADV_FREE: those the kernel drops as
soon as it needs them, before it kills anybody, and a job must not end for them.

All of it is read from /proc and the control groups of Linux. Elsewhere nothing is ever over a
limit.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rowcast.config import Settings
from rowcast.errors import OutOfMemory

# A worker that waits has 9 MB of its own beside what it shares with its pool, measured after it ran
# ten jobs. The more it writes, the more it stops sharing: this leaves room for three times as much.
WORKER_BYTES = 32_000_000
# A job is looked at ten times a second, and touches up to 270 MB a thread in between. This part of
# all memory, so much at most, stays free so that our meter is usually faster than the kernel's
# killer.
MARGIN_PART, MARGIN_BYTES = 16, 512_000_000
# With less, not even a job of a few rows runs: it takes 40 to 80 MB.
LEAST_JOB_BYTES = 100_000_000

# Reading PSS takes 9 ms a gigabyte, in which the job cannot map memory: it is read where the cheap
# figure has grown by this part, and where that is over the limit, with rests so many times as long
# as it took.
GROWTH_PART = 8
REST_TIMES = 50

_PROC = Path("/proc")
_KILOBYTES = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
_OOM_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
# Over `memory.high` a job is not killed but slowed down until it hardly moves, which is no better.
_LIMITS = ("memory.max", "memory.high", "memory.limit_in_bytes")
_COUNTERS = ("memory.events", "memory.oom_control")


# The limit


def limit_per_job(settings: Settings, n_workers: int) -> int:
    """Return how many bytes a job may take; call it in the pool before it forks, with all it needs
    imported.

    Without JOB_MEMORY_BYTES: the smaller of the container's limit and the machine's memory, less
    what the pool takes now, its workers and maintenance process will, and a margin, divided by
    `n_workers`, the jobs at once.
    """
    if settings.job_memory_bytes:
        return settings.job_memory_bytes
    total = total_bytes()
    margin = min(total // MARGIN_PART, MARGIN_BYTES)
    free = total - resting_bytes(os.getpid()) - (n_workers + 1) * WORKER_BYTES - margin
    return max(free // n_workers, LEAST_JOB_BYTES)


def total_bytes(proc: Path = _PROC) -> int:
    """Return the bytes that this process and its children may take: of the machine or its
    containers."""
    # Not asked of the system first: in some containers only this file knows of their limit.
    machine = _kilobytes(proc / "meminfo").get("MemTotal")
    machine = machine or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_container_limits(proc)])


def resting_bytes(pid: int) -> int:
    """Return the bytes that a waiting process takes: what would count of a job, and its code."""
    found = _kilobytes(_PROC / str(pid) / "smaps_rollup")
    return found.get("Pss", 0) + found.get("SwapPss", 0) or _most_bytes(pid)


def _container_limits(proc: Path) -> Iterator[int]:
    for own, mount in _control_groups(proc):
        for folder in (own, *own.parents):
            for name in _LIMITS if folder.is_relative_to(mount) else ():
                with suppress(OSError, ValueError):
                    # Of no limit a control group says `max`, or a number near 2^63.
                    yield int((folder / name).read_text())


def _control_groups(proc: Path) -> Iterator[tuple[Path, Path]]:
    """Yield this process's groups that may count memory, of both versions, and where they are
    mounted."""
    try:
        groups = (proc / "self/cgroup").read_text().splitlines()
        mounts = (proc / "self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in groups):
        for mount in mounts:
            about, _, kind = mount.partition(" - ")
            if _counts_memory(controllers, kind):
                root, point = about.split()[3:5]
                yield _inside(Path(point), path, root), Path(point)


def _counts_memory(controllers: str, kind: str) -> bool:
    fstype, _, options = kind.split(" ", 2)
    if fstype == "cgroup2":
        return controllers == ""
    return (
        fstype == "cgroup"
        and "memory" in controllers.split(",")
        and "memory" in options.split(",")
    )


def _inside(point: Path, path: str, root: str) -> Path:
    """Return the folder of a control group, below the mount point that shows the hierarchy from
    `root` on."""
    # Of a container the path may be the host's, and the mount show this very group.
    relative = os.path.relpath(path, root)
    return point if relative.startswith("..") else point / relative


# The meter


class Meter:
    """Looks at a process's memory; made for being asked ten times a second, for 20 µs a time.

    `peak_bytes` is the most that was seen. A process that is gone takes nothing, and is no error.
    """

    def __init__(self, pid: int, limit_bytes: int) -> None:
        """Begin with a process that the caller may trace: one of the same user."""
        self.pid = pid
        self.limit_bytes = limit_bytes
        self.peak_bytes = 0
        # What was found at the last look, and what the process could have taken at most by then.
        self._held = self._most_then = 0
        self._look_above, self._rested_at = -1, 0.0

    def is_over(self) -> bool:
        """Tell whether the process takes more than it may."""
        most = _most_bytes(self.pid)
        is_possible = most > self.limit_bytes
        if most > self._look_above or (
            is_possible and time.monotonic() >= self._rested_at
        ):
            self._look(most)
        self.peak_bytes = max(self.peak_bytes, self._held + most - self._most_then)
        return is_possible and self._held > self.limit_bytes

    def _look(self, most: int) -> None:
        started = time.monotonic()
        self._held, self._most_then = held_bytes(self.pid), most
        took_s = time.monotonic() - started
        self._rested_at = started + took_s * (1 + REST_TIMES)
        # New memory is the job's own, so it is over its limit as soon as the room that is left has
        # been taken. Without any growth it can only be charged for more of what it shared.
        room = max(self.limit_bytes - self._held, 0)
        self._look_above = most + min(room, most // GROWTH_PART)

    def failure(self, reason: str = "") -> OutOfMemory:
        """Return the failure of a job that was over its limit, or had no memory for another
        `reason`."""
        limit, peak = (
            f"{n_bytes / 1e6:,.0f} MB"
            for n_bytes in (self.limit_bytes, self.peak_bytes)
        )
        if reason:
            return OutOfMemory(
                f"{reason} It took {peak} at most; the limit is {limit}."
            )
        return OutOfMemory(f"The job took {peak} of memory; the limit is {limit}.")


RAN_OUT = (
    "The memory of the machine or container ran out, and the system ended the job."
)


def refused(limit_bytes: int) -> OutOfMemory:
    """Return the failure of this process, a job that asked for memory and did not get it."""
    meter = Meter(os.getpid(), limit_bytes)
    meter.is_over()
    return meter.failure("The job asked for more memory at once than there is.")


def held_bytes(pid: int) -> int:
    """Return the bytes of a process that count, 0 when it is gone."""
    found = _kilobytes(_PROC / str(pid) / "smaps_rollup")
    if "Pss" not in found:
        # A sandbox without this file: all that may count, with what is shared counted fully.
        return _most_bytes(pid)
    # Kernels before 5.3 do not tell files' pages from the others.
    kept = (
        found["Pss_Anon"] + found["Pss_Shmem"] if "Pss_Anon" in found else found["Pss"]
    )
    return max(kept - found.get("LazyFree", 0), 0) + found.get("SwapPss", 0)


def _most_bytes(pid: int) -> int:
    """Return what can count of a process at most, 0 when it is gone.

    From `status`, which takes 6 µs longer than `statm` and tells the pages of files from the
    others: a job that has mapped a large file would otherwise be looked at closely all the time.
    """
    found = _kilobytes(_PROC / str(pid) / "status")
    if "RssAnon" not in found:
        return found.get("VmRSS", 0)
    return found["RssAnon"] + found["RssShmem"] + found.get("VmSwap", 0)


def _kilobytes(path: Path) -> dict[str, int]:
    """Return the figures of a file of /proc, in bytes; none when the process is gone or nobody may
    look."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    return {name: int(figure) * 1024 for name, figure in _KILOBYTES.findall(text)}


# The kernel's killer


def oom_kills(proc: Path = _PROC) -> int:
    """Return how many processes the kernel has killed for want of memory, 0 where nothing tells.

    A worker that sees it grow while its work horse dies by SIGKILL knows why. Of a process outside
    of all control groups the machine's counter answers.
    """
    own = [group / name for group, _ in _control_groups(proc) for name in _COUNTERS]
    for path in (*own, proc / "vmstat"):
        with suppress(OSError):
            if found := _OOM_KILLS.search(path.read_text()):
                return int(found[1])
    return 0


def die_first() -> None:
    """Have the kernel kill this process, a work horse, before any other when memory runs out."""
    # A container may be set up to be killed as a whole (`memory.oom.group`): then only the meter
    # helps.
    with suppress(OSError):
        (_PROC / "self/oom_score_adj").write_text("1000")
