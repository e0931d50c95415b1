"""The work horse's own side: what the forked process does from its start to its exit."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO
from uuid import uuid4

import redis

import ml
from rowcast.config import Settings
from rowcast.errors import SignerUnavailable
from rowcast.jobs import JobQueue
from rowcast.observability import logs
from rowcast.store import Kind
from rowcast.system import (
    die_with_parent,
    memory,
    sandbox,
    scratch,
    set_process_title,
    show_memory,
    yield_cores,
)
from rowcast.workers import warmup
from rowcast.workers.attempt import Attempt, Sign
from rowcast.workers.order import Order
from rowcast.workers.report_pipe import ReportPipe
from rowcast.workers.signer import Signer
from rowcast.workers.work_horse import WorkHorse

log = logging.getLogger("rowcast.worker")

FUNCTIONS: dict[Kind, Callable[..., None]] = {"fit": ml.fit, "predict": ml.predict}


@dataclass(frozen=True)
class JobProcess:
    """Forks work horses, which inherit what is here.

    The connection of `heartbeat_queue` gives up soon, that of `queue` waits for an answer.
    `memory_bytes` is the limit of a job. Work horses close the signer.
    """

    settings: Settings
    queue: JobQueue
    heartbeat_queue: JobQueue
    memory_bytes: int
    signer: Signer

    def fork(self, *, warms_up: bool) -> WorkHorse:
        """Fork a work horse; one that `warms_up` reports when it is ready for its order.

        Raises:
            OSError: the system has no process, memory or file left.
        """
        live = partial(self._live, os.getpid(), warms_up=warms_up)
        return WorkHorse.fork(live)

    def _live(
        self, parent_pid: int, orders: int, reports: ReportPipe, *, warms_up: bool
    ) -> None:
        """Run the one job of the order, then exit: with 0 if its end or requeueing is recorded."""
        self.signer.close()
        _become_work_horse(parent_pid)
        if warms_up:
            set_process_title("warm-up")
            self._warm_up()
            set_process_title("standby horse")
            reports.send_ready()
        pipe = os.fdopen(orders)
        line = pipe.readline()
        if not line:
            # The worker has closed the pipe.
            os._exit(0)
        set_process_title("work horse")
        order = Order.model_validate_json(line)
        if order.job.is_background:
            yield_cores()
        sign = partial(_signature, pipe, reports)
        with logs.bind(job_id=order.job.id, request_id=order.job.request_id):
            os._exit(self._run(order, reports, sign))

    def _warm_up(self) -> None:
        """Prepare for a job; a failure only makes the first job slower."""
        with suppress(redis.RedisError):
            self.queue.connection.ping()
            self.heartbeat_queue.connection.ping()
        folder = None
        try:
            root = Path(self.settings.scratch_dir)
            folder = scratch.make(root, f"warm-up-{uuid4().hex}")
            warmup.warm_up(self.settings, folder)
        except Exception as error:
            log.warning("a work horse could not warm up", exc_info=error)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, order: Order, reports: ReportPipe, sign: Sign) -> int:
        """Run the job, and return the exit code of the process."""
        try:
            self._attempt(order, reports, sign).run()
        except BaseException as error:
            log.error("the work horse failed", exc_info=error)
            return 1
        return 0

    def _attempt(self, order: Order, reports: ReportPipe, sign: Sign) -> Attempt:
        function = FUNCTIONS[order.job.kind]
        return Attempt(
            job=order.job,
            settings=self.settings,
            queue=self.queue,
            heartbeat_queue=self.heartbeat_queue,
            work=partial(function, **order.arguments),
            reports=reports,
            sign=sign,
            confine=sandbox.confine,
            memory_bytes=self.memory_bytes,
            timeout_s=order.timeout_s,
        )


def _signature(orders: TextIO, reports: ReportPipe, digest: str) -> dict[str, str]:
    """Return what the worker has the signer sign for this attempt and a manifest's digest.

    Raises:
        SignerUnavailable: the signer has ended.
    """
    reports.ask_signature(digest)
    found: dict[str, str] = json.loads(orders.readline() or "{}")
    if not found:
        raise SignerUnavailable("The process that signs models does not answer.")
    return found


def _become_work_horse(parent_pid: int) -> None:
    # The worker, which hides its own memory, measures that of a work horse.
    show_memory()
    # Its own session, because some kernels share the cores between sessions first.
    os.setsid()
    # The worker decides what a signal to stop means for its job.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent_pid)
    memory.die_first()
    logs.rename("work horse")
