"""Logs: one JSON object per line, or plain text on a terminal, with the ids of request and job.

Rowcast logs ids, counts and durations, and never a secret, the query of a URL, or the content of a
table. The messages of foreign exceptions may quote a table's values, so only their type and
traceback are logged.
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

# The default is never changed in place.
_context: ContextVar[dict[str, Any]] = ContextVar(
    "rowcast_log_context",
    default={},  # noqa: B039
)
_process = {"name": "rowcast"}

ExcInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None]
    | tuple[None, None, None]
)


def configure(settings: Settings, process: str) -> None:
    """Log this process to standard error, under the name `process`."""
    _process["name"] = process
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings.log_format))
    handler.addFilter(_add_context)
    level = settings.log_level.upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)

    # RQ needs several lines for what our logs say in one. matplotlib, which skrub loads, logs
    # about fonts.
    level = "DEBUG" if settings.log_level == "debug" else "WARNING"
    for name in ("rq.worker", "rq.job", "rq.queue", "matplotlib"):
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)


def _formatter(log_format: str) -> logging.Formatter:
    is_watched = log_format == "auto" and sys.stderr.isatty()
    if log_format == "text" or is_watched:
        return _TextFormatter()
    return _OurJsonFormatter()


def rename(process: str) -> None:
    """Change the name of this process in its log lines, as forks do."""
    _process["name"] = process


@contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Add fields, such as request_id and job_id, to each line that is logged inside."""
    known = {name: value for name, value in fields.items() if value is not None}
    token = _context.set({**_context.get(), **known})
    try:
        yield
    finally:
        _context.reset(token)


def traceback_without_values(exc_info: ExcInfo) -> str:
    """Format an exception, without its message unless it is ours: others may quote a table."""
    kind, error, frames = exc_info
    if kind is None:
        return ""

    summary = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, RowcastError):
        summary = f"{summary}: {error}"
    return "".join([*traceback.format_tb(frames), summary])


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
        """Put time, level and process first, then the message, the context and other fields."""
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
        context = record.context.items()  # type: ignore[attr-defined]
        fields = " ".join(f"{name}={value}" for name, value in context)
        text = super().format(record)
        head, newline, rest = text.partition("\n")
        return f"{head}  {fields}{newline}{rest}" if fields else text

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Format as `traceback_without_values` does."""
        return traceback_without_values(ei)
