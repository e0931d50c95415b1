"""An online worker: gets one connection after the other, and predicts the table that comes."""

from __future__ import annotations

import logging
import signal
import socket
import uuid
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa

from rowcast import errors
from rowcast.config import Settings
from rowcast.observability import logs
from rowcast.online import predictor, protocol
from rowcast.online.model_cache import ModelCache
from rowcast.redis_clients import connect_for_heartbeats
from rowcast.store import Storage, loading, patience, signing
from rowcast.system import Deadline, cores, memory, sandbox, scratch

log = logging.getLogger("rowcast.online")


def serve(settings: Settings, channel: socket.socket, deadline: Deadline) -> None:
    """Answer one question after the other until SIGTERM, each within ONLINE_TIMEOUT_S."""
    memory.die_first()
    stop = _StopSignal(deadline)
    answering = _answering(settings)
    pa.set_cpu_count(1)
    # OpenMP's limit binds the thread that sets it alone, which must be the one that computes.
    with cores.libraries().limit(limits=1):
        while not stop.is_received:
            with protocol.accept(channel) as connection:
                deadline.start(settings.online_timeout_s)
                answering.answer(connection)
                deadline.stop()


class _StopSignal:
    """Notes a SIGTERM: it ends a process that waits, and others after the question in progress."""

    def __init__(self, deadline: Deadline) -> None:
        self.is_received = False
        self._deadline = deadline
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, *_: object) -> None:
        self.is_received = True
        if not self._deadline.is_running():
            raise SystemExit


def _answering(settings: Settings) -> _Answering:
    folder_name = f"online-{uuid.uuid4().hex}"
    folder = scratch.make(Path(settings.scratch_dir), folder_name)
    sandbox.confine([folder])
    cache = ModelCache(
        Storage(settings, patience.SERVER, connections=2),
        connect_for_heartbeats(settings),
        signing.Keys.of(settings),
        settings.online_cache_bytes,
        folder,
    )
    return _Answering(cache, predictor.TableLimits.of(settings), folder / "table")


@dataclass(frozen=True)
class _Answering:
    """What answers need: the models, the limits, and where the file of a table may lie."""

    cache: ModelCache
    limits: predictor.TableLimits
    path: Path

    def answer(self, connection: Connection) -> None:
        """Answer the question of a connection; a server that has given up gets no answer."""
        asked = protocol.receive_question(connection)
        if asked is None:
            return
        question, table = asked
        with logs.bind(request_id=question.request_id):
            outcome = self._outcome(question, table)
            protocol.send_outcome(connection, outcome)

    def _outcome(
        self, question: protocol.Question, table: bytes
    ) -> bytes | errors.RowcastError:
        try:
            model, manifest = self.cache.get(question.owner, question.model_id)
            with loading.checking_versions(manifest):
                return predictor.answer(
                    question, table, (model, manifest), self.limits, self.path
                )
        except errors.RowcastError as error:
            return error
        except Exception as error:
            if scratch.is_full(error):
                log.warning("the scratch disk is full")
                return errors.NoOnlineWorker(
                    "The scratch disk of the online workers is full."
                )
            log.error("an online prediction failed", exc_info=error)
            kind = type(error).__name__
            return errors.InternalError(f"The prediction failed ({kind}).")
