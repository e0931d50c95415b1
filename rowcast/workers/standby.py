"""The standby work horse of a worker: made while the worker waits, and used by its next job."""

from __future__ import annotations

import logging
import time

from rowcast.system import cores
from rowcast.workers.job_process import JobProcess
from rowcast.workers.work_horse import WorkHorse

log = logging.getLogger("rowcast.worker")

# Seconds without a standby work horse after one was lost or could not be made.
PAUSE_S = 5.0


class Standby:
    """Has at most one work horse ready; every job can do without it."""

    def __init__(self, job_process: JobProcess) -> None:
        """Fork work horses from this process; none yet."""
        self._job_process = job_process
        self._cores_dir = job_process.settings.cores_dir
        self._horse: WorkHorse | None = None
        self._due_at = 0.0

    @property
    def is_kept(self) -> bool:
        """Whether there is a standby work horse, ready or not."""
        return self._horse is not None

    def prepare(self) -> None:
        """Fork a standby work horse, unless that would slow down a job on several cores."""
        if time.monotonic() < self._due_at or cores.is_any_wide(self._cores_dir):
            return
        try:
            self._horse = self._job_process.fork(warms_up=True)
        except OSError as error:
            log.warning("no standby work horse could be forked (%s)", error.strerror)
            self._due_at = time.monotonic() + PAUSE_S

    def drop_dead(self) -> None:
        """Forget a standby work horse that has ended."""
        if self._horse and not self._horse.is_alive():
            self.dismiss()
            self._due_at = time.monotonic() + PAUSE_S

    def take(self) -> WorkHorse:
        """Return the standby work horse if it is ready, else a new one.

        Raises:
            OSError: the system has no process, memory or file left.
        """
        horse = self._horse
        if horse and horse.awaits_order():
            self._horse = None
            return horse
        self.dismiss()
        return self._job_process.fork(warms_up=False)

    def dismiss(self) -> None:
        """End the standby work horse, if there is one."""
        if self._horse:
            self._horse.dismiss()
            self._horse = None
