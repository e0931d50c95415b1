"""A worker's hold on its running job: looked after often, renewed every second, and lost without a
word."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

import redis

from rowcast.jobs import JobQueue
from rowcast.jobs import log as job_log
from rowcast.workers.work_horse import WorkHorse

log = logging.getLogger("rowcast.worker")

LOOK_S, RENEW_S = 0.25, 1.0
# A Redis that does not answer is left alone for so long.
PAUSE_S = 2.0


class Lease:
    """The hold of one attempt on its job."""

    def __init__(
        self, queue: JobQueue, job_id: str, attempt: int, ttl_s: float
    ) -> None:
        """Begin with what taking the job has given: the first lease.

        The connection of `lanes` gives up soon: while Redis is away the worker still looks after
        its job.
        """
        self._job_id, self._attempt = job_id, attempt
        self._queue, self._ttl_s = queue, ttl_s
        # A job that ends before needs neither.
        self._look_at = self._renew_at = time.monotonic() + LOOK_S
        self._told = ""

    def is_held(self, horse: WorkHorse) -> bool:
        """Tell whether the job is still ours; called often, it asks only so often.

        While Redis is away it is: nobody else can take the job then.
        """
        now = time.monotonic()
        try:
            if now >= self._renew_at:
                self._look_at, self._renew_at = now + LOOK_S, now + RENEW_S
                return self.tell(horse)
            if now >= self._look_at:
                self._look_at = now + LOOK_S
                return self._queue.is_ours(self._job_id, self._attempt)
        except redis.RedisError as error:
            log.warning(
                "Redis does not answer (%s); the job runs on", type(error).__name__
            )
            self._look_at = self._renew_at = time.monotonic() + PAUSE_S
        return True

    def tell(self, horse: WorkHorse) -> bool:
        """Renew the lease, and pass on what the horse has said since the last time."""
        progress = horse.progress if horse.progress != self._told else ""
        # More are not kept, and a script takes only so many arguments.
        lines = horse.lines[-job_log.MAX_LINES :]
        held = self._queue.renew_lease(
            self._job_id, self._attempt, self._ttl_s, progress, lines
        )
        self._told = horse.progress
        horse.lines = []
        return held

    def close(self, horse: WorkHorse) -> None:
        """Pass on the last words, if anybody hears them."""
        with suppress(redis.RedisError):
            self.tell(horse)
