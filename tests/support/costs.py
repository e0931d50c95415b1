"""What work on a table costs, measured in a child process that has limits itself."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rowcast.config import Settings
from rowcast.errors import RowcastError
from rowcast.tables import Limits, Sample, formats

LIMITS = Limits.of(Settings())
MAX_CPU_S = 60


class Cost(NamedTuple):
    """The message of the error, if there was one, CPU seconds and bytes of memory."""

    error: str
    cpu_s: float
    n_bytes: int


def cost_of(work: Callable[[], Any]) -> Cost:
    """Do work in a fork; a child that dies costs everything."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
            os.write(writer, pickle.dumps(_measured(work)))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    if not content:
        return Cost("the process died", float("inf"), 1 << 62)
    return Cost(*pickle.loads(content))


def _measured(work: Callable[[], Any]) -> tuple[str, float, int]:
    error = ""
    began_s = time.process_time()
    n_before = _peak_bytes()
    try:
        work()
    except RowcastError as found:
        error = found.detail
    except Exception as found:  # noqa: BLE001 - whatever it is, the test names it
        error = f"{type(found).__name__}: {found}"[:200]
    return error, time.process_time() - began_s, _peak_bytes() - n_before


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peeked(content: bytes, limits: Limits = LIMITS) -> Sample:
    """Look at a file as the server does."""
    return formats.peek(
        len(content),
        lambda offset, length: content[offset : offset + length],
        limits,
    )


def peek_cost(content: bytes) -> Cost:
    """Return what the server's look at a file costs."""
    return cost_of(lambda: peeked(content))


def read_cost(content: bytes, folder: Path) -> Cost:
    """Return what it costs a job to read all rows of a file."""
    path = folder / "table"
    path.write_bytes(content)
    return cost_of(lambda: formats.open_file(path, LIMITS).read())
