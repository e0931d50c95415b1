"""A work horse as its worker sees it: a child process that runs one job, and two pipes to it.

The worker sends the order by one pipe, the work horse its reports by the other. The pipe of reports
also shows immediately that the work horse has ended, in whatever way: then its last writer is gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from rowcast.workers.report_pipe import ReportPipe

# A download reports each MiB. A longer silence means that it waits for the store, which it gives up
# itself in the end; a much longer one means that it hangs.
SILENT_S = 1.0
HANGS_S = 300.0
_READ_BYTES = 1 << 16


class WorkHorse:
    """A child process that runs one attempt of a job: `send_order`, then `wait` for its end."""

    def __init__(self, pid: int, reader: int, orders: int = -1) -> None:
        """Watch a process that holds the other ends of the two pipes."""
        self.pid = pid
        self.is_ready = False
        self.exit_status: int | None = None
        # The last report of progress as JSON, and the logged lines that nobody has fetched yet.
        self.progress = ""
        self.lines: list[str] = []
        # The digest that it asks to have signed, until `answer`.
        self.asks_signature = ""
        # Seconds of work. Waiting for the store does not count, nor does recording the job's end.
        self.worked_s = 0.0
        self._reader = reader
        self._orders = os.fdopen(orders, "wb") if orders >= 0 else None
        self._unfinished_line = b""
        self._phase = ""
        self._is_ending = False
        self._checked_at = time.monotonic()
        self._progress_at = time.monotonic()
        os.set_blocking(reader, False)

    @classmethod
    def fork(cls, live: Callable[[int, ReportPipe], None]) -> WorkHorse:
        """Fork a work horse, which calls `live` with its ends of the two pipes, and then ends.

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
        reader, writer, orders_reader, orders = ends
        if pid == 0:
            try:
                os.close(reader)
                os.close(orders)
                live(orders_reader, ReportPipe(writer))
            finally:
                os._exit(1)
        os.close(writer)
        os.close(orders_reader)
        return cls(pid, reader, orders)

    def awaits_order(self) -> bool:
        """Return whether it has reported that it is ready, and still runs."""
        self.wait(0)
        return self.is_ready and self.is_alive()

    def is_alive(self) -> bool:
        """Return whether the process runs, without reaping one that has ended."""
        if self.exit_status is not None:
            return False
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is None

    def send_order(self, order: bytes) -> None:
        """Send the job to run, one line; from now on the work horse works.

        A work horse that has ended meanwhile is noticed by `wait`.
        """
        self.worked_s = 0.0
        self.asks_signature = ""
        self._checked_at = self._progress_at = time.monotonic()
        self._send(order)

    def answer(self, signature: Mapping[str, str] | None) -> None:
        """Answer `asks_signature`; it may ask once."""
        self._send(json.dumps(signature or {}).encode() + b"\n")
        self._close_orders()

    def _send(self, line: bytes) -> None:
        with suppress(BrokenPipeError):
            if self._orders:
                self._orders.write(line)
                self._orders.flush()

    def _close_orders(self) -> None:
        if self._orders:
            with suppress(BrokenPipeError):
                self._orders.close()
            self._orders = None

    def wait(self, timeout_s: float) -> bool:
        """Read reports for at most `timeout_s` seconds; return whether the process has ended."""
        readable, _, _ = select.select([self._reader], [], [], timeout_s)
        data = os.read(self._reader, _READ_BYTES) if readable else b""
        self._count_time()
        self._read_reports(data)
        if readable and not data:
            self._reap()
        return self.exit_status is not None

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        if self.exit_status is None or not os.WIFSIGNALED(self.exit_status):
            return False
        return os.WTERMSIG(self.exit_status) == signal.SIGKILL

    def kill(self) -> None:
        """Kill the process."""
        os.kill(self.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """End a work horse that has been sent no order."""
        if self.exit_status is None:
            self.kill()
            self._reap()

    def _reap(self) -> None:
        # It may close the pipe a moment before it ends; nothing more comes.
        _, self.exit_status = os.waitpid(self.pid, 0)
        os.close(self._reader)
        self._close_orders()

    def _count_time(self) -> None:
        now = time.monotonic()
        if not self._is_waiting(now):
            self.worked_s += now - self._checked_at
        self._checked_at = now

    def _is_waiting(self, now: float) -> bool:
        if self._is_ending or self._phase == "uploading":
            return True
        # Before its first report an attempt asks the store for what earlier ones have left.
        may_wait = self._phase in ("", "downloading")
        silence_s = now - self._progress_at
        return may_wait and SILENT_S < silence_s < HANGS_S

    def _read_reports(self, data: bytes) -> None:
        *lines, self._unfinished_line = (self._unfinished_line + data).split(b"\n")
        for line in lines:
            self._read_report(line)

    def _read_report(self, line: bytes) -> None:
        report = json.loads(line)
        if "log" in report:
            self.lines.append(report["log"])
        if "sign" in report:
            self.asks_signature = str(report["sign"])
        if "ending" in report:
            self._is_ending = True
        if "ready" in report:
            self.is_ready = True
        if "progress" in report:
            progress = report["progress"]
            self.progress = json.dumps(progress)
            self._phase = progress["phase"]
            self._progress_at = time.monotonic()
