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
from rowcast.errors import OutOfMemory, RowcastError
from rowcast.system import memory
from rowcast.tables import Limits, Sample, formats

LIMITS = Limits.of(Settings())
MAX_CPU_S = 60
MAX_GROWTH_BYTES = 1_000_000_000
DIED = "the process died"


class Cost(NamedTuple):
    """The message of the error, if there was one, CPU seconds and bytes of memory."""

    error: str
    cpu_s: float
    n_bytes: int


def cost_of(work: Callable[[], Any]) -> Cost:
    """Do work in a fork; a child that dies costs everything."""
    measured = _in_child(lambda: _measured(work))
    return Cost(*measured) if measured else Cost(DIED, float("inf"), 1 << 62)


def outcome_of(content: bytes, folder: Path) -> str:
    """Look at a file and read it, as server and jobs do, in a fork with little memory.

    Returns `table`, the code of the error, or what else happened.
    """
    path = folder / "table"
    path.write_bytes(content)
    outcome = _in_child(lambda: _outcome(content, path))
    return str(outcome or DIED)


def _outcome(content: bytes, path: Path) -> str:
    memory.limit_growth(MAX_GROWTH_BYTES)
    try:
        peeked(content)
        formats.open_file(path, LIMITS).read()
    except RowcastError as found:
        return found.code
    except MemoryError:
        # A job makes this error of it.
        return OutOfMemory.code
    except Exception as found:  # noqa: BLE001 - whatever it is, the test names it
        return f"{type(found).__name__}: {found}"[:200]
    return "table"


def _in_child(work: Callable[[], Any]) -> Any:
    """Return what work returns in a fork; None if the child dies."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
            os.write(writer, pickle.dumps(work()))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(content) if content else None


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
