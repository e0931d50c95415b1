"""The memory (PSS) of server and client while 1 GB is uploaded."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, Target
from benchmarks.memory import pss_mb
from benchmarks.stack import ROOT, Stack
from client import Client

N_BYTES = 1_000_000_000
WHAT = "{}'s memory while 1 GB is uploaded"


def measure(bench: Bench) -> list[Line]:
    path = bench.folder / "large"
    with path.open("wb") as file:
        file.truncate(N_BYTES)
    peaks = [_peaks(bench.stack(), path) for _ in range(bench.n_runs)]
    path.unlink()
    client_mb, server_mb = zip(*peaks, strict=True)
    return [
        Line(WHAT.format("client"), "MB", client_mb, Target("under", 100)),
        Line(WHAT.format("server"), "MB", server_mb, Target("under", 100)),
    ]


def _peaks(stack: Stack, path: Path) -> tuple[float, float]:
    """Upload a file, and return the peak of the client and of a server process in MB."""
    command = [sys.executable, "client.py", "--url", stack.url, "upload", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    client = psutil.Process(process.pid)
    servers = stack.processes("gunicorn")
    client_mb = server_mb = 0.0
    while process.poll() is None:
        client_mb = max(client_mb, pss_mb(client))
        server_mb = max([server_mb, *map(pss_mb, servers)])
        time.sleep(0.05)
    dataset, _ = process.communicate()
    assert process.returncode == 0
    with Client(stack.url) as connection:
        connection.delete(dataset.strip())
    return client_mb, server_mb


BENCHMARKS = [Benchmark("upload_memory", WHAT.format("server"), measure)]
