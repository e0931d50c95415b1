"""The faults of the soak: processes are killed or stopped, and the time to recover is measured."""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import redis

from client import Client
from tests.faults.breaking import is_alive, kill, resume, stopped, tree
from tests.faults.soak_jobs import quietly
from tests.support import breakable_stack
from tests.support.stack import Stack, launch

TTL_S = 10
# The local stack gives up on a part that dies five times in a minute.
MOST_KILLS, WINDOW_S = 3, 60.0
RECOVERY_LIMIT_S = 180.0
LOOK_S = 0.02
STACK: dict[str, Any] = {
    "module": breakable_stack.__name__,
    "SHORT_WORKERS": "1",
    "MAX_ATTEMPTS": "50",
    "WORKER_TTL_S": str(TTL_S),
}


@dataclass
class Recovery:
    """The kind of a fault, and the seconds until the service recovered."""

    kind: str
    took_s: float


@dataclass
class Wrecker:
    """Breaks a stack in one way after the other, and records the recoveries."""

    stack: Stack
    rng: random.Random
    recoveries: list[Recovery] = field(default_factory=list)
    _kills: dict[str, deque[float]] = field(default_factory=dict)
    _deck: list[str] = field(default_factory=list)

    def once(self) -> None:
        """Break something, and wait for the recovery."""
        if not self._deck:
            # Each kind as often as its weight, in random order.
            self._deck = [
                kind for kind, fault in FAULTS.items() for _ in range(fault.weight)
            ]
            self.rng.shuffle(self._deck)
        kind = next((kind for kind in self._deck if self._may(kind)), None)
        if kind is None:
            return
        self._deck.remove(kind)
        took_s = FAULTS[kind].make(self)
        if took_s is not None:
            self.recoveries.append(Recovery(kind, took_s))

    def _may(self, kind: str) -> bool:
        part = FAULTS[kind].part
        if not part:
            return True
        times = self._kills.setdefault(part, deque(maxlen=MOST_KILLS))
        if len(times) == MOST_KILLS and time.monotonic() - times[0] < WINDOW_S:
            return False
        times.append(time.monotonic())
        return True

    # What runs

    def workers(self) -> dict[int, psutil.Process]:
        """Return the worker processes by their ids."""
        connection = self.stack.redis()
        names: Any = connection.smembers("rq:workers")
        known = {int(connection.hget(name, "pid") or 0) for name in names}
        return {
            child.pid: child
            for child in self.stack.part("worker").children()
            if child.pid in known
        }

    def maintenances(self) -> list[psutil.Process]:
        """Return the maintenance processes of the pool: neither a worker nor the signer."""
        workers = self.workers()
        return [
            child
            for child in self.stack.part("worker").children()
            if child.pid not in workers and child.name() != "signer"
        ]

    def running(self) -> dict[str, int]:
        """Return the jobs that run now, each with its attempt."""
        connection = self.stack.redis()
        jobs: Any = connection.zrange("rowcast:running", 0, -1)
        return {
            job.decode(): int(self.field(job.decode(), "attempt") or 0) for job in jobs
        }

    def field(self, job: str, name: str) -> str:
        """Return a field of a job."""
        value: Any = self.stack.redis().hget(f"rq:job:{job}", name)
        return value.decode() if value else ""

    def runner(self) -> tuple[psutil.Process, psutil.Process, dict[str, int]] | None:
        """Wait for a running job; return its work horse, worker and attempt, None after 20 s."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(
                psutil.Error, redis.RedisError, AssertionError, TypeError
            ):
                for horse in self.stack.horses():
                    worker, name = horse.parent(), self._name_of(horse.parent().pid)
                    jobs = {
                        job: n
                        for job, n in self.running().items()
                        if self.field(job, "worker") == name
                    }
                    if jobs and is_alive(horse):
                        return horse, worker, jobs
            time.sleep(LOOK_S)
        return None

    def _name_of(self, pid: int) -> str:
        connection = self.stack.redis()
        names: Any = connection.smembers("rq:workers")
        found = [
            name for name in names if int(connection.hget(name, "pid") or 0) == pid
        ]
        return found[0].decode().rpartition(":")[2] if found else ""

    # Signs of recovery

    def goes_on(self, jobs: dict[str, int]) -> bool:
        """Return whether each job is in the queue again, runs in a later attempt, or has ended."""
        return all(
            self.field(job, "status") != "started"
            or int(self.field(job, "attempt")) > attempt
            for job, attempt in jobs.items()
        )

    def takes_jobs(self) -> bool:
        """Return whether a table is uploaded, and a fit of it accepted."""
        with Client(self.stack.url, timeout_s=4) as client:
            return quietly(
                lambda: client.fit(b"x,y\n" + b"1,a\n2,b\n" * 30, learner="baseline")
            )

    def answers(self) -> bool:
        """Return whether the server answers."""
        with Client(self.stack.url, timeout_s=4) as client:
            return quietly(lambda: list(client.models(1)))


def until(condition: Callable[[], bool], since: float | None = None) -> float:
    """Return the seconds until a condition holds; one that raises does not hold yet."""
    since = time.monotonic() if since is None else since
    while time.monotonic() - since < RECOVERY_LIMIT_S:
        with contextlib.suppress(
            redis.RedisError, psutil.Error, AssertionError, OSError, ValueError
        ):
            if condition():
                return time.monotonic() - since
        time.sleep(LOOK_S)
    raise AssertionError(f"the service did not recover within {RECOVERY_LIMIT_S} s")


def kill_running(
    wrecker: Wrecker, *, horse: bool = False, worker: bool = False
) -> float | None:
    """Kill the work horse or the worker of a job, or both."""
    if not (found := wrecker.runner()):
        return None
    kill(*([found[1]] if worker else []), *([found[0]] if horse else []))
    since = time.monotonic()
    return until(lambda: wrecker.goes_on(found[2]), since)


def stop_running(wrecker: Wrecker) -> float | None:
    """Stop a worker and its work horse for longer than their lease."""
    if not (found := wrecker.runner()):
        return None
    horse, worker, jobs = found
    since = time.monotonic()
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.suspend()
        horse.suspend()
    try:
        return until(lambda: wrecker.goes_on(jobs), since)
    finally:
        resume(worker, horse)


def kill_pool(wrecker: Wrecker) -> float:
    """Kill the parent of all workers."""
    wrecker.runner()
    jobs = wrecker.running()
    pool = wrecker.stack.part("worker")
    since = time.monotonic()
    kill(pool)
    return until(
        lambda: wrecker.stack.part("worker").pid != pool.pid and wrecker.goes_on(jobs),
        since,
    )


def kill_maintenance(wrecker: Wrecker) -> float | None:
    """Kill the maintenance process."""
    before = wrecker.maintenances()
    if len(before) != 1:
        return None
    since = time.monotonic()
    kill(*before)
    return until(
        lambda: bool(wrecker.maintenances()) and wrecker.maintenances() != before, since
    )


def kill_part(wrecker: Wrecker, part: str) -> float:
    """Kill Redis, the store or the server."""
    victim = wrecker.stack.part(part)
    since = time.monotonic()
    kill(victim)
    sign = wrecker.answers if part == "server" else wrecker.takes_jobs
    return until(lambda: wrecker.stack.part(part).pid != victim.pid and sign(), since)


def stop_part(wrecker: Wrecker, part: str) -> float:
    """Stop Redis or the store for some seconds; measure from the end of the stop."""
    with stopped(wrecker.stack.part(part)):
        time.sleep(wrecker.rng.uniform(3, 20))
    return until(wrecker.takes_jobs)


def silence(wrecker: Wrecker, part: breakable_stack.Proxied) -> float | None:
    """Have all connections of server and workers to Redis or the store fall silent."""
    wrecker.runner()
    breakable_stack.forget_connections(wrecker.stack, part)
    return until(wrecker.takes_jobs)


def fill_redis(wrecker: Wrecker) -> float:
    """Have Redis reach its maxmemory for some seconds; measure from the end of that."""
    connection = wrecker.stack.redis()
    before: Any = connection.config_get("maxmemory")["maxmemory"]
    n_used: Any = connection.info("memory")["used_memory"]
    connection.config_set("maxmemory", n_used // 2)
    try:
        time.sleep(wrecker.rng.uniform(3, 20))
    finally:
        connection.config_set("maxmemory", before)
    return until(wrecker.takes_jobs)


def kill_all(wrecker: Wrecker) -> float:
    """Kill every process, and start everything again."""
    wrecker.runner()
    jobs, stack = wrecker.running(), wrecker.stack
    since = time.monotonic()
    kill(*tree(stack.process.pid))
    stack.process.communicate()
    again = launch(stack.data, port=int(stack.url.rpartition(":")[2]), **STACK)
    stack.process = again.process
    return until(lambda: wrecker.goes_on(jobs), since)


@dataclass(frozen=True)
class Fault:
    """How to make a fault, its weight, the part that it kills, and the sign of recovery."""

    make: Callable[[Wrecker], float | None]
    weight: int
    part: str
    sign: str


AGAIN = "the job that ran is in the queue again, runs again, or had ended"
TAKES = "a table is uploaded and a fit of it accepted"
FAULTS = {
    "work horse killed": Fault(lambda it: kill_running(it, horse=True), 5, "", AGAIN),
    "worker killed": Fault(lambda it: kill_running(it, worker=True), 4, "", AGAIN),
    "worker and work horse killed": Fault(
        lambda it: kill_running(it, worker=True, horse=True), 3, "", AGAIN
    ),
    "worker and work horse stopped": Fault(
        stop_running, 2, "", f"{AGAIN}; they wake up afterwards"
    ),
    "pool of workers killed": Fault(kill_pool, 2, "worker", f"{AGAIN}, for each"),
    "maintenance process killed": Fault(
        kill_maintenance, 2, "", "another maintenance process is there"
    ),
    "Redis killed": Fault(lambda it: kill_part(it, "redis"), 3, "redis", TAKES),
    "Redis stopped for 3 to 20 s": Fault(
        lambda it: stop_part(it, "redis"), 2, "", f"{TAKES}; after the stop"
    ),
    "store killed": Fault(lambda it: kill_part(it, "store"), 3, "store", TAKES),
    "store stopped for 3 to 20 s": Fault(
        lambda it: stop_part(it, "store"), 2, "", f"{TAKES}; after the stop"
    ),
    "connections to Redis silent": Fault(lambda it: silence(it, "redis"), 2, "", TAKES),
    "connections to the store silent": Fault(
        lambda it: silence(it, "store"), 2, "", TAKES
    ),
    "Redis full for 3 to 20 s": Fault(
        fill_redis, 2, "", f"{TAKES}; when it has space again"
    ),
    "server killed": Fault(
        lambda it: kill_part(it, "server"), 3, "server", "a request is answered"
    ),
    "everything killed, started again": Fault(
        kill_all, 1, "", f"{AGAIN}, for each; with the start"
    ),
}


def by_kind(recoveries: list[Recovery]) -> Iterator[tuple[str, list[float]]]:
    """Yield each kind of fault with the seconds to recover of all its cases."""
    for kind in FAULTS:
        yield kind, sorted(each.took_s for each in recoveries if each.kind == kind)
