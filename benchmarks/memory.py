"""The memory of processes as PSS: a process's own pages, and its share of the shared ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


def pss_mb(process: psutil.Process) -> float:
    """Return the PSS of a process in MB, 0 if the process has ended."""
    try:
        return float(process.memory_full_info().pss) / 1e6
    except psutil.Error:
        return 0.0


def children_of(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the present children of processes; the kernel lists them at little cost."""
    pids: list[str] = []
    for process in processes:
        path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with suppress(OSError):
            pids += path.read_text().split()
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
    return found


@contextmanager
def watched(
    processes: Callable[[], Iterable[psutil.Process]], every_s: float
) -> Iterator[list[float]]:
    """Sample the memory of processes; the list has the peak of any of them in MB."""
    most = [0.0]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(every_s):
            most[0] = max([most[0], *map(pss_mb, processes())])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        is_over.set()
        watcher.join()
