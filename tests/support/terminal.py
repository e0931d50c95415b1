"""Python scripts in processes of their own, with and without a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import termios

from tests.support import ROOT

# The new session makes the terminal its own, so that Ctrl-C interrupts the script.
TAKE_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"


class Terminal:
    """A terminal of 40 lines and 100 columns in which a Python script runs."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.shown = ""
        self.fd, inner = pty.openpty()
        termios.tcsetwinsize(inner, (40, 100))
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL + script, *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={"PYTHONPATH": str(ROOT)},
        )
        os.close(inner)

    def read(self) -> bool:
        """Add to `shown` what is new; return whether the script still runs."""
        ready, _, _ = select.select([self.fd], [], [], 20)
        assert ready, f"only {self.shown!r} was shown"
        # Linux reports an error where the script has closed the terminal.
        with contextlib.suppress(OSError):
            new = os.read(self.fd, 4096)
            self.shown += new.decode()
            return bool(new)
        return False

    def wait_for(self, text: str) -> None:
        while text not in self.shown:
            assert self.read(), self.shown

    def press(self, key: bytes) -> None:
        os.write(self.fd, key)

    def end(self) -> int:
        """Wait for the end of the script and return its exit code."""
        while self.read():
            pass
        os.close(self.fd)
        return self.process.wait(30)


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python without a terminal, with warnings as errors; raise unless it succeeds."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=60,
        check=True,
    )
