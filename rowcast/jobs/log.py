"""The log of a job, for its owner: a bounded list of lines, each sent on as it comes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

# Lines that are kept of a job, the last ones, and characters of a line.
MAX_LINES = 500
MAX_LINE_CHARACTERS = 500


class _Recorder(logging.Handler):
    def __init__(self, lines: deque[str], send: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._lines, self._send = lines, send

    def emit(self, record: logging.LogRecord) -> None:
        created = datetime.fromtimestamp(record.created, UTC)
        at = created.isoformat(timespec="milliseconds")
        # A traceback stays in the operator's log.
        message = " ".join(record.getMessage().splitlines())
        line = f"{at} {record.levelname.lower()} {message}"[:MAX_LINE_CHARACTERS]
        self._lines.append(line)
        self._send(line)


@contextmanager
def recorded(earlier: list[str], send: Callable[[str], None]) -> Iterator[deque[str]]:
    """Yield the last lines of a job's log, which grows as the job logs.

    Lines of earlier attempts come first. Only Rowcast's own messages are kept: those of libraries
    may quote a table's values.
    """
    lines = deque(earlier, MAX_LINES)
    logger = logging.getLogger("rowcast")
    recorder = _Recorder(lines, send)
    with _passing_on_info(logger):
        logger.addHandler(recorder)
        try:
            yield lines
        finally:
            logger.removeHandler(recorder)


@contextmanager
def _passing_on_info(logger: logging.Logger) -> Iterator[None]:
    """Let a logger pass on what the owner sees, even if the operator's own log holds less."""
    level = logger.level
    least = logger.getEffectiveLevel()
    others = [(handler, handler.level) for handler in logging.getLogger().handlers]
    for handler, own in others:
        handler.setLevel(max(own, least))
    logger.setLevel(min(least, logging.INFO))
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler, own in others:
            handler.setLevel(own)
