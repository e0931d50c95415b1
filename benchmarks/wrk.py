"""Load by wrk, a program that keeps many connections busy with little CPU of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.line import NotMeasured

MISSING = "wrk is not installed: apt-get install wrk (Debian, Ubuntu), brew install wrk (macOS)"
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Load:
    """What came of it: answers a second, and the latency that 99 of 100 stay under."""

    rate: float
    p99_ms: float


def load(
    url: str,
    seconds: int,
    *,
    connections: int = 16,
    script: Path | None = None,
    core: int | None = None,
) -> Load:
    """Ask a URL for so many seconds, each connection again as soon as it is answered.

    `script` says what to send; `core` is the one that wrk runs on.

    Raises:
        NotMeasured: there is no wrk.
        AssertionError: an answer was no success.
    """
    if not shutil.which("wrk"):
        raise NotMeasured(MISSING)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    command += ["-s", str(script)] if script else []
    bind = partial(os.sched_setaffinity, 0, {core}) if core is not None else None
    done = subprocess.run(
        [*command, url],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=bind,
    )
    return read(done.stdout)


def read(report: str) -> Load:
    """Read wrk's report. Raises AssertionError if it tells of answers that are no success."""
    failures = re.findall(r"Non-2xx.*|Socket errors.*", report)
    assert not failures, failures
    rate, p99 = (
        re.search(r"Requests/sec:\s+([\d.]+)", report),
        re.search(r"99%\s+([\d.]+)(\w+)", report),
    )
    assert rate is not None, report
    assert p99 is not None, report
    return Load(float(rate[1]), float(p99[1]) * _MS[p99[2]])
