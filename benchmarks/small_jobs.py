"""Short jobs beside a long one that has every core: how soon they end, and what a stream of them
costs it.

The long fit's speed is its iterations a second, in turn alone and beside the stream.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, Pairs, Target
from client import FINAL, Client

ALONE_S, STREAM_S = 8.0, 10.0
FIRST, EACH = (
    "a small fit submitted beside a long fit ends in",
    "each of a stream of small fits beside a long fit",
)
COST = "what a stream of small fits costs a long fit"


def measure(bench: Bench) -> list[Line]:
    small_jobs: list[float] = []
    alone, beside, first = [], [], []
    with Client(bench.stack().url) as client:
        toy = client.upload(bench.tables(1_000, 1_000, 10).train)
        client.fit(toy, timeout=None)
        for _ in range(bench.n_runs):
            # One for each run: a fit may have no more iterations than last for some minutes.
            job = _long_fit(bench, client)
            before, began = _speed(client, job, ALONE_S), len(small_jobs)
            beside.append(
                _speed(
                    client, job, STREAM_S, lambda: small_jobs.append(_toy(client, toy))
                )
            )
            first.append(small_jobs[began])
            alone.append(statistics.mean([before, _speed(client, job, ALONE_S)]))
            client.cancel(job)
    return _lines(first, small_jobs, Pairs(alone, beside, "iterations/s"))


def _lines(first: list[float], small_jobs: list[float], speeds: Pairs) -> list[Line]:
    cost = [100 * (1 - share) for share in speeds.ratios()]
    return [
        Line(FIRST, "s", first, Target("at most", 1)),
        Line(EACH, "s", small_jobs),
        Line(COST, "%", cost, Target("at most", 25), speeds),
    ]


def _long_fit(bench: Bench, client: Client) -> str:
    """Begin a fit of several minutes, of which half a one is needed."""
    train, _ = bench.tables(75_000, 25_000, 50)
    params = {"max_iter": 10_000, "early_stopping": False}
    job = client.fit(train, validation="none", params=params)
    while _iterations(client, job)[0] < 5:
        time.sleep(0.2)
    return job


def _toy(client: Client, dataset: str) -> float:
    began = time.monotonic()
    client.fit(dataset, timeout=None)
    return time.monotonic() - began


def _iterations(client: Client, job: str) -> tuple[int, float]:
    status = client.status(job)
    if status["status"] in FINAL:
        raise RuntimeError(
            f"The long fit has {status['status']} before it was measured."
        )
    progress: dict[str, Any] = status["progress"] or {}
    return progress.get("iterations_done") or 0, time.monotonic()


def _speed(
    client: Client,
    job: str,
    seconds: float,
    meanwhile: Callable[[], None] = lambda: time.sleep(0.1),
) -> float:
    """Return the iterations a second of a running fit, whatever is done meanwhile."""
    # Progress is told once a second, so a change is waited for at both ends.
    first, began = _next(client, job)
    while time.monotonic() < began + seconds:
        meanwhile()
    last, ended = _next(client, job)
    return (last - first) / (ended - began)


def _next(client: Client, job: str) -> tuple[int, float]:
    done, _ = _iterations(client, job)
    while True:
        now, at = _iterations(client, job)
        if now != done:
            return now, at
        time.sleep(0.02)


BENCHMARKS = [Benchmark("small_jobs", COST, measure)]
