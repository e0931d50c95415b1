"""How far a running job is: its phase, the share that is done, and how long each phase took.

The job reports each phase that it begins and what it has counted. The percentage of the whole
follows from the steps that are still ahead, each with the share of time that it usually takes. It
is an estimate, and never falls.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

log = logging.getLogger("rowcast.job")

Phase = Literal[
    "waiting",
    "downloading",
    "reading",
    "comparing",
    "preparing",
    "fitting",
    "validating",
    "predicting",
    "uploading",
]
# A phase, and how long it takes relative to the others.
Step = tuple[Phase, float]

# Rounded percentages of time that the phases took, measured on jobs that boost on tables of numbers
# in Parquet.
STEPS: dict[str, tuple[Step, ...]] = {
    "fit": (
        ("downloading", 5),
        ("reading", 10),
        ("preparing", 2),
        ("fitting", 65),
        ("validating", 15),
        ("uploading", 3),
    ),
    "predict": (
        ("downloading", 15),
        ("reading", 5),
        ("predicting", 70),
        ("uploading", 10),
    ),
}
_INTERVAL_S = 0.25

# How many are done, and of how many; None where that is not known.
Count = tuple[int | None, int | None]
_NO_COUNT: Count = (None, None)


def waiting() -> dict[str, Any]:
    """Return the progress of a job that has not begun."""
    return _message("waiting", 0.0, _NO_COUNT, _NO_COUNT)


class Progress:
    """The progress of one job, sent when a phase begins and else at most four times a second.

    `send` gets a dict of `phase`, `percent` (0 to 100), `rows_done`, `rows_total`,
    `iterations_done`, `iterations_total` and `best_loss`, with None for what is not known. It must
    not block; an OSError that it raises is ignored. Without `send`, nothing is sent. Any thread
    may count; a count costs about a microsecond.
    """

    _rows: Count
    _iterations: Count
    _bytes: Count
    _best_loss: float | None

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send_message = send
        self._clock = clock
        # A signal handler may count while its own thread counts.
        self._lock = threading.RLock()
        self.start("fit")

    @property
    def is_silent(self) -> bool:
        """Return whether nothing is sent."""
        return self._send_message is None

    @property
    def durations_s(self) -> dict[str, float]:
        """Return the seconds of each phase so far; a phase that is repeated has their sum."""
        with self._lock:
            found = dict(self._durations_s)
            if self._phase:
                earlier_s = found.get(self._phase, 0.0)
                found[self._phase] = earlier_s + self._clock() - self._began
        return {phase: round(seconds, 4) for phase, seconds in found.items()}

    def start(self, kind: str) -> Progress:
        """Start from zero, as a job of this kind: fit or predict."""
        with self._lock:
            self._ahead = list(STEPS[kind])
            self._phase: Phase | None = None
            self._durations_s: dict[str, float] = {}
            self._fold: tuple[int, int] | None = None
            # In percent: the sum of the earlier steps, the current step, and the most ever sent.
            self._before = 0.0
            self._span = 0.0
            self._percent = 0.0
            self._reset()
        return self

    def expect(self, *steps: Step) -> None:
        """Replace the steps that are ahead, except for the last one."""
        with self._lock:
            self._ahead = [*steps, *self._ahead[-1:]]

    def phase(self, name: Phase) -> None:
        """Begin a phase, which ends the one before; does nothing within a fold."""
        with self._lock:
            if self._fold:
                return
            sentence = self._close()
            span = self._span_of(name)
            self._before += self._span
            self._span = span
            self._phase = name
            self._reset()
            self._send()
        _log(sentence)

    def end(self) -> None:
        """End the last phase: everything is done."""
        with self._lock:
            sentence = self._close()
            self._percent = 100.0
            self._span = 0.0
            self._send()
            self._phase = None
        _log(sentence)

    def rows(
        self, done: int, total: int | None = None, about: int | None = None
    ) -> None:
        """Count rows of the phase; `about` is an estimate, used for the percentage only."""
        with self._lock:
            self._rows = (done, total)
            self._count(done, total or about)

    def iterations(self, done: int, total: int | None = None) -> None:
        """Count iterations of the phase; within a fold, those of that fold."""
        with self._lock:
            if self._fold:
                number, n_folds = self._fold
                self._per_fold = total or 1
                done += number * self._per_fold
                total = n_folds * self._per_fold
            self._iterations = (done, total)
            self._count(done, total)

    def trials(self, done: int, share: float) -> None:
        """Count trials of a search, of whose time a share is over; within a fold, of that fold."""
        with self._lock:
            if self._fold:
                number, n_folds = self._fold
                share = (number + share) / n_folds
            self._iterations = (done, None)
            self._share = share
            self._count(done, None)

    def best(self, loss: float) -> None:
        """Note the lowest loss of the candidates compared so far; it goes with the next count."""
        with self._lock:
            self._best_loss = loss if math.isfinite(loss) else None

    def downloaded(self, done: int, total: int | None = None) -> None:
        """Count bytes of the phase."""
        with self._lock:
            self._bytes = (done, total)
            self._count(done, total)

    @contextmanager
    def fold(self, number: int, n_folds: int) -> Iterator[None]:
        """Count what happens within as one of the equal parts of this phase, from number 0 on."""
        self._fold = (number, n_folds)
        self._per_fold = 1
        try:
            yield
            self.iterations(self._per_fold, self._per_fold)
        finally:
            self._fold = None

    def _reset(self) -> None:
        self._began = self._clock()
        self._due = 0.0
        self._share = 0.0
        self._rows = _NO_COUNT
        self._iterations = _NO_COUNT
        self._bytes = _NO_COUNT
        self._best_loss = None

    def _span_of(self, name: Phase) -> float:
        """Go to the next step of this name and return its share of what is left, in percent."""
        names = [phase for phase, _ in self._ahead]
        if name not in names:
            return 0.0
        place = names.index(name)
        weights = [weight for _, weight in self._ahead[place:]]
        self._ahead = self._ahead[place + 1 :]
        return (100.0 - self._before - self._span) * weights[0] / sum(weights)

    def _close(self) -> str:
        """Add the current phase to the durations and return a sentence for the log."""
        if self._phase is None:
            return ""
        seconds = self._clock() - self._began
        earlier_s = self._durations_s.get(self._phase, 0.0)
        self._durations_s[self._phase] = earlier_s + seconds
        counts = {
            "bytes": self._bytes,
            "rows": self._rows,
            "iterations": self._iterations,
        }
        counted = ", ".join(
            _counted(name, done, total)
            for name, (done, total) in counts.items()
            if done is not None
        )
        took = f"{self._phase.capitalize()} took {seconds:.2f} s"
        return f"{took}: {counted}." if counted else f"{took}."

    def _count(self, done: int, total: int | None) -> None:
        if total:
            self._share = done / total
        if self._clock() >= self._due:
            self._send()

    def _send(self) -> None:
        self._due = self._clock() + _INTERVAL_S
        reached = self._before + self._span * min(1.0, self._share)
        self._percent = max(self._percent, reached)
        if self._send_message is None or self._phase is None:
            return
        message = _message(
            self._phase, self._percent, self._rows, self._iterations, self._best_loss
        )
        # A job does not fail because its reader is gone.
        with suppress(OSError):
            self._send_message(message)


SILENT = Progress()


def _message(
    phase: Phase,
    percent: float,
    rows: Count,
    iterations: Count,
    best_loss: float | None = None,
) -> dict[str, Any]:
    return {
        "phase": phase,
        "percent": round(percent, 1),
        "rows_done": rows[0],
        "rows_total": rows[1],
        "iterations_done": iterations[0],
        "iterations_total": iterations[1],
        "best_loss": best_loss,
    }


def _counted(name: str, done: int, total: int | None) -> str:
    if total and total != done:
        return f"{done:,} of {total:,} {name}"
    return f"{done:,} {name}"


def _log(sentence: str) -> None:
    if sentence:
        log.info(sentence)
