"""A line of the table: a figure for each run, its target, and the verdict."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

# After so long the machine has come to rest.
REST_S = 1.0


class NotMeasured(Exception):
    """This machine lacks what a line needs; the message says what, and how to get it."""


@dataclass(frozen=True)
class Target:
    """Where the median of a line's figures is to be."""

    word: Literal["at most", "under", "at least", "over"]
    bound: float

    def is_met(self, figure: float) -> bool:
        """Tell whether a figure is where it is to be."""
        if self.word in ("at most", "under"):
            return figure < self.bound or (
                self.word == "at most" and figure == self.bound
            )
        return figure > self.bound or (self.word == "at least" and figure == self.bound)


@dataclass(frozen=True)
class Pairs:
    """What the bare equivalent and the service took in each run, or did a second; `unit` is that of
    both."""

    bare: Sequence[float]
    service: Sequence[float]
    unit: str = "s"

    def ratios(self) -> list[float]:
        """Return the service's figure over the bare one, run by run."""
        return [
            service / bare
            for bare, service in zip(self.bare, self.service, strict=True)
        ]

    def extra(self) -> list[float]:
        """Return what the service's figure is more than the bare one, run by run."""
        return [
            service - bare
            for bare, service in zip(self.bare, self.service, strict=True)
        ]


@dataclass(frozen=True)
class Line:
    """A line: `figures` are one a run, in `unit`; `pairs` are what they were computed from, if from
    two.

    A line without figures says in `note` why it has none, and what it is in `problem`.
    """

    what: str
    unit: str = ""
    figures: Sequence[float] = ()
    target: Target | None = None
    pairs: Pairs | None = None
    note: str = ""
    problem: Literal["", "not measured", "FAILED"] = ""
    benchmark: str = ""

    @property
    def verdict(self) -> str:
        """Return met or MISSED, by the median; why there are no figures; nothing without a
        target."""
        if self.problem or self.target is None:
            return self.problem
        return (
            "met" if self.target.is_met(statistics.median(self.figures)) else "MISSED"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the form that is kept as JSON."""
        return {
            **asdict(self),
            "verdict": self.verdict,
            "summary": summary(self.figures),
        }


def summary(figures: Sequence[float]) -> dict[str, float] | None:
    """Return how many figures there are, their median and their spread."""
    if not figures:
        return None
    return {
        "runs": len(figures),
        "median": statistics.median(figures),
        "least": min(figures),
        "most": max(figures),
    }


def ratio(
    what: str, pairs: Pairs, target: Target | None = None, note: str = ""
) -> Line:
    """Return a line of how many times the bare figure the service's is."""
    return Line(what, "times", pairs.ratios(), target, pairs, note)


def extra(
    what: str, pairs: Pairs, target: Target | None = None, note: str = ""
) -> Line:
    """Return a line of how much more than the bare figure the service's is."""
    return Line(what, f"{pairs.unit} more", pairs.extra(), target, pairs, note)


def alternate(
    n_runs: int,
    bare: Callable[[], float],
    service: Callable[[], float],
    unit: str = "s",
    *,
    n_warm_ups: int = 1,
) -> Pairs:
    """Measure both in turn, because what else the machine does changes by the minute.

    The first pairs warm both up and do not count. Before each the machine comes to rest: the
    service has things to do after a job, and threads of the bare process spin for a while.
    """

    def rested(run: Callable[[], float]) -> float:
        time.sleep(REST_S)
        return run()

    pairs = [(rested(bare), rested(service)) for _ in range(n_warm_ups + n_runs)][
        n_warm_ups:
    ]
    return Pairs([one for one, _ in pairs], [other for _, other in pairs], unit)


@dataclass(frozen=True)
class Benchmark:
    """What measures one or several lines: its name, by which it is asked for, and what it
    measures."""

    name: str
    what: str
    measure: Callable[[Any], list[Line]] = field(repr=False)
