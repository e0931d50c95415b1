"""The history of each job as /status tells it while things break: it must make sense."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from client import Client, RowcastError

FINAL = frozenset({"finished", "failed", "canceled"})
PAUSE_S = 0.2


@dataclass
class Histories:
    """The last status that was seen of each job, and the problems."""

    last: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def note(self, status: dict[str, Any]) -> None:
        """Compare a status with the one before: nothing follows an end, attempts never fall."""
        job = status["id"]
        before = self.last.get(job)
        self.last[job] = status
        if before is None:
            return
        if before["status"] in FINAL and before["status"] != status["status"]:
            self.problems.append(
                f"{job} was {before['status']}, and then {status['status']}"
            )
        if status["attempts"] < before["attempts"]:
            self.problems.append(
                f"{job} had {before['attempts']} attempts, and then {status['attempts']}"
            )

    def watch(
        self, client: Client, jobs: Iterable[dict[str, str]], is_over: threading.Event
    ) -> None:
        """Ask for all jobs that are known, again and again, until it is over.

        `jobs`: for each user, the ids of its jobs so far.
        """
        while not is_over.wait(PAUSE_S):
            for job in [job for each in jobs for job in tuple(each)]:
                if is_over.is_set():
                    return
                # While things break, some requests fail.
                with contextlib.suppress(RowcastError):
                    self.note(client.status(job))
