"""Logs: one JSON object a line, plain text on a terminal, each with what the work is for.

Rowcast logs ids, counts and durations: never a secret, the query of a URL, or what a table holds.
Messages of foreign exceptions may quote a table's values, so only their type and traceback are
kept.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from rowcast.config import Settings
from rowcast.errors import RowcastError

_context: ContextVar[dict[str, Any]] = ContextVar("rowcast_log_context", default={})  # noqa: B039 - never changed in place
_process = {"name": "rowcast"}

ExcInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None]
    | tuple[None, None, None]
)


def configure(settings: Settings, process: str) -> None:
    """Send all log lines of this process to standard error, named `process` (server, worker,
    horse)."""
    _process["name"] = process
    as_text = settings.log_format == "text" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TextFormatter() if as_text else _OurJsonFormatter())
    handler.addFilter(_add_context)
    logging.basicConfig(
        level=settings.log_level.upper(), handlers=[handler], force=True
    )
    # RQ says in several lines what one line of ours says; matplotlib, which skrub loads, talks of
    # fonts.
    for name in ("rq.worker", "rq.job", "rq.queue", "matplotlib"):
        logging.getLogger(name).setLevel(
            "DEBUG" if settings.log_level == "debug" else "WARNING"
        )
    logging.captureWarnings(True)


def rename(process: str) -> None:
    """Call this process by another name from now on, as a fork does."""
    _process["name"] = process


@contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Add fields, such as request_id and job_id, to every line that is logged within."""
    token = _context.set(
        {**_context.get(), **{k: v for k, v in fields.items() if v is not None}}
    )
    try:
        yield
    finally:
        _context.reset(token)


def traceback_without_values(exc_info: ExcInfo) -> str:
    """Format an exception; the message is kept only where it is ours, because others may quote a
    table."""
    kind, error, frames = exc_info
    if kind is None:
        return ""
    lines = traceback.format_tb(frames)
    name = f"{kind.__module__}.{kind.__qualname__}"
    return "".join(lines) + (
        f"{name}: {error}" if isinstance(error, RowcastError) else name
    )


def _add_context(record: logging.LogRecord) -> bool:
    record.process_name = _process["name"]
    record.context = _context.get()
    return True


class _OurJsonFormatter(JsonFormatter):
    def __init__(self) -> None:
        super().__init__("%(message)s")

    def add_fields(
        self,
        log_data: dict[str, Any],
        record: logging.LogRecord,
        message_dict: dict[str, Any],
    ) -> None:
        """Put time, level and process first, then the message, the context and the line's own
        fields."""
        log_data["time"] = round(record.created, 3)
        log_data["level"] = record.levelname.lower()
        log_data["process"] = record.process_name  # type: ignore[attr-defined]
        log_data["logger"] = record.name
        super().add_fields(log_data, record, message_dict)
        log_data.update(log_data.pop("context", {}))
        log_data.pop("process_name", None)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Format as `traceback_without_values` does."""
        return traceback_without_values(ei)


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)-7s %(process_name)s: %(message)s", "%H:%M:%S"
        )

    def format(self, record: logging.LogRecord) -> str:
        """Append the context to the line."""
        fields = " ".join(f"{k}={v}" for k, v in record.context.items())  # type: ignore[attr-defined]
        text = super().format(record)
        head, newline, rest = text.partition("\n")
        return f"{head}  {fields}{newline}{rest}" if fields else text

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Format as `traceback_without_values` does."""
        return traceback_without_values(ei)
