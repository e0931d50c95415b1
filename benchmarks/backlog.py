"""What 10,000 waiting jobs cost those who ask, submit and list, and the worker, over 10 that wait.

Two stacks stand side by side, so that both are measured in turn. Their workers are stopped but for
the jobs between which time is measured.
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
N_CALLS, N_FITS, N_RUN = 40, 10, 20
N_CALLERS = 8
WHAT = f"{N_MANY:,} jobs queued, over {N_FEW}"
TARGET = Target("at most", 1.5)
# One worker, so that its jobs follow one another, and leases that outlast its being stopped.
WORKERS = ("--workers", "1")
SETTINGS = {"SHORT_WORKERS": "0", "WORKER_TTL_S": "600"}


@dataclass
class Queue:
    """A stack whose worker is stopped, and about `n` jobs that wait there."""

    stack: stack.Stack
    dataset: str
    n: int
    jobs: list[str] = field(default_factory=list)

    def fill(self) -> None:
        """Submit as many jobs as are missing."""
        missing = self.n - len(self.jobs)
        with ThreadPoolExecutor(N_CALLERS) as pool:
            shares = [
                len(range(place, missing, N_CALLERS)) for place in range(N_CALLERS)
            ]
            list(pool.map(self.submit, shares))

    def submit(self, n: int) -> list[float]:
        """Submit the smallest of fits so many times; return the milliseconds of each request."""
        with calling(self.stack.url) as caller:
            answers = [caller.ask("POST", self.fit) for _ in range(n)]
        assert all(answer.status == 202 for answer in answers), answers
        self.jobs += [answer.body["id"] for answer in answers]
        return [answer.ms for answer in answers]

    @property
    def fit(self) -> str:
        return f"/fit?id={self.dataset}&learner=baseline&validation=none"


def measure(bench: Bench) -> list[Line]:
    bench.stop_stack()
    with (
        stack.running(None, *WORKERS, **SETTINGS) as few,
        stack.running(None, *WORKERS, **SETTINGS) as many,
    ):
        queues = [_begun(bench, few, N_FEW), _begun(bench, many, N_MANY)]
        rounds = [_round(queues) for _ in range(bench.n_runs + 1)][1:]
    pairs = {
        name: Pairs(
            [each[name][0] for each in rounds], [each[name][1] for each in rounds], "ms"
        )
        for name in rounds[0]
    }
    return [ratio(f"{name}, {WHAT}", pairs[name], TARGET) for name in pairs]


def _begun(bench: Bench, running: stack.Stack, n: int) -> Queue:
    """Return a queue whose worker has done a job, so that it is up, and stands still from now
    on."""
    train, _ = bench.tables(100, 10, 2)
    with Client(running.url) as client:
        queue = Queue(running, client.upload(train), n)
        client.fit(queue.dataset, timeout=None, learner="baseline", validation="none")
    running.hold()
    return queue


def _round(queues: list[Queue]) -> dict[str, list[float]]:
    """Return the milliseconds that each thing takes in each of the queues."""
    for queue in queues:
        queue.fill()
    return {
        name: [statistics.median(each(queue)) for queue in queues]
        for name, each in MEASURED.items()
    }


def _status(queue: Queue) -> list[float]:
    """Ask for the job that has most others before it."""
    newest = max(queue.jobs)

    def ask(caller: Caller) -> float:
        answer = caller.ask("GET", f"/status?id={newest}")
        assert answer.body["status"] == "queued", answer
        return answer.ms

    return _calls(queue, ask)


def _jobs(queue: Queue) -> list[float]:
    """List the first page, on which the newest jobs are, those that wait first."""
    newest = sorted(queue.jobs, reverse=True)[:N_FEW]

    def ask(caller: Caller) -> float:
        answer = caller.ask("GET", "/jobs")
        assert [job["id"] for job in answer.body["jobs"]][:N_FEW] == newest, (
            "other jobs are listed"
        )
        return answer.ms

    return _calls(queue, ask)


def _calls(queue: Queue, ask: Callable[[Caller], float]) -> list[float]:
    with calling(queue.stack.url) as caller:
        return [ask(caller) for _ in range(N_CALLS)]


def _fit(queue: Queue) -> list[float]:
    return queue.submit(N_FITS)


def _between_jobs(queue: Queue) -> list[float]:
    """Let the worker do some jobs; return the milliseconds from each one's end to the next one's
    start."""
    queue.jobs.sort()
    # Those that were submitted at once may be taken in another order than that of their ids.
    first = queue.jobs[: N_RUN + N_CALLERS]
    with Client(queue.stack.url) as client:
        queue.stack.release()
        client.wait(first[N_RUN - 1])
        queue.stack.hold()
        # The job that the worker was stopped over ends by itself.
        time.sleep(0.5)
        on_progress = [client.status(job) for job in first]
    ended = sorted(
        (job for job in on_progress if job["ended_at"]),
        key=lambda job: job["started_at"],
    )
    assert all(job["status"] == "finished" for job in ended), ended
    queue.jobs = sorted(set(queue.jobs) - {job["id"] for job in ended})
    # The first has waited for the worker to go on.
    return [
        (after["started_at"] - before["ended_at"]) * 1000
        for before, after in pairwise(ended[1:])
    ]


MEASURED = {
    "/status": _status,
    "/jobs": _jobs,
    "/fit": _fit,
    "a worker's time between two jobs": _between_jobs,
}

BENCHMARKS = [
    Benchmark("backlog", f"/status, /fit, /jobs and a worker's pauses, {WHAT}", measure)
]
