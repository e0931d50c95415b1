"""The processes of `worker.py`: workers of each kind, and a maintenance process."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from rowcast.config import Settings
from rowcast.system import forks, memory, scratch
from rowcast.workers import maintenance, rq_worker
from rowcast.workers.dispatch import WorkerKind
from rowcast.workers.signer import Signer
from rowcast.workers.supervision import JobLimits


def run(settings: Settings, n_workers: int, signer: Signer) -> None:
    """Keep the processes running until SIGTERM or Ctrl-C, then wait for the running jobs.

    If the signer ends, the running jobs go back to the queue, because a fit could not end.

    There are `n_workers`, SHORT_WORKERS for short jobs and, with MAINTENANCE, a maintenance
    process. They share the memory of what the caller has imported. The caller must not have fitted
    anything: OpenMP hangs in a fork of a process that has used it.
    """
    n_jobs = n_workers + settings.short_workers
    limits = JobLimits(
        memory_bytes=memory.limit_per_job(settings, n_jobs),
        scratch_bytes=scratch.limit_per_job(settings, n_jobs),
    )
    kinds: list[WorkerKind] = ["any"] * n_workers
    kinds += ["short"] * settings.short_workers
    processes = [_worker(kind, settings, limits, signer) for kind in kinds]
    if settings.maintenance:
        maintains = partial(_maintain, settings, signer)
        processes.append(forks.Child("maintenance process", maintains))
    is_first_process = os.getpid() == 1
    supervisor = forks.ForkSupervisor(processes, collects_orphans=is_first_process)
    supervisor.run(signer.is_alive)
    # What work horses that were killed have left would else stay until the next start.
    scratch.sweep(Path(settings.scratch_dir))


def _maintain(settings: Settings, signer: Signer) -> None:
    signer.close()
    maintenance.run(settings)


def _worker(
    kind: WorkerKind, settings: Settings, limits: JobLimits, signer: Signer
) -> forks.Child:
    run = partial(rq_worker.run, kind, settings, limits, signer)
    return forks.Child(f"worker ({kind} jobs)", run)
