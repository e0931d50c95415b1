"""The processes of `worker.py`: workers of each kind, and a maintenance process."""

from __future__ import annotations

from functools import partial

from rowcast.config import Settings
from rowcast.system import forks, memory, scratch
from rowcast.workers import maintenance, rq_worker
from rowcast.workers.dispatch import WorkerKind
from rowcast.workers.supervision import JobLimits


def run(settings: Settings, n_workers: int) -> None:
    """Keep the processes running until SIGTERM or Ctrl-C, then wait for the running jobs.

    Besides `n_workers` there are SHORT_WORKERS for short jobs. They are forked, so import here
    what jobs need: it is then loaded once, and shared. Fit nothing here: OpenMP hangs in a fork of
    a process that has used it.
    """
    n_jobs = n_workers + settings.short_workers
    limits = JobLimits(
        memory_bytes=memory.limit_per_job(settings, n_jobs),
        scratch_bytes=scratch.limit_per_job(settings, n_jobs),
    )
    workers = [_worker("any", settings, limits) for _ in range(n_workers)]
    workers += [
        _worker("short", settings, limits) for _ in range(settings.short_workers)
    ]
    maintains = forks.Child("maintenance process", partial(maintenance.run, settings))
    forks.ForkSupervisor([*workers, maintains]).run()


def _worker(kind: WorkerKind, settings: Settings, limits: JobLimits) -> forks.Child:
    run = partial(rq_worker.run, kind, settings, limits)
    return forks.Child(f"worker ({kind} jobs)", run)
