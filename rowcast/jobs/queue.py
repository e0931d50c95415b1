"""The queue in Redis: two lanes, in which owners take turns, and the leases of running jobs.

Every change of a job's state is one call of `queue.lua`. It happens as a whole or not at all, even
if a process dies meanwhile. Only the attempt that holds a job's lease may end or requeue the job:
an attempt that was given up for dead, and wakes up again, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import redis

from rowcast.access import quotas
from rowcast.config import DEFAULT_JOB_TTL_S
from rowcast.errors import QueueUnavailable
from rowcast.jobs import earlier_version
from rowcast.jobs.estimates import Lane
from rowcast.jobs.fields import JobFields
from rowcast.jobs.log import MAX_LINES
from rowcast.jobs.status import RQ_FINAL
from rowcast.redis_clients import cause_of
from rowcast.store import Kind
from rowcast.webhooks import outbox

# "exists", "full", "fit_ended", or "over <quota> <usage>".
Refusal = str
Outcome = Literal["ok", "lost", "exhausted"]

# The name of the queue for RQ, which keeps its lists of workers and jobs under it.
QUEUE_NAME = "rowcast"
LANES: tuple[Lane, ...] = ("long", "short")
# RQ's hash of a job, and the stream that its end is written to and that callers wait on.
JOB = "rq:job:{}"
ENDS = "rq:results:{}"
LOG = "rowcast:log:{}"
INDEX = "rowcast:jobs:{}"

_FOLDER = Path(__file__).parent
_PARTS = ("fields.lua", "clock.lua", "turns.lua")
_FINAL_STATES = ", ".join(f"{state} = true" for state in RQ_FINAL)
_SCRIPT = "".join(
    (
        f"local FINAL = {{{_FINAL_STATES}}}\n",
        f"local QUEUE, DEFAULT_TTL_S = {QUEUE_NAME!r}, {DEFAULT_JOB_TTL_S}\n",
        earlier_version.RENAMED_LUA,
        outbox.ENQUEUE_LUA,
        *(_FOLDER.joinpath(name).read_text(encoding="utf-8") for name in _PARTS),
        quotas.LUA,
        _FOLDER.joinpath("queue.lua").read_text(encoding="utf-8"),
    )
)
# A Redis that has reached its maxmemory accepts no job, but ends those that it has.
_FOR_NEW_JOBS = f"#!lua\n{_SCRIPT}"
_FOR_KNOWN_JOBS = f"#!lua flags=allow-oom\n{_SCRIPT}"
# Jobs that are looked at in one round trip.
_BATCH = 200


@dataclass(frozen=True)
class AttemptError:
    """Why an attempt did not end its job."""

    code: str
    detail: str

    def of(self, attempt: int) -> str:
        """Return what the job keeps of it in JSON; the queue adds when it happened."""
        return json.dumps({"attempt": attempt, **asdict(self)})


class Ending(NamedTuple):
    """What came of an attempt to end a job.

    `outcome` is "ok"; "ended" for a job that had ended, whose record comes along; "lost" where
    another attempt runs the job; "gone" where Redis does not know it.
    """

    outcome: Literal["ok", "ended", "lost", "gone"]
    record: dict[str, Any] | None


class JobQueue:
    """The queue. Every method raises redis.RedisError if Redis does not answer."""

    def __init__(self, connection: redis.Redis) -> None:
        """Use a connection; the scripts are loaded at the first call."""
        self.connection = connection
        self._submit = connection.register_script(_FOR_NEW_JOBS)
        self._script = connection.register_script(_FOR_KNOWN_JOBS)

    def _call(self, name: str, *arguments: Any) -> Any:
        script = self._submit if name == "submit" else self._script
        answer = script(args=[name, *arguments])
        return answer.decode() if isinstance(answer, bytes) else answer

    # What the server does

    def submit(
        self,
        job: JobFields,
        rq_fields: dict[str, Any],
        *,
        max_of_all: int,
        limits: Mapping[str, int],
    ) -> Refusal | None:
        """Accept a job, and count what it uses of its owner's quotas.

        Return the reason if it is refused. `rq_fields` are those that RQ keeps in the same hash,
        `limits` the quotas. A job with `waits_for` has no place in its lane until that fit has
        finished.
        """
        fields = {**rq_fields, **job.as_hash()}
        pairs = chain.from_iterable(fields.items())
        answer = self._call(
            "submit", job.id, job.owner, max_of_all, json.dumps(limits), *pairs
        )
        return None if answer == "ok" else answer

    def hash_of(self, job_id: str) -> dict[bytes, bytes]:
        """Return a job's hash as RQ reads it; empty for a job that Redis does not know."""
        found: Any = self.connection.hgetall(JOB.format(job_id))
        return dict(found)

    def job(self, job_id: str) -> JobFields | None:
        """Return the fields of a job; None where Redis does not know it."""
        return JobFields.parse(job_id, self.hash_of(job_id))

    def jobs(self, job_ids: Sequence[str]) -> dict[str, JobFields]:
        """Return the fields of the jobs that Redis knows, by their ids, in one round trip."""
        pipeline = self.connection.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(JOB.format(job_id))
        found = zip(job_ids, pipeline.execute(), strict=True)
        jobs = (JobFields.parse(job_id, raw) for job_id, raw in found)
        return {job.id: job for job in jobs if job}

    def position(self, job: JobFields) -> int | None:
        """Return how many jobs of its owner are before a job in its lane; None if it is in none."""
        return self.positions([job])[job.id]

    def positions(self, jobs: Sequence[JobFields]) -> dict[str, int | None]:
        """Return the position of each job by its id, in one round trip."""
        pipeline = self.connection.pipeline(transaction=False)
        for job in jobs:
            pipeline.zrank(f"rowcast:lane:{job.lane}:{job.owner}", job.id)
        ids = [job.id for job in jobs]
        return dict(zip(ids, pipeline.execute(), strict=True))

    def time(self) -> float:
        """Return Redis' time in Unix seconds: the one clock for the times of jobs."""
        seconds, microseconds = self.connection.time()
        return seconds + microseconds / 1e6

    def n_queued(self) -> int:
        """Return how many accepted jobs have not started."""
        return int(self.connection.zcard("rowcast:queued"))

    def owners(self) -> set[str]:
        """Return the owners of all jobs that Redis knows."""
        return set(self._members("rowcast:owners"))

    def unfinished(self, owner: str) -> dict[Kind, set[str]]:
        """Return the ids of an owner's queued and running jobs, by their kind."""
        job_ids = [*self.queued(owner, None), *self.running(owner, None)]
        with self.connection.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hget(JOB.format(job_id), "kind")
            kinds: Any = pipeline.execute()
        found: dict[Kind, set[str]] = {"fit": set(), "predict": set()}
        for job_id, kind in zip(job_ids, kinds, strict=True):
            if kind and kind.decode() in found:
                found[kind.decode()].add(job_id)
        return found

    def recount_queued(self, owner: str) -> None:
        """Count again what an owner's queued jobs use of its quotas."""
        self._call("recount_queued", owner)

    def needed(self, owner: str) -> set[str]:
        """Return the ids of an owner's unfinished jobs, and of all that they read or make."""
        queued: Any = self.connection.zrange(f"rowcast:queued:{owner}", 0, -1)
        running: Any = self.connection.zrange("rowcast:running", 0, -1)
        job_ids = [each.decode() for each in (*queued, *running)]
        with self.connection.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hmget(
                    JOB.format(job_id), "dataset_id", "model_id", "waits_for"
                )
            found: Any = pipeline.execute()
        used = filter(None, chain.from_iterable(found))
        return {*job_ids, *(each.decode() for each in used)}

    def known(self, owner: str, before: str | None) -> Iterator[str]:
        """Yield an owner's jobs that Redis knows, newest first, beginning after `before`."""
        return self._newest(INDEX.format(owner), before)

    def queued(self, owner: str, before: str | None) -> Iterator[str]:
        """Yield an owner's jobs that have not started, in the same order."""
        return self._newest(f"rowcast:queued:{owner}", before)

    def running(self, owner: str, before: str | None) -> Iterator[str]:
        """Yield an owner's running jobs, in the same order."""
        running: Any = self.connection.zrange("rowcast:running", 0, -1)
        if not running:
            return
        # A job of another owner has no score in this owner's index.
        scores: Any = self.connection.zmscore(INDEX.format(owner), running)
        scored = zip(running, scores, strict=True)
        own = [job_id.decode() for job_id, score in scored if score is not None]
        for job_id in sorted(own, reverse=True):
            if before is None or job_id < before:
                yield job_id

    def _newest(self, key: str, before: str | None) -> Iterator[str]:
        n_asked = _BATCH
        while True:
            most = f"({before}" if before else "+"
            found: Any = self.connection.zrevrangebylex(
                key, most, "-", start=0, num=n_asked
            )
            yield from (each.decode() for each in found)
            if len(found) < n_asked:
                return
            before = found[-1].decode()
            # Most pages end in the first batch; longer steps pass over thousands of queued jobs.
            n_asked *= 2

    def log(self, job_id: str) -> list[str]:
        """Return the last lines that a job has logged so far."""
        found: Any = self.connection.lrange(LOG.format(job_id), 0, -1)
        return [line.decode("utf-8", "replace") for line in found]

    # What workers do

    def take(self, worker: str, lanes: Sequence[Lane], ttl_s: float) -> str | None:
        """Take the next job of the lanes, in their order, and return its id.

        The lease lasts `ttl_s` seconds; `renew_lease` prolongs it.
        """
        return self._call("take", worker, ttl_s, *lanes) or None

    def confirm_start(self, job_id: str, attempt: int, ttl_s: float) -> bool:
        """Note that an attempt is about to run; from then on its crash counts.

        Return False if the attempt has lost its job.
        """
        return bool(self._call("confirm_start", job_id, attempt, ttl_s))

    def wait_for_job(self, lanes: Sequence[Lane], timeout_s: float) -> bool:
        """Return True when a job may have come, False after `timeout_s` seconds."""
        bells = [f"rowcast:bell:{lane}" for lane in lanes]
        return self.connection.blpop(bells, timeout=timeout_s) is not None

    def has_waiting_jobs(self) -> bool:
        """Return whether a job could run now if a worker were free."""
        return any(self.connection.exists(f"rowcast:turns:{lane}") for lane in LANES)

    def is_ours(self, job_id: str, attempt: int) -> bool:
        """Return whether this attempt still runs its job.

        It does unless the job was canceled or given to another attempt. If Redis has lost the
        job, neither can have happened.
        """
        found: Any = self.connection.hmget(JOB.format(job_id), "status", "attempt")
        return found in ([None, None], [b"started", str(attempt).encode()])

    def renew_lease(
        self,
        job_id: str,
        attempt: int,
        ttl_s: float,
        progress: str = "",
        lines: Sequence[str] = (),
    ) -> bool:
        """Hold a job for `ttl_s` more seconds, and note its progress and new log lines.

        Return False if the attempt has lost its job.
        """
        kept = lines[-MAX_LINES:]
        held = self._call(
            "renew_lease", job_id, attempt, ttl_s, progress, MAX_LINES, *kept
        )
        return bool(held)

    def requeue(
        self,
        job_id: str,
        attempt: int,
        error: AttemptError,
        *,
        delay_s: float = 0,
        max_wait_s: float = 0,
    ) -> Outcome:
        """Queue a job again, at its old place.

        With `delay_s` it waits for so many seconds first. "exhausted" means that it has waited for
        `max_wait_s` in all, and that the caller must end it.
        """
        line = error.of(attempt)
        outcome = self._call("requeue", job_id, attempt, line, delay_s, max_wait_s)
        return cast(Outcome, outcome)

    def move_to_long_lane(
        self, job_id: str, attempt: int, error: AttemptError
    ) -> Outcome:
        """Queue a job again, in the long lane, because it turned out not to be short."""
        outcome = self._call("move_to_long_lane", job_id, attempt, error.of(attempt))
        return cast(Outcome, outcome)

    def give_up(
        self,
        job_id: str,
        attempt: int,
        error: AttemptError,
        *,
        max_attempts: int,
        ttl_s: float,
    ) -> int | None:
        """Count the crash of an attempt and queue its job again, at its old place.

        After the last crash, return the number of a final attempt instead: the caller must end the
        job as that attempt, within `ttl_s` seconds.
        """
        line = error.of(attempt)
        answer = self._call("give_up", job_id, attempt, line, max_attempts, ttl_s)
        return int(answer) if answer.isdigit() else None

    # What ends a job

    def finish(
        self,
        job_id: str,
        status: str,
        record: dict[str, Any],
        ttl_s: int,
        *,
        attempt: int | None,
        stored: bool,
    ) -> Ending:
        """End a job for good. Jobs that waited for it run, or are `orphaned`.

        The job ends when its record says: at `ended_at`, by the clock of `time`.
        With `attempt`, only that attempt may end the job. A record that is not `stored` yet is
        kept until `recorded`.
        """
        speaker = "" if attempt is None else attempt
        kept = json.dumps(record)
        ended = record.get("ended_at") or self.time()
        answer: Any = self._call(
            "finish", job_id, speaker, status, kept, ended, ttl_s, int(stored)
        )
        outcome, found = (part.decode() for part in answer)
        return Ending(outcome, json.loads(found) if found else None)

    def recorded(self, job_id: str) -> None:
        """Let Redis forget a job when its time has come: the store has its record now."""
        self._call("recorded", job_id)

    def unrecorded(self) -> list[str]:
        """Return the ended jobs whose record is not in the store yet."""
        return self._members("rowcast:unrecorded")

    def orphaned(self) -> list[str]:
        """Return the jobs whose fit made no model; end each, then call `adopted`."""
        return self._members("rowcast:orphaned")

    def adopted(self, job_id: str) -> None:
        """Note that an orphaned job has been ended."""
        self.connection.srem("rowcast:orphaned", job_id)

    # What keeps the queue true

    def expired(self) -> list[str]:
        """Return the running jobs whose lease has ended: their workers sent no heartbeat."""
        found: Any = self._call("expired")
        return [each.decode() for each in found]

    def reconcile(self) -> int:
        """Put jobs that stand nowhere back to where their status says; return how many."""
        n_moved = 0
        for owner in self._members("rowcast:owners"):
            scored: Any = self.connection.zscan_iter(INDEX.format(owner), count=_BATCH)
            job_ids = (job_id for job_id, _ in scored)
            while batch := list(islice(job_ids, _BATCH)):
                n_moved += self._call("reconcile", owner, *batch)
        return n_moved

    def forget_dead_workers(self) -> None:
        """Remove killed workers from RQ's list: they have sent no heartbeat for long."""
        for key in self._members("rq:workers"):
            if not self.connection.exists(key):
                self.connection.srem("rq:workers", key)
                self.connection.srem(f"rq:workers:{QUEUE_NAME}", key)

    def _members(self, key: str) -> list[str]:
        found: Any = self.connection.smembers(key)
        return sorted(each.decode() for each in found)


@contextmanager
def our_errors() -> Iterator[None]:
    """Turn what Redis raises into QueueUnavailable."""
    try:
        yield
    except redis.RedisError as error:
        raise QueueUnavailable(f"{cause_of(error)}.") from error
