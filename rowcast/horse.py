"""A work horse as its worker sees it: a child process, and the pipe by which it says how far it is.

The pipe also tells at once when the horse has ended, however that came: its last end is closed then.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import Any

MAX_LINE_BYTES = 4_000
# Who downloads says so with each MiB. Silent for longer it waits for the store, which it gives up itself in
# the end; silent for longer than that it hangs.
SILENT_S, HANGS_S = 1.0, 300.0


class Horse:
    """A child process that runs one attempt of a job; `wait` and `kill` it."""

    def __init__(self, pid: int, reader: int) -> None:
        """Watch a process that holds the other end of the pipe."""
        self.pid = pid
        self.exit_status: int | None = None
        self.progress = ""
        self.lines: list[str] = []
        # Waiting for the store, to give what is needed or take what has been made, is no time that the job
        # works; nor is what it takes to settle its end.
        self.worked_s = 0.0
        self._reader = reader
        self._buffer = b""
        self._phase = ""
        self._is_ending = False
        self._seen_at = self._heard_at = time.monotonic()
        os.set_blocking(reader, False)

    def wait(self, timeout_s: float) -> bool:
        """Read what the horse says, for `timeout_s` seconds; True once it has ended."""
        ready, _, _ = select.select([self._reader], [], [], timeout_s)
        data = os.read(self._reader, 1 << 16) if ready else b""
        self._note_time()
        self._take(data)
        if ready and not data:
            self._reap()
        return self.exit_status is not None

    @property
    def was_killed(self) -> bool:
        """Tell whether it ended by SIGKILL, of whomever."""
        status = self.exit_status
        return status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def kill(self) -> None:
        """End the process at once."""
        os.kill(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        # It may close the pipe a moment before it ends, and has nothing more to say.
        _, self.exit_status = os.waitpid(self.pid, 0)
        os.close(self._reader)

    def _note_time(self) -> None:
        now = time.monotonic()
        if not self._is_waiting(now):
            self.worked_s += now - self._seen_at
        self._seen_at = now

    def _is_waiting(self, now: float) -> bool:
        if self._is_ending or self._phase == "uploading":
            return True
        # Before its first word an attempt asks the store what earlier ones have left.
        return self._phase in ("", "downloading") and SILENT_S < now - self._heard_at < HANGS_S

    def _take(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "log" in said:
                self.lines.append(said["log"])
            elif "ending" in said:
                self._is_ending = True
            else:
                self.progress, self._phase = line.decode(), said["phase"]
                self._heard_at = time.monotonic()


class Voice:
    """The horse's end of the pipe. It never waits: a worker that does not listen misses something."""

    def __init__(self, writer: int) -> None:
        """Speak into a pipe."""
        os.set_blocking(writer, False)
        self._writer = writer

    def say(self, message: dict[str, Any]) -> None:
        """Send a message of up to 4,000 bytes, whole or not at all."""
        line = json.dumps(message).encode() + b"\n"
        # Up to 4,096 bytes the kernel writes as a whole (PIPE_BUF).
        if len(line) > MAX_LINE_BYTES:
            return
        try:
            os.write(self._writer, line)
        except (BlockingIOError, BrokenPipeError):
            return
