"""The worker processes: each takes a job from the queue, forks a work horse for it, and watches
that.

`ml` is imported before the fork, so that a job starts within milliseconds.
"""

from __future__ import annotations

import argparse
import logging
import os
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
from rowcast.system import directories
from rowcast.workers import pool

log = logging.getLogger("rowcast.worker")


def main() -> None:
    """Run the workers until SIGTERM or Ctrl-C."""
    arguments = _parse_arguments()
    try:
        settings = _read_settings()
        logs.configure(settings, "worker")
        directories.private(Path(settings.scratch_dir))
        directories.private(Path(settings.cores_dir))
    except (ConfigurationError, OSError) as error:
        sys.exit(f"rowcast: {error}")
    _prepare_store(settings)
    asked = settings.workers if arguments.workers is None else arguments.workers
    n_workers = asked or joblib.cpu_count()
    log.info(
        "starting %d workers, and %d for short jobs", n_workers, settings.short_workers
    )
    ml.warm_up()
    pool.run(settings, n_workers)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run the workers that fit and predict."
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="worker processes; 0: one per core (default: WORKERS)",
    )
    return parser.parse_args()


def _read_settings() -> Settings:
    settings = Settings.from_environment()
    if not settings.signing_keys:
        raise ConfigurationError(
            "SIGNING_KEYS: workers sign models and need at least one key"
        )
    return settings


def _prepare_store(settings: Settings) -> None:
    try:
        Storage(settings).ensure_buckets()
    except errors.StoreUnavailable as error:
        log.warning("%s The workers start anyway and wait for it.", error.detail)


if __name__ == "__main__":
    main()
