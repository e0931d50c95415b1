"""The queue's scripts against a simple model, by random calls and a clock that somebody sets."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from rowcast.ids import new_id
from rowcast.jobs.fields import JobFields
from tests.support.clocked_queue import ClockedQueue
from tests.support.queued_jobs import LANES, LOST, TTL_S
from tests.support.redis_server import RedisServer

OWNERS = ("ann", "bob", "eve")
WORKERS = ("one", "two", "three")
MAX_OF_OWNER, MAX_OF_ALL, MAX_ATTEMPTS = 4, 9, 3
LIMITS = {"queued_jobs": MAX_OF_OWNER}
FINAL = ("finished", "failed", "canceled")
# Statuses of RQ in which a job has not started.
QUEUED = ("queued", "scheduled", "deferred")


@dataclass
class Job:
    """What must be true of an accepted job."""

    id: str
    owner: str
    lane: str
    fit: str | None = None
    status: str = "queued"
    attempt: int = 0
    is_confirmed: bool = False
    crashes: int = 0
    is_closing: bool = False


@dataclass
class Claim:
    """An attempt, as its worker knows it; it may be long over."""

    job: Job
    attempt: int


@dataclass
class Places:
    """Where Redis has each job."""

    of: dict[str, list[str]] = field(default_factory=dict)

    def add(self, place: str, found: Any) -> None:
        for each in found:
            self.of.setdefault(each.decode(), []).append(place)


class QueueMachine(RuleBasedStateMachine):
    """Servers, workers, maintenance and a clock, which call the queue in any order."""

    connection: redis.Redis
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.connection.flushall()
        self.queue = ClockedQueue(self.connection)
        self.jobs: dict[str, Job] = {}

    # Servers

    @rule(
        owner=st.sampled_from(OWNERS),
        lane=st.sampled_from(LANES),
        priority=st.sampled_from(["low", "normal", "high"]),
        after=st.booleans(),
    )
    def submit(self, owner: str, lane: str, priority: str, after: bool) -> None:
        fits = [job for job in self.jobs.values() if job.owner == owner and not job.fit]
        fit = fits[-1] if after and fits else None
        values = {"id": new_id(), "owner": owner, "lane": lane, "priority": priority}
        kind = "predict" if fit else "fit"
        job = JobFields.model_validate(
            {**values, "kind": kind, "waits_for": fit.id if fit else None}
        )
        n_queued = [each.owner for each in self.jobs.values() if each.status in QUEUED]
        refusal = self.queue.submit(
            job, {"status": "queued"}, max_of_all=MAX_OF_ALL, limits=LIMITS
        )
        if n_queued.count(owner) >= MAX_OF_OWNER:
            assert refusal == f"over queued_jobs {MAX_OF_OWNER}"
        elif len(n_queued) >= MAX_OF_ALL:
            assert refusal == "full"
        elif fit and fit.status in ("failed", "canceled"):
            assert refusal == "fit_ended"
        else:
            assert refusal is None
            waits = fit is not None and fit.status != "finished"
            status = "deferred" if waits else "queued"
            new = Job(job.id, owner, lane, fit.id if fit else None, status)
            self.jobs[job.id] = new

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.jobs:
            job = self.jobs[data.draw(st.sampled_from(sorted(self.jobs)))]
            self._finish(job, None, "canceled")

    # Workers

    @rule(
        target=claims,
        worker=st.sampled_from(WORKERS),
        lanes=st.sampled_from([LANES, LANES[::-1], LANES[1:]]),
        is_confirmed=st.booleans(),
    )
    def take(self, worker: str, lanes: Any, is_confirmed: bool) -> Any:
        before = self._owners_that_may_run(lanes)
        above, below = self._owners_above_and_below_half(worker)
        job_id = self.queue.take(worker, lanes, TTL_S)
        self._note_due()
        if job_id is None:
            assert not before or self._is_last_worker_kept(before)
            return multiple()
        job = self.jobs[job_id]
        assert (job.status, job.lane in lanes) == ("queued", True)
        assert job.owner not in above or not before & below
        job.status, job.is_confirmed, job.is_closing = "started", False, False
        job.attempt += 1
        claim = Claim(job, job.attempt)
        if is_confirmed:
            assert self.queue.confirm_start(job_id, claim.attempt, TTL_S)
            job.is_confirmed = True
        return claim

    def _is_last_worker_kept(self, queued: set[str]) -> bool:
        """Return whether those with queued jobs run some, and another owner runs none."""
        jobs = self.jobs.values()
        running = {job.owner for job in jobs if job.status == "started"}
        return queued <= running and bool({job.owner for job in jobs} - running)

    def _owners_that_may_run(self, lanes: Any) -> set[str]:
        queued = [job for job in self.jobs.values() if job.status == "queued"]
        return {job.owner for job in queued if job.lane in lanes}

    def _owners_above_and_below_half(self, worker: str) -> tuple[set[str], set[str]]:
        """Return who runs half for sure, and who runs less for sure.

        One worker may have come or died meanwhile.
        """
        since = self.queue.now_steady()
        n_living = self.connection.zcount("rowcast:workers", since, "+inf")
        n_living += self.connection.zscore("rowcast:workers", worker) is None
        running = [job.owner for job in self.jobs.values() if job.status == "started"]
        most, least = max(1, (n_living + 1) // 2), max(1, (n_living - 1) // 2)
        above = {owner for owner in OWNERS if running.count(owner) >= most}
        below = {owner for owner in OWNERS if running.count(owner) < least}
        return above, below

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        held = self.queue.renew_lease(claim.job.id, claim.attempt, TTL_S, "{}")
        assert held == self._is_held(claim)

    @rule(claim=claims, delay_s=st.sampled_from([0.0, 5.0]))
    def requeue(self, claim: Claim, delay_s: float) -> None:
        outcome = self.queue.requeue(
            claim.job.id, claim.attempt, LOST, delay_s=delay_s, max_wait_s=1e9
        )
        self._expect_requeued(claim, outcome, "scheduled" if delay_s else "queued")

    @rule(claim=claims)
    def move_to_long_lane(self, claim: Claim) -> None:
        outcome = self.queue.move_to_long_lane(claim.job.id, claim.attempt, LOST)
        if self._is_held(claim):
            claim.job.lane = "long"
        self._expect_requeued(claim, outcome, "queued")

    def _expect_requeued(self, claim: Claim, outcome: str, status: str) -> None:
        assert outcome == ("ok" if self._is_held(claim) else "lost")
        if outcome == "ok":
            claim.job.status = status

    @rule(claim=consumes(claims), status=st.sampled_from(["finished", "failed"]))
    def finish(self, claim: Claim, status: str) -> None:
        self._finish(claim.job, claim.attempt, status)

    def _finish(self, job: Job, attempt: int | None, status: str) -> None:
        record = {"status": status, "ended_at": self.queue.time()}
        outcome = self.queue.finish(
            job.id, status, record, 10**9, attempt=attempt, stored=True
        ).outcome
        if job.status in FINAL:
            assert outcome == "ended"
        elif attempt is not None and not self._is_held(Claim(job, attempt)):
            assert outcome == "lost"
        else:
            assert outcome == "ok"
            job.status = status
            self._release(job)

    def _release(self, fit: Job) -> None:
        for job in self.jobs.values():
            if job.fit == fit.id and job.status == "deferred":
                if fit.status == "finished":
                    job.status = "queued"
                else:
                    assert job.id in self.queue.orphaned()

    # Maintenance, and whatever happens to Redis

    @rule(target=claims)
    def give_up_expired(self) -> Any:
        found = []
        for job_id in self.queue.expired():
            job = self.jobs[job_id]
            assert job.status == "started"
            found += self._give_up(job)
        return multiple(*found)

    def _give_up(self, job: Job) -> list[Claim]:
        number = self.queue.give_up(
            job.id, job.attempt, LOST, max_attempts=MAX_ATTEMPTS, ttl_s=TTL_S
        )
        if not job.is_closing and job.is_confirmed:
            job.crashes += 1
            job.is_closing = job.crashes >= MAX_ATTEMPTS
        if not job.is_closing:
            assert number is None
            job.status = "queued"
            return []
        assert number == job.attempt + 1
        job.attempt = number
        return [Claim(job, number)]

    @rule()
    def end_orphaned(self) -> None:
        for job_id in self.queue.orphaned():
            self._finish(self.jobs[job_id], None, "failed")
            self.queue.adopted(job_id)

    @rule(seconds=st.sampled_from([0.5, 3.0, 12.0]))
    def pass_time(self, seconds: float) -> None:
        self.queue.pass_time(seconds)

    @rule(seconds=st.sampled_from([-3600.0, -5.0, -0.5, 2.0, 10.0, 3600.0]))
    def set_the_clock(self, seconds: float) -> None:
        self.queue.set_time(self.queue.now + seconds)

    @rule(data=st.data())
    def lose_a_place(self, data: st.DataObject) -> None:
        """Damage an index, which reconcile repairs."""
        keys = sorted(self.connection.scan_iter("rowcast:*"))
        lost = (b"rowcast:lane", b"rowcast:turns", b"rowcast:later", b"rowcast:running")
        keys = [key for key in keys if key.startswith(lost)]
        if keys:
            self.connection.delete(data.draw(st.sampled_from(keys)))
            self.queue.reconcile()
            self._note_due()

    # What is true after each call

    def _is_held(self, claim: Claim) -> bool:
        return claim.job.status == "started" and claim.job.attempt == claim.attempt

    def _note_due(self) -> None:
        """Note the delayed jobs that were due, or whose schedule was lost."""
        for job in self.jobs.values():
            if job.status == "scheduled":
                found = self.queue.job(job.id)
                assert found is not None
                job.status = found.status
                assert job.status in QUEUED

    @invariant()
    def no_job_is_lost_and_each_is_as_the_model_says(self) -> None:
        self._note_due()
        known = self.queue.jobs(list(self.jobs))
        assert set(known) == set(self.jobs)
        for job_id, job in self.jobs.items():
            found = known[job_id]
            assert (found.status, found.attempt) == (job.status, job.attempt)
            assert (found.crashes, found.lane) == (job.crashes, job.lane)
            assert found.enqueued is not None
            if found.started is not None:
                assert found.started >= found.enqueued

    @invariant()
    def each_job_stands_in_the_one_place_of_its_status(self) -> None:
        places = Places()
        zrange, smembers = self.connection.zrange, self.connection.smembers
        for lane in LANES:
            for owner in OWNERS:
                places.add(
                    f"queued {lane}", zrange(f"rowcast:lane:{lane}:{owner}", 0, -1)
                )
        places.add("scheduled", zrange("rowcast:later", 0, -1))
        places.add("started", zrange("rowcast:running", 0, -1))
        places.add("deferred", smembers("rowcast:orphaned"))
        for job_id in self.jobs:
            places.add("deferred", smembers(f"rowcast:waiting:{job_id}"))
        for job in self.jobs.values():
            place = f"queued {job.lane}" if job.status == "queued" else job.status
            expected = [] if job.status in FINAL else [place]
            assert places.of.get(job.id, []) == expected, job

    @invariant()
    def counts_are_exact(self) -> None:
        queued = [job.owner for job in self.jobs.values() if job.status in QUEUED]
        assert self.queue.n_queued() == len(queued)
        for owner in OWNERS:
            n_of_owner = self.connection.zcard(f"rowcast:queued:{owner}")
            assert n_of_owner == queued.count(owner)


@contextmanager
def machine() -> Iterator[type[QueueMachine]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder)) as server,
        server.connect() as connection,
    ):
        yield type("Machine", (QueueMachine,), {"connection": connection})


def test_any_order_of_calls_keeps_the_queue_true() -> None:
    limits = settings(
        max_examples=60,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    with machine() as found:
        run_state_machine_as_test(found, settings=limits)
