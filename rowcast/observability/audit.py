"""The audit log: who did what with which object, one JSON object per line, apart from other logs.

A line is one write, so the lines of several processes never mix. It is ASCII, with all control
characters escaped, so that no value can forge a line. Long values are cut. Secrets and URLs are
never in it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from typing import Any

log = logging.getLogger("rowcast.audit")

MAX_VALUE_CHARS = 200
MAX_REFUSALS_PER_S = 5

# Address, owner and status.
Source = tuple[str | None, str | None, int]


class AuditLog:
    """Where the lines go: a file's path, `stdout`, `stderr` or `off`."""

    def __init__(self, target: str) -> None:
        """Write to a target, which is opened with each line, so that a file may be rotated."""
        self._target = target
        self._lock = threading.Lock()
        self._is_torn = False

    def check(self) -> None:
        """Raise OSError where the file cannot be written."""
        if self._target not in ("off", "stdout", "stderr"):
            os.close(self._open())

    def write(self, action: str, outcome: str, **fields: Any) -> None:
        """Write a line; a failure is logged, and the work goes on."""
        if self._target == "off":
            return
        line = {"time": round(time.time(), 3), "action": action, "outcome": outcome}
        line |= {name: value for name, value in fields.items() if value is not None}
        text = json.dumps(_cut(line)) + "\n"
        try:
            self._append(text.encode())
        except OSError as error:
            log.error("the audit log cannot be written: %s", error.strerror)

    def _append(self, line: bytes) -> None:
        with self._lock:
            if self._target == "stdout":
                os.write(sys.__stdout__.fileno(), line)  # type: ignore[union-attr]
                return
            if self._target == "stderr":
                os.write(sys.__stderr__.fileno(), line)  # type: ignore[union-attr]
                return
            descriptor = self._open()
            try:
                # What a full disk left of the last line must not spoil this one.
                whole = b"\n" + line if self._is_torn else line
                self._is_torn = os.write(descriptor, whole) < len(whole)
            finally:
                os.close(descriptor)
            if self._is_torn:
                log.error("the audit log cannot be written: the disk is full")

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._target, flags, 0o600)


class FloodGate:
    """Bounds the lines of refusals, which anybody can cause at any rate.

    Of each second, the first MAX_REFUSALS_PER_S lines of a source pass; the others are counted.
    """

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._lock = threading.Lock()
        self._second = 0
        self._counts: Counter[Source] = Counter()

    def passes(self, source: Source) -> bool:
        """Count a line of a source, and return whether it may be written."""
        with self._lock:
            self._counts[source] += 1
            return self._counts[source] <= MAX_REFUSALS_PER_S

    def left_out(self) -> dict[Source, int]:
        """Return how many lines were left out, once, when their second is over."""
        second = int(time.monotonic())
        with self._lock:
            if second == self._second:
                return {}
            self._second = second
            counts, self._counts = self._counts, Counter()
        return {
            source: n_lines - MAX_REFUSALS_PER_S
            for source, n_lines in counts.items()
            if n_lines > MAX_REFUSALS_PER_S
        }


def outcome_of(status: int) -> str:
    """Return what became of a request, by the status of its answer."""
    if status in (401, 403, 429):
        return "refused"
    if status < 400:
        return "done"
    return "rejected" if status < 500 else "failed"


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _cut(each) for name, each in value.items()}
    return value[:MAX_VALUE_CHARS] if isinstance(value, str) else value
