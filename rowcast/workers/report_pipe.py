"""The work horse's end of the pipe by which it reports to its worker.

A report is one line of JSON with one member, which names it: `{"ready": true}`,
`{"progress": {"phase": "fitting", ...}}`, `{"log": "..."}`, `{"sign": "<digest>"}` or
`{"ending": true}`.
"""

from __future__ import annotations

import json
import os
import select
from typing import Any

# The kernel writes up to 4,096 bytes (PIPE_BUF) as a whole.
MAX_REPORT_BYTES = 4_000


class ReportPipe:
    """Sends reports. A worker that reads too slowly misses some; only `ask_signature` waits."""

    def __init__(self, writer: int) -> None:
        """Write to a pipe."""
        os.set_blocking(writer, False)
        self._writer = writer

    def send_ready(self) -> None:
        """Report that a standby work horse waits for its order."""
        self._send({"ready": True})

    def send_progress(self, progress: dict[str, Any]) -> None:
        """Report how far the job is."""
        self._send({"progress": progress})

    def send_log(self, line: str) -> None:
        """Report a line that the job logged."""
        self._send({"log": line})

    def ask_signature(self, digest: str) -> None:
        """Ask for the signature of a model's manifest, and wait until that can be sent."""
        # The pipe is writable when it has room for a whole report.
        select.select([], [self._writer], [])
        self._send({"sign": digest})

    def send_ending(self) -> None:
        """Report that the work is over, and the end of the job is being recorded."""
        self._send({"ending": True})

    def _send(self, report: dict[str, Any]) -> None:
        """Write a report, as a whole or not at all."""
        line = json.dumps(report).encode() + b"\n"
        if len(line) > MAX_REPORT_BYTES:
            return
        try:
            os.write(self._writer, line)
        except (BlockingIOError, BrokenPipeError):
            return
