"""Which cores a running job may use.

Every running job holds a seat: the lock file of a core or, when no core is free, an overflow file.
A job takes more than its one core only when its work is big, no job waits, no overflow seat is held
and nothing else keeps the machine busy. It never runs more threads than it holds cores: OpenMP's
threads spin while they wait for one another, so that two fits with two threads each on two cores,
or one beside any other program, take up to a hundred times as long. Locks are `flock`s, so a killed
job frees its cores at once. A job on several cores also holds the file `wide`, so that workers can
see that one runs. Who warms up holds the file `warm-up`, and no seat. Only the work horse takes
them, and it must start no children, which would inherit and keep them.
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
# Cores are given out within milliseconds.
ALLOCATION_PATIENCE_S = 2.0
# Warm-ups take a tenth of a second, each of as many as there are workers.
WARM_UP_PATIENCE_S = 0.5
_STAT = Path("/proc/stat")


@dataclass
class Seat:
    """A running job's claim to cores; made by `seat`."""

    folder: Path
    n_cores: int
    cores: list[int] = field(default_factory=list)
    overflow: int | None = None
    wide: int | None = None

    @contextmanager
    def threads(
        self, *, n_cells: int, others_wait: Callable[[], bool]
    ) -> Iterator[int]:
        """Decide how many cores the job gets and limit BLAS, OpenMP, Arrow and joblib to as many
        threads.

        Call it once the table is read, in the thread that computes: OpenMP's limit binds that
        thread alone.
        """
        self._claim(wants_all=n_cells >= BIG_CELLS, others_wait=others_wait)
        n = max(1, len(self.cores))
        pa.set_cpu_count(n)
        with libraries().limit(limits=n), joblib.parallel_config(n_jobs=n):
            yield n

    def _claim(self, *, wants_all: bool, others_wait: Callable[[], bool]) -> None:
        """Take a core in place of an overflow seat, and all free cores where the rule above
        allows."""
        if wants_all:
            _wait_for_warm_ups(self.folder)
        with _allocation(self.folder):
            free = [
                fd
                for core in range(self.n_cores)
                if (fd := _lock(self.folder / f"core-{core}")) is not None
            ]
            others_overflow = self.overflow is None and _any_overflow(self.folder)
            if self.overflow is not None and free:
                os.close(self.overflow)
                self.overflow = None
                self.cores.append(free.pop())
            may_widen = (
                wants_all
                and bool(self.cores)
                and not others_overflow
                and not others_wait()
            )
            may_widen = may_widen and _idle_cores() >= len(self.cores + free)
            if may_widen and free:
                self.cores += free
                self.wide = _shared(self.folder / "wide")
            else:
                _close(free)

    def leave(self) -> None:
        """Free all cores."""
        _close(
            [*self.cores, *(fd for fd in (self.overflow, self.wide) if fd is not None)]
        )
        self.cores, self.overflow, self.wide = [], None, None


def is_any_wide(folder: str | Path) -> bool:
    """Tell whether a job runs on more than one core, and so is slowed by any that runs beside
    it."""
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
    """Compute for a moment without a seat; False if that must not be, as a job runs on several
    cores.

    A job that wants several waits for the end of it.
    """
    folder = private(Path(folder))
    with _allocation(folder):
        held = None if is_any_wide(folder) else _shared(folder / "warm-up")
    try:
        yield held is not None
    finally:
        if held is not None:
            os.close(held)


def _wait_for_warm_ups(folder: Path) -> None:
    """Wait until nobody warms up; go on without if that takes too long."""
    deadline = time.monotonic() + WARM_UP_PATIENCE_S
    while time.monotonic() < deadline:
        if (fd := _lock(folder / "warm-up")) is not None:
            os.close(fd)
            return
        time.sleep(0.005)


@functools.cache
def libraries() -> threadpoolctl.ThreadpoolController:
    """Return the loaded libraries that have threads; looked for once, which takes 10 ms."""
    return threadpoolctl.ThreadpoolController()


@contextmanager
def seat(folder: str | Path) -> Iterator[Seat]:
    """Hold a seat, and one thread, from now on; `Seat.threads` decides on more.

    `folder` (CORES_DIR) is shared by all workers of one CPU budget. Cores are counted as the
    smaller of the process's affinity and its cgroup's quota.
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
    """Lock a file; go on without if that takes too long: a holder that is stopped would stop all
    others."""
    deadline = time.monotonic() + ALLOCATION_PATIENCE_S
    while time.monotonic() < deadline:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.002)
    return None


def _lock(path: Path) -> int | None:
    """Return the descriptor of a lock file that is now ours, None if another process holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _shared(path: Path) -> int:
    """Return the descriptor of a lock file that others may hold as well."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


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
    """Return how many of the machine's cores nobody but this process runs on, as far as the kernel
    tells."""
    if not _STAT.exists():
        return os.cpu_count() or 1
    samples = []
    for _ in range(5):
        found = next(
            line
            for line in _STAT.read_text().splitlines()
            if line.startswith("procs_running")
        )
        samples.append(int(found.split()[1]))
        time.sleep(0.001)
    # The median, because a request that the server answers takes less than a millisecond.
    return (os.cpu_count() or 1) - (sorted(samples)[2] - 1)


def _close(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
