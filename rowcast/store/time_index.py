"""A walk through an owner's ids, newest first: back through folders of days and hours.

A store lists forwards only, and an hour may hold thousands of ids. So an hour is listed in
windows of time, the last one first. The first window is short, so a page of few ids is cheap.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from rowcast.ids import first_at, folder_of, time_of

# Takes a folder and two bounds. Returns the sorted paths of its folders that sort between them.
ListFolders = Callable[[str, str, str], list[str]]

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_HOUR = re.compile(r"\d{2}")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HOUR_S = 3600.0
# Sorts after all names that begin with digits and letters.
_LAST = "~"


class _Pace:
    """The length of the next window in seconds, adapted to hold some 25 to 250 ids."""

    FIRST_S = 30.0
    FEW = 25
    MANY = 250
    FACTOR = 8

    def __init__(self) -> None:
        self.window_s = self.FIRST_S

    def adapt(self, n_found: int) -> None:
        """Lengthen or shorten the next window, by the number of ids in the last one."""
        if n_found < self.FEW:
            self.window_s = min(self.window_s * self.FACTOR, _HOUR_S)
        elif n_found > self.MANY:
            self.window_s = max(self.window_s / self.FACTOR, 1.0)


def walk(list_folders: ListFolders, owner: str, before: str | None) -> Iterator[str]:
    """Yield an owner's ids, newest first, from the next one after `before` on.

    Everything else in the store is skipped. Raises what `list_folders` raises.
    """
    bound = f"{owner}/{_LAST}"
    if before:
        bound = folder_of(owner, before) or bound
    pace = _Pace()
    for day in _folders(list_folders, owner, bound, DAY):
        for hour in _folders(list_folders, day, bound, _HOUR):
            for path in _in_hour(list_folders, hour, bound, pace):
                identifier = id_of(owner, path)
                if identifier:
                    yield identifier


def id_of(owner: str, folder: str) -> str | None:
    """Return the id that a folder belongs to; None unless it is a folder of an id of ours."""
    identifier = folder.rpartition("/")[2]
    if _ID.fullmatch(identifier) and folder == folder_of(owner, identifier):
        return identifier
    return None


def _folders(
    list_folders: ListFolders, folder: str, bound: str, pattern: re.Pattern[str]
) -> list[str]:
    """Return the folders of a level that may hold ids before `bound`, the last one first."""
    found = []
    for path in list_folders(folder, "", _LAST):
        name = path.rpartition("/")[2]
        # All names of a level have the same length, so paths sort by time.
        if pattern.fullmatch(name) and path <= bound[: len(path)]:
            found.append(path)
    return sorted(found, reverse=True)


def _in_hour(
    list_folders: ListFolders, hour: str, bound: str, pace: _Pace
) -> Iterator[str]:
    """Yield the folders of an hour that sort before `bound`, the last one first."""
    hour_starts_s = _start_of(hour)
    end, end_s = f"{hour}/{_LAST}", time.time()
    if bound.startswith(hour):
        end, end_s = bound, _seconds_of(bound)
    start_s = min(end_s, hour_starts_s + _HOUR_S)
    while True:
        start_s -= pace.window_s
        is_last = start_s <= hour_starts_s
        start = "" if is_last else f"{hour}/{first_at(start_s)}"
        found = list_folders(hour, start, end)
        yield from reversed(found)
        if is_last:
            return
        # The last window may be shorter than the others, so it teaches nothing.
        pace.adapt(len(found))
        end = start


def _start_of(hour: str) -> float:
    """Return the Unix seconds at which the hour of a folder starts; 0 for an impossible date."""
    text = hour[-len("yyyy-mm-dd/hh") :]
    try:
        return datetime.strptime(f"{text}+0000", "%Y-%m-%d/%H%z").timestamp()
    except ValueError:
        return 0.0


def _seconds_of(folder: str) -> float:
    """Return the Unix seconds of the id that a folder belongs to."""
    moment = time_of(folder.rpartition("/")[2])
    return moment.timestamp() if moment else time.time()
