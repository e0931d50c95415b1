"""What an owner has, newest first: a walk back through the folders of days and hours, and through
their ids.

A store lists forwards only, and an hour may hold thousands of ids. So an hour is walked back in
windows, the first a short one: each is listed from its beginning on, and nothing before it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from rowcast.ids import first_at, folder_of, time_of

# Takes a folder and two bounds; returns the paths of the folders in it between the two, in their
# order.
List = Callable[[str, str, str], list[str]]

DAY, _HOUR = re.compile(r"\d{4}-\d{2}-\d{2}"), re.compile(r"\d{2}")
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HOUR_S = 3600.0
# Sorts after all names that begin with digits and letters.
_LAST = "~"


class _Pace:
    """How long the next window is, in seconds, such that it holds some ten to some hundred ids."""

    FIRST_S, FEW, MANY, TIMES = 30.0, 25, 250, 8

    def __init__(self) -> None:
        self.window_s = self.FIRST_S

    def found(self, n: int) -> None:
        """Learn from a window that held so many."""
        if n < self.FEW:
            self.window_s = min(self.window_s * self.TIMES, _HOUR_S)
        elif n > self.MANY:
            self.window_s = max(self.window_s / self.TIMES, 1.0)


def walk(listed: List, owner: str, before: str | None) -> Iterator[str]:
    """Yield the ids under which an owner has something, from the one after `before` on.

    The store may hold other things; they are passed over. Raises what `listed` raises.
    """
    bound, pace = (before and folder_of(owner, before)) or f"{owner}/{_LAST}", _Pace()
    for day in _folders(listed, owner, bound, DAY):
        for hour in _folders(listed, day, bound, _HOUR):
            for path in _in_hour(listed, hour, bound, pace):
                identifier = path.rpartition("/")[2]
                if ID.fullmatch(identifier) and path == folder_of(owner, identifier):
                    yield identifier


def _folders(listed: List, folder: str, bound: str, name: re.Pattern[str]) -> list[str]:
    """Return the folders with such names that may hold what sorts before `bound`, the last one
    first."""
    # All names of a level are of the same length, so the text of a path is its time.
    found = (path for path in listed(folder, "", _LAST) if path <= bound[: len(path)])
    return sorted(
        (path for path in found if name.fullmatch(path.rpartition("/")[2])),
        reverse=True,
    )


def _in_hour(listed: List, hour: str, bound: str, pace: _Pace) -> Iterator[str]:
    """Yield the folders of an hour that sort before `bound`, the last one first."""
    begins_s, before = (
        _begins_at(hour),
        time_of(bound.rpartition("/")[2]) if bound.startswith(hour) else None,
    )
    at_s = min(begins_s + _HOUR_S, before.timestamp() + 1 if before else time.time())
    end = bound if before else f"{hour}/{_LAST}"
    while True:
        at_s -= pace.window_s
        start = f"{hour}/{first_at(at_s)}" if at_s > begins_s else ""
        found = listed(hour, start, end)
        yield from reversed(found)
        if not start:
            return
        pace.found(len(found))
        end = start


def _begins_at(hour: str) -> float:
    """Return the Unix seconds at which an hour begins, by its folder; 0 for none of a calendar."""
    try:
        return (
            datetime.strptime(hour[-len("yyyy-mm-dd/hh") :], "%Y-%m-%d/%H")
            .replace(tzinfo=UTC)
            .timestamp()
        )
    except ValueError:
        return 0.0
