"""How far a running job is: its phase, how much of it is done, and how long each phase took.

The job says what it begins and what it has counted. From the steps that are ahead, each with the
share of time that it usually takes, follows the percentage of the whole, which is an estimate and
never falls.
"""

from __future__ import annotations

import logging
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
    "preparing",
    "fitting",
    "validating",
    "predicting",
    "uploading",
]
# A phase, and how long it takes beside the others.
Step = tuple[Phase, float]

# What the phases took of jobs on tables of numbers in Parquet, boosted, in percent, rounded.
COURSES: dict[str, tuple[Step, ...]] = {
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

Count = tuple[int | None, int | None]
_NO_COUNT: Count = (None, None)


def waiting() -> dict[str, Any]:
    """Return the progress of a job that has not begun."""
    return _message("waiting", 0.0, _NO_COUNT, _NO_COUNT)


class Progress:
    """The progress of one job, told to `send` at once when a phase begins, else four times a second
    at most.

    `send` takes a dict of `phase`, `percent` (0 to 100), `rows_done`, `rows_total`,
    `iterations_done` and `iterations_total`, None where that is not known. It must not block; an
    OSError of its own is passed over. Without `send` nothing is told. Any thread may count; a count
    costs about a microsecond.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send, self._clock = send, clock
        # A signal's handler may come to count while its own thread counts.
        self._lock = threading.RLock()
        self._rows = self._iterations = self._bytes = _NO_COUNT
        self.start("fit")

    @property
    def is_silent(self) -> bool:
        """Tell whether nobody listens."""
        return self._send is None

    @property
    def durations_s(self) -> dict[str, float]:
        """Return the seconds of each phase so far, those of all its times together."""
        with self._lock:
            found = dict(self._durations_s)
            if self._phase:
                found[self._phase] = (
                    found.get(self._phase, 0.0) + self._clock() - self._began
                )
        return {phase: round(seconds, 4) for phase, seconds in found.items()}

    def start(self, kind: str) -> Progress:
        """Begin anew, as a job of this kind: fit or predict."""
        with self._lock:
            self._ahead = list(COURSES[kind])
            self._phase: Phase | None = None
            self._durations_s: dict[str, float] = {}
            self._fold: tuple[int, int] | None = None
            # Percent: what the steps before have come to, what this one will, and the most that was
            # told.
            self._before = self._span = self._percent = 0.0
            self._reset()
        return self

    def expect(self, *steps: Step) -> None:
        """Put these steps in place of those ahead, but for the last one."""
        with self._lock:
            self._ahead = [*steps, *self._ahead[-1:]]

    def phase(self, name: Phase) -> None:
        """Begin a phase, which ends the one before; within a fold this says nothing."""
        with self._lock:
            if self._fold:
                return
            sentence = self._close()
            self._before, self._span = self._before + self._span, self._span_of(name)
            self._phase = name
            self._reset()
            self._tell()
        _log(sentence)

    def end(self) -> None:
        """End the last phase: everything is done."""
        with self._lock:
            sentence = self._close()
            self._percent, self._span = 100.0, 0.0
            self._tell()
            self._phase = None
        _log(sentence)

    def rows(
        self, done: int, total: int | None = None, about: int | None = None
    ) -> None:
        """Count rows of the phase; `about` is an estimate, which is for the percentage alone."""
        with self._lock:
            self._rows = (done, total)
            self._count(done, total or about)

    def iterations(self, done: int, total: int | None = None) -> None:
        """Count iterations of the phase; within a fold, those of that fold."""
        with self._lock:
            if self._fold:
                self._a_fold = a_fold = total or 1
                number, n_folds = self._fold
                done, total = number * a_fold + done, n_folds * a_fold
            self._iterations = (done, total)
            self._count(done, total)

    def downloaded(self, done: int, total: int | None = None) -> None:
        """Count bytes of the phase."""
        with self._lock:
            self._bytes = (done, total)
            self._count(done, total)

    @contextmanager
    def fold(self, number: int, n_folds: int) -> Iterator[None]:
        """Take what is done within for one of the equal parts of this phase; the first has number
        0."""
        self._fold, self._a_fold = (number, n_folds), 1
        try:
            yield
            self.iterations(self._a_fold, self._a_fold)
        finally:
            self._fold = None

    def _reset(self) -> None:
        self._began = self._clock()
        self._due = 0.0
        self._share = 0.0
        self._rows = self._iterations = self._bytes = _NO_COUNT

    def _span_of(self, name: Phase) -> float:
        """Go to the next step of this name, and return how many of the percent that are left it
        takes."""
        names = [phase for phase, _ in self._ahead]
        if name not in names:
            return 0.0
        weights = [weight for _, weight in self._ahead[names.index(name) :]]
        self._ahead = self._ahead[names.index(name) + 1 :]
        return (100.0 - self._before - self._span) * weights[0] / sum(weights)

    def _close(self) -> str:
        if self._phase is None:
            return ""
        seconds = self._clock() - self._began
        self._durations_s[self._phase] = (
            self._durations_s.get(self._phase, 0.0) + seconds
        )
        counts = {
            "bytes": self._bytes,
            "rows": self._rows,
            "iterations": self._iterations,
        }
        said = [
            _said(name, *count)
            for name, count in counts.items()
            if count[0] is not None
        ]
        return (
            f"{self._phase.capitalize()} took {seconds:.2f} "
            f"s{': ' if said else ''}{', '.join(said)}."
        )

    def _count(self, done: int, total: int | None) -> None:
        if total:
            self._share = done / total
        if self._clock() >= self._due:
            self._tell()

    def _tell(self) -> None:
        self._due = self._clock() + _INTERVAL_S
        self._percent = max(
            self._percent, self._before + self._span * min(1.0, self._share)
        )
        if self._send is not None and self._phase is not None:
            # A reader that is gone is no reason for a job to fail.
            with suppress(OSError):
                self._send(
                    _message(self._phase, self._percent, self._rows, self._iterations)
                )


SILENT = Progress()


def _message(
    phase: Phase, percent: float, rows: Count, iterations: Count
) -> dict[str, Any]:
    return {
        "phase": phase,
        "percent": round(percent, 1),
        "rows_done": rows[0],
        "rows_total": rows[1],
        "iterations_done": iterations[0],
        "iterations_total": iterations[1],
    }


def _said(name: str, done: int | None, total: int | None) -> str:
    return (
        f"{done:,} of {total:,} {name}"
        if total and total != done
        else f"{done:,} {name}"
    )


def _log(sentence: str) -> None:
    if sentence:
        log.info(sentence)
