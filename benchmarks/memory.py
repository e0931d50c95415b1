"""Memory of processes as PSS: what a process has alone, and its share of what it has with
others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


def pss_mb(process: psutil.Process) -> float:
    """Return a process's PSS in MB, 0 for one that has ended."""
    try:
        return float(process.memory_full_info().pss) / 1e6
    except psutil.Error:
        return 0.0


def children_of(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the children that processes have now; asking the kernel for them costs next to
    nothing."""
    pids: list[str] = []
    for process in processes:
        with suppress(OSError):
            pids += (
                Path(f"/proc/{process.pid}/task/{process.pid}/children")
                .read_text()
                .split()
            )
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
    return found


@contextmanager
def watched(
    processes: Callable[[], Iterable[psutil.Process]], every_s: float
) -> Iterator[list[float]]:
    """Look at processes again and again; the list holds the most that any of them has taken, in
    MB."""
    most, is_over = [0.0], threading.Event()

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
