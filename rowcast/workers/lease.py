"""A worker's lease of its running job: checked often, renewed every second."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

import redis

from rowcast.jobs import JobQueue
from rowcast.jobs import log as job_log
from rowcast.redis_clients import cause_of
from rowcast.workers.work_horse import WorkHorse

log = logging.getLogger("rowcast.worker")

# Seconds between two checks, and between two renewals.
CHECK_S = 0.25
RENEW_S = 1.0
# Seconds until Redis is asked again after it did not answer.
PAUSE_S = 2.0


class Lease:
    """The lease by which one attempt holds its job."""

    def __init__(
        self, queue: JobQueue, job_id: str, attempt: int, ttl_s: float
    ) -> None:
        """Begin with the lease that the worker got when it took the job.

        The connection of `queue` gives up soon, because the worker watches its job while Redis is
        away, too.
        """
        self._job_id = job_id
        self._attempt = attempt
        self._queue = queue
        self._ttl_s = ttl_s
        # A job that ends sooner needs neither.
        self._check_at = self._renew_at = time.monotonic() + CHECK_S
        self._sent_progress = ""

    def is_held(self, horse: WorkHorse) -> bool:
        """Return whether the job is still this attempt's; asks Redis only when that is due.

        While Redis is away the answer is yes: no other worker can take the job then.
        """
        now = time.monotonic()
        try:
            if now >= self._renew_at:
                self._check_at = now + CHECK_S
                self._renew_at = now + RENEW_S
                return self.renew(horse)
            if now >= self._check_at:
                self._check_at = now + CHECK_S
                return self._queue.is_ours(self._job_id, self._attempt)
        except redis.RedisError as error:
            log.warning("%s; the job runs on", cause_of(error))
            self._check_at = self._renew_at = time.monotonic() + PAUSE_S
        return True

    def renew(self, horse: WorkHorse) -> bool:
        """Renew the lease, and pass on the reports since the last renewal; False if it is lost.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        is_news = horse.progress != self._sent_progress
        progress = horse.progress if is_news else ""
        # Redis keeps no more lines, and a script accepts only a limited number of arguments.
        lines = horse.lines[-job_log.MAX_LINES :]
        is_held = self._queue.renew_lease(
            self._job_id, self._attempt, self._ttl_s, progress, lines
        )
        self._sent_progress = horse.progress
        horse.lines = []
        return is_held

    def close(self, horse: WorkHorse) -> None:
        """Pass on the last reports, if Redis answers."""
        with suppress(redis.RedisError):
            self.renew(horse)
