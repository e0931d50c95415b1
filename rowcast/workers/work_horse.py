"""A work horse as its worker sees it: a child process that runs one job, and the pipes between the
two.

By one it is given its job, by the other it says how far it is. That one also tells at once when the
horse has ended, however that came: its last end is closed then.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MAX_LINE_BYTES = 4_000
# Who downloads says so with each MiB. Silent for longer it waits for the store, which it gives up
# itself in the end; silent for longer than that it hangs.
SILENT_S, HANGS_S = 1.0, 300.0


class WorkHorse:
    """A child process that runs one attempt of a job; `give` it the job, `wait` for and `kill`
    it."""

    def __init__(self, pid: int, reader: int, orders: int = -1) -> None:
        """Watch a process that holds the other ends of the pipes."""
        self.pid = pid
        self.is_ready = False
        self.exit_status: int | None = None
        self.progress = ""
        self.lines: list[str] = []
        # Waiting for the store, to give what is needed or take what has been made, is no time that
        # the job works; nor is what it takes to settle its end.
        self.worked_s = 0.0
        self._reader, self._orders = reader, orders
        self._buffer = b""
        self._phase = ""
        self._is_ending = False
        self._seen_at = self._heard_at = time.monotonic()
        os.set_blocking(reader, False)

    @classmethod
    def fork(cls, live: Callable[[int, ReportPipe], None]) -> WorkHorse:
        """Return a horse that lives so: it is given where to read its order, and its voice, and
        then ends.

        Raises:
            OSError: the system has no process, memory or file left.
        """
        ends: list[int] = []
        try:
            ends += os.pipe()
            ends += os.pipe()
            pid = os.fork()
        except OSError:
            for end in ends:
                os.close(end)
            raise
        reader, reports, order, orders = ends
        if pid == 0:
            try:
                os.close(reader)
                os.close(orders)
                live(order, ReportPipe(reports))
            finally:
                os._exit(1)
        os.close(reports)
        os.close(order)
        return cls(pid, reader, orders)

    def awaits_order(self) -> bool:
        """Tell whether it has said that it is ready, and lives."""
        self.wait(0)
        return self.is_ready and self.is_alive()

    def is_alive(self) -> bool:
        """Tell whether it runs; asking takes no note of its end."""
        if self.exit_status is not None:
            return False
        return (
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        )

    def give(self, order: dict[str, Any]) -> None:
        """Send the job that it runs; from now on it works. One that has ended by now is known by
        its end."""
        self.worked_s = 0.0
        self._seen_at = self._heard_at = time.monotonic()
        with suppress(BrokenPipeError), os.fdopen(self._orders, "wb") as orders:
            orders.write(json.dumps(order).encode() + b"\n")

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
        return (
            status is not None
            and os.WIFSIGNALED(status)
            and os.WTERMSIG(status) == signal.SIGKILL
        )

    def kill(self) -> None:
        """End the process at once."""
        os.kill(self.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """Do without a horse that has been given nothing."""
        os.close(self._orders)
        if self.exit_status is None:
            self.kill()
            self._reap()

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
        return (
            self._phase in ("", "downloading")
            and SILENT_S < now - self._heard_at < HANGS_S
        )

    def _take(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "log" in said:
                self.lines.append(said["log"])
            elif "ending" in said:
                self._is_ending = True
            elif "ready" in said:
                self.is_ready = True
            else:
                self.progress, self._phase = line.decode(), said["phase"]
                self._heard_at = time.monotonic()


class ReportPipe:
    """The horse's end of the pipe. It never waits: a worker that does not listen misses
    something."""

    def __init__(self, writer: int) -> None:
        """Speak into a pipe."""
        os.set_blocking(writer, False)
        self._writer = writer

    def send(self, message: dict[str, Any]) -> None:
        """Send a message of up to 4,000 bytes, whole or not at all."""
        line = json.dumps(message).encode() + b"\n"
        # Up to 4,096 bytes the kernel writes as a whole (PIPE_BUF).
        if len(line) > MAX_LINE_BYTES:
            return
        try:
            os.write(self._writer, line)
        except (BlockingIOError, BrokenPipeError):
            return
