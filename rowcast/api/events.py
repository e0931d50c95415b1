"""The status of a job as server-sent events, for as long as the job goes on.

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
LONGEST_S = 600.0
# A browser reconnects by itself this long after its stream has ended.
RETRY_MS = 1000
# The id of the last event. A caller that comes again with it has seen the end.
ENDED = "ended"
# Members that change with the time alone do not make an event.
_NOT_NEWS = ("eta_s",)


def stream(
    statuses: Iterable[dict[str, Any] | None], is_wanted: Callable[[], bool]
) -> Iterator[str]:
    """Yield an event for each status that is news, and a comment if none comes for long.

    `statuses`: the status of the job, turn by turn; None where it is unknown. The stream ends with
    them, after ten minutes, or when `is_wanted` says that nobody reads any more.
    """
    started_at = sent_at = time.monotonic()
    sent = None
    yield f"retry: {RETRY_MS}\n\n"
    for status in statuses:
        now = time.monotonic()
        news = _news_of(status) if status else sent
        if status and news != sent:
            sent, sent_at = news, now
            yield _event(status)
        elif now - sent_at >= KEEP_ALIVE_S:
            sent_at = now
            yield ": nothing new\n\n"
        if now - started_at >= LONGEST_S or not is_wanted():
            return


def _news_of(status: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name not in _NOT_NEWS}


def _event(status: dict[str, Any]) -> str:
    last = f"id: {ENDED}\n" if status["status"] in FINAL else ""
    return f"event: status\n{last}data: {json.dumps(status)}\n\n"
