"""A real stack that is started for a benchmark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stack:
    """A running stack: its URL, its data folder, and the seconds until it was ready."""

    url: str
    process: subprocess.Popen[str]
    data: Path
    ready_s: float

    def processes(self, mark: str = "") -> list[psutil.Process]:
        """Return the processes of the stack whose command line contains `mark`."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in family if mark in _command_line(process)]

    def workers(self) -> list[psutil.Process]:
        """Return the children of the pool of workers."""
        processes = self.processes("worker.py")
        pool = min(processes, key=lambda process: process.create_time())
        return pool.children()

    def hold(self) -> None:
        """Stop the workers (SIGSTOP), so that jobs stay queued; a running job continues."""
        for worker in self.workers():
            worker.suspend()

    def release(self) -> None:
        """Let stopped workers continue (SIGCONT)."""
        for worker in self.workers():
            worker.resume()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop the workers, so that no job starts, until the block ends."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def bound_to(self, core: int) -> Iterator[None]:
        """Bind all threads of all processes to one core until the block ends."""
        cores = os.sched_getaffinity(0)
        self._bind({core})
        try:
            yield
        finally:
            self._bind(cores)

    def _bind(self, cores: set[int]) -> None:
        for process in self.processes():
            for thread in Path(f"/proc/{process.pid}/task").glob("*"):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), cores)


def _command_line(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@contextmanager
def running(
    data: Path | None = None, *options: str, **settings: str
) -> Iterator[Stack]:
    """Start a stack, with new data unless a folder is given, and stop it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        data = data or Path(folder) / "rowcast"
        stack = _start(data, Path(folder), options, settings)
        try:
            yield stack
        finally:
            _stop(stack.process)


def _start(
    data: Path, folder: Path, options: tuple[str, ...], settings: dict[str, str]
) -> Stack:
    command = [sys.executable, "-m", "rowcast.local", "--port", "0"]
    command += ["--data", str(data), *options]
    # Requests are counted as in use, against a limit that no benchmark meets.
    limits = {"ADDRESS_REQUESTS_PER_MINUTE": "1000000000"}
    environ = {
        **os.environ,
        **limits,
        "CORES_DIR": f"{folder}/cores",
        **settings,
    }
    began = time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    ready_s = time.monotonic() - began
    if not line.startswith("Rowcast is ready at "):
        _stop(process)
        raise RuntimeError((folder / "log").read_text())
    return Stack(line.split()[-1], process, data, ready_s)


def _stop(process: subprocess.Popen[str]) -> None:
    with suppress(psutil.Error):
        # A stopped process does not handle SIGTERM.
        for part in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                part.resume()
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
