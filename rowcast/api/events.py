"""How a job is doing as server-sent events: a text that goes on for as long as there is something
to tell.

The format is that of the HTML standard, section 9.2, which browsers read by `EventSource`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rowcast.jobs import FINAL

MIME_TYPE = "text/event-stream"
KEEP_ALIVE_S = 10.0
# A caller whose stream has ended comes again by itself, after this pause.
LONGEST_S, RETRY_MS = 600.0, 1000
# The id of the last event. Who comes again with it has seen the end.
ENDED = "ended"
# What changes with the time alone is no news.
_NO_NEWS = ("eta_s",)


def stream(
    statuses: Iterable[dict[str, Any] | None], is_wanted: Callable[[], bool]
) -> Iterator[str]:
    """Yield an event for each status that is news, and a comment where there is none for long.

    `statuses`: how the job is doing, turn by turn; None where that is not known. The stream ends
    with them, after ten minutes, or when `is_wanted` says that nobody reads any more.
    """
    begun = spoken = time.monotonic()
    told = None
    yield f"retry: {RETRY_MS}\n\n"
    for status in statuses:
        now = time.monotonic()
        if status and (news := _news_of(status)) != told:
            told, spoken = news, now
            yield _event(status)
        elif now - spoken >= KEEP_ALIVE_S:
            spoken = now
            yield ": nothing new\n\n"
        if now - begun >= LONGEST_S or not is_wanted():
            return


def _news_of(status: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name not in _NO_NEWS}


def _event(status: dict[str, Any]) -> str:
    last = f"id: {ENDED}\n" if status["status"] in FINAL else ""
    return f"event: status\n{last}data: {json.dumps(status)}\n\n"
