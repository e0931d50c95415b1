"""The online workers: they keep recently used models in memory, and answer small predictions at
once.

A tree of its own beside the workers of the queue: a parent that binds the socket and computes
nothing, and children that take one connection after the other. Children are forked before their
first model, use one thread, and start no processes. One that dies, takes too much memory or too
long is started again alone.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pyarrow as pa

import ml
from rowcast import errors
from rowcast.config import ConfigurationError, Settings
from rowcast.observability import logs
from rowcast.online import model_cache, predictor, protocol
from rowcast.redis_clients import connect_for_heartbeats
from rowcast.store import Storage, loading, patience
from rowcast.system import cores, die_with_parent, memory, scratch

log = logging.getLogger("rowcast.online")

# How often the children are looked at, and how soon one that died at once is started again.
TICK_S, PAUSE_S = 0.1, 1.0
# A child that is told to stop answers the question in hand first.
STOP_S = 5.0


# The parent


@dataclass
class Child:
    """An online worker as its parent sees it; `busy_since` is shared memory, 0 while it waits."""

    process: ForkProcess
    meter: memory.Meter
    busy_since: Any
    started_at: float = field(default_factory=time.monotonic)


class Tree:
    """The online workers, kept alive until a signal says to stop."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        """Have `settings.online_workers` children take the connections of a socket."""
        self._settings, self._listener = settings, listener
        self._children: list[Child] = []
        self._is_stopping = False

    def run(self) -> None:
        """Watch over the children until SIGTERM or Ctrl-C, then stop them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._children = [self._start() for _ in range(self._settings.online_workers)]
        while not self._is_stopping:
            time.sleep(TICK_S)
            self._children = [self._look_after(child) for child in self._children]
        self._end_all()

    def _stop(self, *_: Any) -> None:
        self._is_stopping = True

    def _start(self) -> Child:
        busy_since = multiprocessing.RawValue("d", 0.0)
        process = ForkProcess(
            target=_serve,
            args=(self._settings, self._listener, busy_since, os.getpid()),
        )
        process.start()
        meter = memory.Meter(process.pid or 0, self._settings.online_memory_bytes)
        return Child(process, meter, busy_since)

    def _look_after(self, child: Child) -> Child:
        """Return a child that lives: this one, or another in its place."""
        if child.process.exitcode is None:
            self._end_if_due(child)
            return child
        if time.monotonic() < child.started_at + PAUSE_S:
            return child
        log.warning(
            "an online worker ended (%s); another is started", child.process.exitcode
        )
        child.process.close()
        # What it was at work on lies there still.
        scratch.sweep(Path(self._settings.scratch_dir))
        return self._start()

    def _end_if_due(self, child: Child) -> None:
        busy_since = child.busy_since.value
        if (
            busy_since
            and time.monotonic() > busy_since + self._settings.online_timeout_s
        ):
            log.warning(
                "an online worker takes longer than %d s; it is ended",
                self._settings.online_timeout_s,
            )
            child.process.kill()
        elif child.meter.is_over():
            log.warning("%s The online worker is ended.", child.meter.failure().detail)
            child.process.kill()

    def _end_all(self) -> None:
        for child in self._children:
            with suppress(ValueError):
                child.process.terminate()
        deadline = time.monotonic() + STOP_S
        for child in self._children:
            child.process.join(max(0.0, deadline - time.monotonic()))
            child.process.kill()


# The children


def _serve(
    settings: Settings, listener: socket.socket, busy_since: Any, parent_pid: int
) -> None:
    """Answer one question after the other, until told to stop."""
    die_with_parent(parent_pid)
    memory.die_first()
    wish = _Wish(busy_since)
    folder = scratch.make(Path(settings.scratch_dir), f"online-{uuid.uuid4().hex}")
    cache = model_cache.ModelCache(
        Storage(settings, patience.SERVER, connections=2),
        connect_for_heartbeats(settings),
        [key.get_secret_value() for key in settings.signing_keys],
        settings.online_cache_bytes,
        folder,
    )
    answer = partial(_answer, cache, predictor.Bounds.of(settings), folder / "table")
    pa.set_cpu_count(1)
    # For good, and in the thread that computes: OpenMP's limit binds that thread alone.
    with cores.libraries().limit(limits=1):
        while not wish.is_to_stop:
            with protocol.take(listener) as connection:
                busy_since.value = time.monotonic()
                answer(connection)
                busy_since.value = 0.0


class _Wish:
    """Whether this process is to stop: at once while it waits, else after the question in hand."""

    def __init__(self, busy_since: Any) -> None:
        self.is_to_stop = False
        self._busy_since = busy_since
        signal.signal(signal.SIGTERM, self._note)
        # A terminal sends its Ctrl-C to the children as well; the parent passes on what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _note(self, *_: Any) -> None:
        self.is_to_stop = True
        if not self._busy_since.value:
            raise SystemExit


def _answer(
    cache: model_cache.ModelCache,
    bounds: predictor.Bounds,
    path: Path,
    connection: Connection,
) -> None:
    asked = protocol.question(connection)
    if asked is None:
        return
    question, table = asked
    with logs.bind(request_id=question.request_id):
        protocol.reply(connection, _outcome(cache, bounds, path, question, table))


def _outcome(
    cache: model_cache.ModelCache,
    bounds: predictor.Bounds,
    path: Path,
    question: protocol.Question,
    table: bytes,
) -> bytes | errors.RowcastError:
    try:
        model = cache.get(question.owner, question.model_id)
        with loading.refused_if_of_other_versions(model[1]):
            return predictor.answer(question, table, model, bounds, path)
    except errors.RowcastError as error:
        return error
    except Exception as error:
        log.error("a prediction at once failed", exc_info=error)
        return errors.InternalError(f"The prediction failed ({type(error).__name__}).")


def main() -> None:
    """Run the online workers until SIGTERM or Ctrl-C."""
    try:
        settings = Settings.from_environment()
        if not settings.signing_keys:
            raise ConfigurationError(
                "SIGNING_KEYS: online workers verify models and need at least one key"
            )
        if not settings.online_workers:
            raise ConfigurationError("ONLINE_WORKERS: with 0 there is nothing to run")
    except ConfigurationError as error:
        sys.exit(f"rowcast: {error}")
    logs.configure(settings, "online")
    try:
        listener = protocol.listen(settings.online_socket)
    except OSError as error:
        sys.exit(f"rowcast: ONLINE_SOCKET: {error}")
    log.info("starting %d online workers", settings.online_workers)
    ml.warm_up()
    scratch.sweep(Path(settings.scratch_dir))
    Tree(settings, listener).run()


if __name__ == "__main__":
    main()
