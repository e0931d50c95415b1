"""The real stack, started for a benchmark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stack:
    url: str
    process: subprocess.Popen[str]

    def processes(self, mark: str) -> list[psutil.Process]:
        """Return the stack's processes whose command line holds `mark`."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in family if mark in " ".join(process.cmdline())]


@contextmanager
def running() -> Iterator[Stack]:
    """Start a stack on new data, and stop it."""
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "rowcast.local", "--port", "0", "--data", f"{data}/rowcast"]
        with (Path(data) / "log").open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "CORES_DIR": f"{data}/cores"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("Rowcast is ready at "):
                raise SystemExit((Path(data) / "log").read_text())
            yield Stack(line.split()[-1], process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=120)
