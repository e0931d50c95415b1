"""Which cores a running job may use.

Every running job holds a seat: the lock file of a core or, if no core is free, an overflow file. A
job uses more than one core only if its work is big, no job is queued, no overflow seat is held and
nothing else keeps the machine busy. It never runs more threads than it holds cores: OpenMP's
threads spin while they wait for each other, so two fits with two threads each on two cores, or one
beside any other program, take up to a hundred times as long.

Locks are `flock`s, so a killed job frees its cores immediately. A job on several cores also holds
the file `wide`, which tells workers that such a job runs. A warm-up holds the file `warm-up` and no
seat. Only work horses hold these locks, and they must not start children, which would inherit and
keep them.
"""

from __future__ import annotations

import fcntl
import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import pyarrow as pa
import threadpoolctl

from rowcast.system.directories import private

# Below this many cells (rows x columns) a boosting fit is not faster on two threads than on one.
BIG_CELLS = 200_000
_MAX_OVERFLOW = 1024
# Allocations take milliseconds.
ALLOCATION_PATIENCE_S = 2.0
# A warm-up takes a tenth of a second, and there may be one for each worker.
WARM_UP_PATIENCE_S = 0.5
_STAT = Path("/proc/stat")


@dataclass
class Seat:
    """A running job's claim to cores; `seat` creates it."""

    folder: Path
    n_cores: int
    cores: list[int] = field(default_factory=list)
    overflow: int | None = None
    wide: int | None = None

    @contextmanager
    def threads(
        self, *, n_cells: int, others_wait: Callable[[], bool]
    ) -> Iterator[int]:
        """Choose the number of cores, and limit BLAS, OpenMP, Arrow and joblib to it.

        Call it after reading the table, in the thread that computes: OpenMP's limit applies to
        that thread only.
        """
        self._claim(wants_all=n_cells >= BIG_CELLS, others_wait=others_wait)
        n = max(1, len(self.cores))
        pa.set_cpu_count(n)
        with libraries().limit(limits=n), joblib.parallel_config(n_jobs=n):
            yield n

    def _claim(self, *, wants_all: bool, others_wait: Callable[[], bool]) -> None:
        """Exchange an overflow seat for a core; take all free cores where the rule allows it."""
        if wants_all:
            _wait_for_warm_ups(self.folder)
        with _allocation(self.folder):
            free = _free_cores(self.folder, self.n_cores)
            others_overflow = self.overflow is None and _any_overflow(self.folder)
            if self.overflow is not None and free:
                os.close(self.overflow)
                self.overflow = None
                self.cores.append(free.pop())

            may_widen = wants_all and bool(self.cores) and not others_overflow
            may_widen = may_widen and not others_wait()
            if may_widen and free and _idle_cores() >= len(self.cores + free):
                self.cores += free
                self.wide = _shared(self.folder / "wide")
            else:
                _close(free)

    def leave(self) -> None:
        """Free all cores."""
        others = [fd for fd in (self.overflow, self.wide) if fd is not None]
        _close([*self.cores, *others])
        self.cores = []
        self.overflow = None
        self.wide = None


def is_any_wide(folder: str | Path) -> bool:
    """Return whether a job runs on several cores, and would be slowed by any other work."""
    try:
        fd = _lock(Path(folder) / "wide")
    except FileNotFoundError:
        return False
    if fd is None:
        return True
    os.close(fd)
    return False


@contextmanager
def warm_up(folder: str | Path) -> Iterator[bool]:
    """Allow a moment's work without a seat; yield False if a job runs on several cores.

    A job that wants several cores waits until the warm-up ends.
    """
    folder = private(Path(folder))
    held: list[int] = []
    with _allocation(folder):
        if not is_any_wide(folder):
            held.append(_shared(folder / "warm-up"))
    try:
        yield bool(held)
    finally:
        _close(held)


def _wait_for_warm_ups(folder: Path) -> None:
    """Wait until no warm-up runs, but not for long."""
    deadline = time.monotonic() + WARM_UP_PATIENCE_S
    while time.monotonic() < deadline:
        if (fd := _lock(folder / "warm-up")) is not None:
            os.close(fd)
            return
        time.sleep(0.005)


@functools.cache
def libraries() -> threadpoolctl.ThreadpoolController:
    """Return the loaded libraries with threads; the search, which takes 10 ms, is done once."""
    return threadpoolctl.ThreadpoolController()


@contextmanager
def seat(folder: str | Path) -> Iterator[Seat]:
    """Hold a seat, with one thread; `Seat.threads` decides on more.

    All workers of a CPU budget share `folder` (CORES_DIR). The number of cores is the smaller of
    the process's affinity and its cgroup's quota.
    """
    folder = private(Path(folder))
    taken = Seat(folder, joblib.cpu_count())
    with _allocation(folder):
        core = _first_free(folder, "core", taken.n_cores)
        if core is not None:
            taken.cores.append(core)
        else:
            taken.overflow = _first_free(folder, "overflow", _MAX_OVERFLOW)
    pa.set_cpu_count(1)
    try:
        yield taken
    finally:
        taken.leave()


@contextmanager
def _allocation(folder: Path) -> Iterator[None]:
    fd = os.open(folder / "allocation", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _await_lock(fd)
        yield
    finally:
        os.close(fd)


def _await_lock(fd: int) -> None:
    """Lock a file, but do not wait for long: a suspended holder would stop all others."""
    deadline = time.monotonic() + ALLOCATION_PATIENCE_S
    while time.monotonic() < deadline:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.002)
    return None


def _lock(path: Path) -> int | None:
    """Lock a file and return its descriptor; None if another process holds the lock."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _shared(path: Path) -> int:
    """Lock a file with a shared lock and return its descriptor."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def _free_cores(folder: Path, n_cores: int) -> list[int]:
    """Lock all free cores and return their descriptors."""
    locks = [_lock(folder / f"core-{core}") for core in range(n_cores)]
    return [fd for fd in locks if fd is not None]


def _first_free(folder: Path, name: str, n: int) -> int | None:
    for number in range(n):
        if (fd := _lock(folder / f"{name}-{number}")) is not None:
            return fd
    return None


def _any_overflow(folder: Path) -> bool:
    for path in folder.glob("overflow-*"):
        fd = _lock(path)
        if fd is None:
            return True
        os.close(fd)
    return False


def _idle_cores() -> int:
    """Return how many of the machine's cores run no other process, as far as the kernel tells."""
    n_cores = os.cpu_count() or 1
    if not _STAT.exists():
        return n_cores

    samples = []
    for _ in range(5):
        samples.append(_n_running())
        time.sleep(0.001)
    # The median, because a request takes the server less than a millisecond.
    others = sorted(samples)[2] - 1
    return n_cores - others


def _n_running() -> int:
    lines = _STAT.read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("procs_running")]
    return int(line.split()[1])


def _close(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
