"""Load from wrk, a program that keeps many connections busy and needs little CPU itself."""

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
    """Answers per second, and the 99th percentile of their latency."""

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
    """Request a URL for some seconds, on each connection again after each answer.

    `script` is a Lua script of wrk that makes the requests; `core` is the core that wrk runs on.

    Raises:
        NotMeasured: wrk is not installed.
        AssertionError: a request failed.
    """
    if not shutil.which("wrk"):
        raise NotMeasured(MISSING)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    if script:
        command += ["-s", str(script)]
    bind = None
    if core is not None:
        bind = partial(os.sched_setaffinity, 0, {core})
    done = subprocess.run(
        [*command, url],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=bind,
    )
    return read(done.stdout)


def read(report: str) -> Load:
    """Read wrk's report. Raises AssertionError if a request failed."""
    failures = re.findall(r"Non-2xx.*|Socket errors.*", report)
    assert not failures, failures
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    p99 = re.search(r"99%\s+([\d.]+)(\w+)", report)
    assert rate is not None, report
    assert p99 is not None, report
    return Load(float(rate[1]), float(p99[1]) * _MS[p99[2]])
