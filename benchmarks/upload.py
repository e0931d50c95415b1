"""The memory of client and server while a file of 1 GB is uploaded, as PSS: shared pages count by share."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.stack import ROOT, Stack

N_BYTES = 1_000_000_000


def measure(stack: Stack) -> list[tuple[str, str, str, str, bool]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large"
        with path.open("wb") as file:
            file.truncate(N_BYTES)
        command = [sys.executable, "client.py", "--url", stack.url, "upload", str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        client, servers = psutil.Process(process.pid), stack.processes("gunicorn")
        most = {"client": 0.0, "server": 0.0}
        while process.poll() is None:
            most["client"] = max(most["client"], _pss_mb(client))
            most["server"] = max(most["server"], *(_pss_mb(server) for server in servers))
            time.sleep(0.02)
        assert process.returncode == 0
    return [
        (f"{name}'s memory while 1 GB is uploaded", "", f"{mb:.0f} MB", "under 100 MB", mb < 100)
        for name, mb in most.items()
    ]


def _pss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 1e6
    except psutil.Error:
        return 0.0
