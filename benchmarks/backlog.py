"""What 10,000 queued jobs cost requests and the worker, compared with 10 queued jobs.

Two stacks run side by side, and are measured alternately. Their workers are stopped, except while
the time between two jobs is measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks import stack
from benchmarks.bench import Bench
from benchmarks.caller import Caller, calling
from benchmarks.line import Benchmark, Line, Pairs, Target, ratio
from client import Client

N_FEW, N_MANY = 10, 10_000
# In each run: requests, fits submitted, and jobs that the worker runs.
N_CALLS = 40
N_FITS = 10
N_RUN = 20
N_CALLERS = 8
WHAT = f"{N_MANY:,} jobs queued, compared with {N_FEW}"
TARGET = Target("at most", 1.5)
# One worker, so that jobs run one after another, and leases that last while it is stopped.
WORKERS = ("--workers", "1")
SETTINGS = {"SHORT_WORKERS": "0", "WORKER_TTL_S": "600"}


@dataclass
class Queue:
    """A stack whose worker is stopped, with about `n` queued jobs."""

    stack: stack.Stack
    dataset: str
    n: int
    jobs: list[str] = field(default_factory=list)

    def fill(self) -> None:
        """Submit jobs until `n` are queued."""
        missing = self.n - len(self.jobs)
        starts = range(N_CALLERS)
        shares = [len(range(start, missing, N_CALLERS)) for start in starts]
        with ThreadPoolExecutor(N_CALLERS) as pool:
            list(pool.map(self.submit, shares))

    def submit(self, n: int) -> list[float]:
        """Submit `n` of the smallest fits, and return the milliseconds of each request."""
        with calling(self.stack.url) as caller:
            answers = [caller.ask("POST", self.fit) for _ in range(n)]
        assert all(answer.status == 202 for answer in answers), answers
        self.jobs += [answer.body["id"] for answer in answers]
        return [answer.ms for answer in answers]

    @property
    def fit(self) -> str:
        """The path that submits the smallest fit."""
        return f"/fit?id={self.dataset}&learner=baseline&validation=none"


def measure(bench: Bench) -> list[Line]:
    bench.stop_stack()
    with (
        stack.running(None, *WORKERS, **SETTINGS) as few,
        stack.running(None, *WORKERS, **SETTINGS) as many,
    ):
        queues = [_begun(bench, few, N_FEW), _begun(bench, many, N_MANY)]
        rounds = [_round(queues) for _ in range(bench.n_runs + 1)][1:]

    lines = []
    for name in MEASURED:
        few_ms = [each[name][0] for each in rounds]
        many_ms = [each[name][1] for each in rounds]
        lines.append(ratio(f"{name}, {WHAT}", Pairs(few_ms, many_ms, "ms"), TARGET))
    return lines


def _begun(bench: Bench, running: stack.Stack, n: int) -> Queue:
    """Return a queue whose worker has run a job, so it is ready, and is stopped now."""
    train, _ = bench.tables(100, 10, 2)
    with Client(running.url) as client:
        queue = Queue(running, client.upload(train), n)
        client.fit(queue.dataset, timeout=None, learner="baseline", validation="none")
    running.hold()
    return queue


def _round(queues: list[Queue]) -> dict[str, list[float]]:
    """Return the median milliseconds of each measurement, for each queue."""
    for queue in queues:
        queue.fill()
    found = {}
    for name, times_ms in MEASURED.items():
        found[name] = [statistics.median(times_ms(queue)) for queue in queues]
    return found


def _status(queue: Queue) -> list[float]:
    """Request the status of the job that has the most jobs before it."""
    newest = max(queue.jobs)

    def ask(caller: Caller) -> float:
        answer = caller.ask("GET", f"/status?id={newest}")
        assert answer.body["status"] == "queued", answer
        return answer.ms

    return _calls(queue, ask)


def _jobs(queue: Queue) -> list[float]:
    """Request the first page of jobs, on which the newest queued jobs come first."""
    newest = sorted(queue.jobs, reverse=True)[:N_FEW]

    def ask(caller: Caller) -> float:
        answer = caller.ask("GET", "/jobs")
        listed = [job["id"] for job in answer.body["jobs"]]
        assert listed[:N_FEW] == newest, "other jobs are listed"
        return answer.ms

    return _calls(queue, ask)


def _calls(queue: Queue, ask: Callable[[Caller], float]) -> list[float]:
    with calling(queue.stack.url) as caller:
        return [ask(caller) for _ in range(N_CALLS)]


def _fit(queue: Queue) -> list[float]:
    return queue.submit(N_FITS)


def _between_jobs(queue: Queue) -> list[float]:
    """Let the worker run some jobs, and return the milliseconds from each end to the next start."""
    queue.jobs.sort()
    # Jobs that were submitted in parallel may run in another order than that of their ids.
    first = queue.jobs[: N_RUN + N_CALLERS]
    with Client(queue.stack.url) as client:
        queue.stack.release()
        client.wait(first[N_RUN - 1])
        queue.stack.hold()
        # The work horse of a stopped worker ends its job by itself.
        time.sleep(0.5)
        statuses = [client.status(job) for job in first]
    ended = [job for job in statuses if job["ended_at"]]
    ended.sort(key=lambda job: job["started_at"])
    assert all(job["status"] == "finished" for job in ended), ended
    queue.jobs = sorted(set(queue.jobs) - {job["id"] for job in ended})
    # Without the first job, which waited for the worker to continue.
    following = pairwise(ended[1:])
    return [
        (after["started_at"] - before["ended_at"]) * 1000 for before, after in following
    ]


MEASURED = {
    "/status": _status,
    "/jobs": _jobs,
    "/fit": _fit,
    "a worker's time between two jobs": _between_jobs,
}

ALL = f"/status, /jobs, /fit and a worker's time between two jobs, {WHAT}"
BENCHMARKS = [Benchmark("backlog", ALL, measure)]
