"""Which job a worker runs next: the lanes that it takes from, and waiting for a job."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import redis

from rowcast.config import DEFAULT_JOB_TTL_S, Settings
from rowcast.jobs import JobQueue, estimates
from rowcast.redis_clients import cause_of
from rowcast.system import cores
from rowcast.workers import order
from rowcast.workers.order import Order
from rowcast.workers.standby import Standby
from rowcast.workers.stop_request import StopRequest

log = logging.getLogger("rowcast.worker")

WorkerKind = Literal["any", "short"]
# The lanes of each kind of worker. Where there are workers for short jobs, the others begin with
# the long lane, which only they serve; elsewhere the lanes take turns, so that neither starves.
LANES: dict[WorkerKind, Sequence[estimates.Lane]] = {
    "any": ("long", "short"),
    "short": ("short",),
}
# A worker that has waited this long prepares a standby work horse.
STANDBY_AFTER_S = 0.1
# Seconds of the longest wait where a job on several cores may begin or end meanwhile.
WAIT_S = 1.0
# Seconds between two checks of whether the lanes may be served again.
REST_CHECK_S = 0.1
# Beside a job on several cores, the rest after a short job is this many times as long as that job.
REST_TIMES = 3.0
# Seconds until Redis is asked again after it did not answer.
REDIS_PAUSE_S = 1.0


@dataclass(kw_only=True)
class Dispatcher:
    """Takes jobs from the queue for one worker, whose name it leaves in the queue.

    `heartbeat` is called before each look for a job.
    """

    kind: WorkerKind
    worker: str
    settings: Settings
    queue: JobQueue
    standby: Standby
    stop: StopRequest
    heartbeat: Callable[[], None]
    _last_lane: estimates.Lane | None = None
    _rests_until: float = 0.0

    def next_order(self) -> Order | None:
        """Return the next job, however long it takes to come; None once the worker is to stop."""
        while not self.stop.is_made:
            try:
                if found := self._take():
                    return found
                if not self.stop.is_made:
                    self._wait()
            except redis.RedisError as error:
                self.stop.may_interrupt = True
                log.warning("%s; waiting for it", cause_of(error))
                time.sleep(REDIS_PAUSE_S)
        return None

    def note_end(self, done: Order, worked_s: float) -> None:
        """Note that a job has ended after so many seconds of work."""
        if done.job.lane == "short":
            self._rests_until = time.monotonic() + REST_TIMES * worked_s
        self.stop.may_interrupt = True

    def _take(self) -> Order | None:
        # From here on a signal to stop has to wait: a job that was taken must not be dropped.
        self.stop.may_interrupt = False
        self.heartbeat()
        lanes = self._lanes_now()
        job_id = self.queue.take(self.worker, lanes, self.settings.worker_ttl_s)
        found = self._fetch(job_id) if job_id else None
        if found is None:
            self.stop.may_interrupt = True
            return None
        self._last_lane = found.job.lane
        return found

    def _fetch(self, job_id: str) -> Order | None:
        raw = self.queue.hash_of(job_id)
        attempt = int(raw.get(b"attempt", b"0"))
        ttl_s = self.settings.worker_ttl_s
        if not self.queue.confirm_start(job_id, attempt, ttl_s):
            return None
        found = order.read(job_id, raw, self.queue.connection)
        if found is None:
            log.error(
                "refused a job that Rowcast did not make", extra={"job_id": job_id}
            )
            self.queue.finish(
                job_id, "failed", {}, DEFAULT_JOB_TTL_S, attempt=None, stored=True
            )
        return found

    def _lanes_now(self) -> Sequence[estimates.Lane]:
        """Return the lanes to take from now, in their order.

        The threads of a job on several cores spin while they wait for one that has lost its core,
        so the job hardly moves while another one runs beside it. Short jobs with rests of three
        times their length cost it a quarter of its time at most.
        """
        lanes = LANES[self.kind]
        has_short_workers = self.kind == "any" and self.settings.short_workers > 0
        if not has_short_workers and self._last_lane != "short":
            lanes = lanes[::-1]
        leaves_short = has_short_workers or time.monotonic() < self._rests_until
        if leaves_short and self._is_any_wide():
            return [lane for lane in lanes if lane != "short"]
        return lanes

    def _wait(self) -> None:
        """Wait until a job may have come, and use the time to prepare a standby work horse."""
        lanes = self._lanes_now()
        if not lanes:
            time.sleep(REST_CHECK_S)
        elif self.standby.is_kept or self._is_any_wide():
            self.queue.wait_for_job(lanes, WAIT_S)
        elif not self.queue.wait_for_job(lanes, STANDBY_AFTER_S):
            self.standby.prepare()
        self.standby.drop_dead()

    def _is_any_wide(self) -> bool:
        return cores.is_any_wide(self.settings.cores_dir)
