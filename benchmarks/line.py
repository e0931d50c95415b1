"""A line of the table: a figure for each run, its target, and the verdict."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

# A pause after which the machine has come to rest.
REST_S = 1.0


class NotMeasured(Exception):
    """The machine lacks something that a benchmark needs; the message says how to get it."""


@dataclass(frozen=True)
class Target:
    """The bound that the median of a line's figures must keep."""

    word: Literal["at most", "under", "at least", "over"]
    bound: float

    def is_met(self, figure: float) -> bool:
        """Return whether a figure keeps the bound."""
        compare = {
            "at most": operator.le,
            "under": operator.lt,
            "at least": operator.ge,
            "over": operator.gt,
        }
        return bool(compare[self.word](figure, self.bound))


@dataclass(frozen=True)
class Pairs:
    """One figure of the bare equivalent and one of the service for each run, both in `unit`."""

    bare: Sequence[float]
    service: Sequence[float]
    unit: str = "s"

    def ratios(self) -> list[float]:
        """Return the service's figure divided by the bare one, for each run."""
        runs = zip(self.bare, self.service, strict=True)
        return [service / bare for bare, service in runs]

    def extra(self) -> list[float]:
        """Return the service's figure minus the bare one, for each run."""
        runs = zip(self.bare, self.service, strict=True)
        return [service - bare for bare, service in runs]


@dataclass(frozen=True)
class Line:
    """A line of the table, with one figure in `unit` for each run.

    `pairs` are the figures of both sides, if the line compares two. A line without figures has a
    `problem`, and says why in `note`.
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
        """`met` or `MISSED` by the median; the problem, or nothing without a target."""
        if self.problem or self.target is None:
            return self.problem
        is_met = self.target.is_met(statistics.median(self.figures))
        return "met" if is_met else "MISSED"

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON has it, with its verdict and summary."""
        return {
            **asdict(self),
            "verdict": self.verdict,
            "summary": summary(self.figures),
        }


def summary(figures: Sequence[float]) -> dict[str, float] | None:
    """Return the number of figures, their median, and the least and most of them."""
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
    """Return a line of the service's figure as a multiple of the bare one."""
    return Line(what, "times", pairs.ratios(), target, pairs, note)


def extra(
    what: str, pairs: Pairs, target: Target | None = None, note: str = ""
) -> Line:
    """Return a line of how much the service's figure exceeds the bare one."""
    return Line(what, f"{pairs.unit} more", pairs.extra(), target, pairs, note)


def alternate(
    n_runs: int,
    bare: Callable[[], float],
    service: Callable[[], float],
    unit: str = "s",
    *,
    n_warm_ups: int = 1,
) -> Pairs:
    """Measure both alternately, because the load of the machine changes by the minute.

    The first `n_warm_ups` pairs do not count. The machine rests before each measurement: the
    service still works after a job, and threads of the bare process spin for a while.
    """

    def rested(run: Callable[[], float]) -> float:
        time.sleep(REST_S)
        return run()

    bare_figures = []
    service_figures = []
    for _ in range(n_warm_ups + n_runs):
        bare_figures.append(rested(bare))
        service_figures.append(rested(service))
    return Pairs(bare_figures[n_warm_ups:], service_figures[n_warm_ups:], unit)


@dataclass(frozen=True)
class Benchmark:
    """A function that measures one or more lines, with the name for --only."""

    name: str
    what: str
    measure: Callable[[Any], list[Line]] = field(repr=False)
