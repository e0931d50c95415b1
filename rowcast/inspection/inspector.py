"""An inspector: looks at one table after the other, of which it reads parts through the server."""

from __future__ import annotations

import logging
import math
import resource
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from rowcast import errors
from rowcast.config import Settings
from rowcast.inspection import limits, protocol
from rowcast.inspection.protocol import Check, Findings, Question, Read
from rowcast.observability import logs
from rowcast.system import Deadline, memory, sandbox
from rowcast.tables import (
    Feature,
    Limits,
    ReadingOptions,
    Sample,
    Selection,
    checks,
    formats,
)

log = logging.getLogger("rowcast.inspection")

_SMALL_TABLE = b"a,y\n1,2\n"


class ServerGone(Exception):
    """The server has given up the question."""


def serve(settings: Settings, control: socket.socket, deadline: Deadline) -> None:
    """Answer one question after the other; return when the server has ended.

    It also returns after a table that took half of the memory, of which this process would keep
    much; another process then takes its place.
    """
    memory.die_first()
    sandbox.confine([])
    pa.set_cpu_count(1)
    _warm_up(settings)
    memory.limit_growth(settings.inspection_memory_bytes)
    most_bytes = memory.peak_bytes() + settings.inspection_memory_bytes // 2
    inspector = _Inspector(deadline, settings.inspection_timeout_s)
    while memory.peak_bytes() < most_bytes:
        connection = protocol.accept(control)
        if connection is None:
            return
        with connection:
            inspector.answer(connection)


def _warm_up(settings: Settings) -> None:
    """Load what Arrow loads on first use, so that the first question does not pay for it."""
    size = len(_SMALL_TABLE)
    question = Question(size, vars(Limits.of(settings)), Check.fit(None, None))
    inspect(question, lambda offset, length: _SMALL_TABLE[offset : offset + length])


@dataclass(frozen=True)
class _Inspector:
    """What answers need: the deadline that the parent watches, and the seconds for each."""

    deadline: Deadline
    limit_s: float

    def answer(self, connection: Connection) -> None:
        """Answer the question of a connection; a server that has given up gets no answer."""
        self.deadline.start(self.limit_s)
        _limit_cpu(self.limit_s)
        question = protocol.receive_question(connection)
        if question:
            with logs.bind(request_id=question.request_id):
                self._answer(connection, question)
        self.deadline.stop()

    def _answer(self, connection: Connection, question: Question) -> None:
        try:
            outcome = outcome_of(question, partial(self._read, connection))
        except ServerGone:
            return
        protocol.send_outcome(connection, outcome)

    def _read(self, connection: Connection, offset: int, length: int) -> bytes:
        """Return a part of the table, in any number of messages.

        Raises:
            ServerGone: the server has given up.
        """
        # The time that the store takes is not the table's fault.
        left_s = self.deadline.stop()
        self.deadline.start(limits.READ_S)
        parts = []
        try:
            for start in range(offset, offset + length, limits.MAX_PART_BYTES):
                n_bytes = min(offset + length - start, limits.MAX_PART_BYTES)
                parts.append(protocol.ask_for_part(connection, start, n_bytes))
        except (EOFError, OSError):
            raise ServerGone from None
        self.deadline.start(left_s)
        return b"".join(parts)


def _limit_cpu(limit_s: float) -> None:
    """Have the kernel end this process when it computes for so many seconds from now on."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most_s = math.ceil(time.process_time() + limit_s)
    resource.setrlimit(resource.RLIMIT_CPU, (most_s, hard))


def outcome_of(question: Question, read: Read) -> Findings | errors.RowcastError:
    """Return what a look at a table shows, or the error that the caller of the service gets."""
    try:
        return inspect(question, read)
    except errors.RowcastError as error:
        # Readers take a failed request for memory for damage.
        return _too_complex() if isinstance(error.__context__, MemoryError) else error
    except (MemoryError, RecursionError):
        return _too_complex()
    except ServerGone:
        raise
    except Exception as error:
        log.error("an inspection failed", exc_info=error)
        kind = type(error).__name__
        return errors.InternalError(f"The look at the table failed ({kind}).")


def _too_complex() -> errors.TableTooComplex:
    return errors.TableTooComplex(
        "To look at the table takes more memory than the service gives to it "
        "(INSPECTION_MEMORY_BYTES)."
    )


def inspect(question: Question, read: Read) -> Findings:
    """Return what a look at a table shows.

    Raises:
        InvalidTable: the table cannot be used, as far as the look shows.
        InvalidRequest: an option of reading does not apply to it.
    """
    reading = ReadingOptions(**question.reading)
    sample = formats.peek(question.size, read, Limits(**question.limits), reading)
    target = _CHECKS[question.check.kind](sample, **question.check.arguments)
    return Findings(sample.n_rows_expected(question.size), len(sample.schema), target)


def _check_fit(sample: Sample, selection: dict[str, Any], **arguments: Any) -> str:
    chosen = Selection.of(selection)
    return checks.check_fit(sample, **arguments, selection=chosen)


def _check_predict(
    sample: Sample, features: list[dict[str, Any]], keep: list[str]
) -> str:
    known = [Feature(**feature) for feature in features]
    checks.check_predict(sample, known, keep)
    return ""


_CHECKS: dict[str, Callable[..., str]] = {
    "fit": _check_fit,
    "predict": _check_predict,
    "none": lambda _: "",
}
