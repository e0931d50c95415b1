"""What `worker.py` becomes once the signer runs: the parent of the worker processes.

`ml` is imported before the forks, so that a job starts within milliseconds.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

# OpenBLAS reads this once, when NumPy loads it. Each work horse would start more threads than one
# anew, and they spin for a while. `Seat.threads` adds some where a job holds more cores.
os.putenv("OPENBLAS_NUM_THREADS", "1")

import joblib

import ml
from rowcast import errors
from rowcast.config import ConfigurationError, Settings
from rowcast.observability import logs
from rowcast.store import Storage
from rowcast.system import directories, hide_memory, sandbox
from rowcast.workers import pool
from rowcast.workers.signer import Signer

log = logging.getLogger("rowcast.worker")


def run(n_workers: int | None, signer: Signer) -> None:
    """Run `n_workers` workers until SIGTERM or Ctrl-C; None: WORKERS, 0: one per core."""
    # `worker.py` has blocked it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    # Work horses must not reach the signer through the workers.
    hide_memory()
    try:
        settings = Settings.from_environment()
        logs.configure(settings, "worker")
        directories.private(Path(settings.scratch_dir))
        directories.private(Path(settings.cores_dir))
    except (ConfigurationError, OSError) as error:
        sys.exit(f"rowcast: {error}")
    _prepare_store(settings)
    asked = settings.workers if n_workers is None else n_workers
    n_started = asked or joblib.cpu_count()
    log.info(
        "starting %d workers, and %d for short jobs", n_started, settings.short_workers
    )
    sandbox.warn_if_missing()
    ml.warm_up()
    pool.run(settings, n_started, signer)
    if not signer.is_alive():
        sys.exit("rowcast: the signer has ended; start worker.py again")


def _prepare_store(settings: Settings) -> None:
    try:
        Storage(settings).ensure_buckets()
    except errors.StoreUnavailable as error:
        log.warning("%s The workers start anyway and wait for it.", error.detail)
