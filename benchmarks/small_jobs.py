"""Small jobs beside a long fit on all cores: how soon they end, and what they cost the long fit.

The speed of the long fit is its iterations per second, alternately alone and beside small fits.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, Pairs, Target
from client import FINAL, Client

ALONE_S = 8.0
STREAM_S = 10.0
FIRST = "a small fit beside a long fit, from submit to end"
EACH = "each of a stream of small fits beside a long fit"
COST = "what a stream of small fits costs a long fit"


def measure(bench: Bench) -> list[Line]:
    small_fits_s: list[float] = []
    first_s = []
    alone = []
    beside = []
    with Client(bench.stack().url) as client:
        dataset = client.upload(bench.tables(1_000, 1_000, 10).train)
        client.fit(dataset, timeout=None, learner="boosting")

        def small_fit() -> None:
            began = time.monotonic()
            client.fit(dataset, timeout=None, learner="boosting")
            small_fits_s.append(time.monotonic() - began)

        for _ in range(bench.n_runs):
            # A long fit for each run, because its iterations last for some minutes only.
            job = _long_fit(bench, client)
            n_before = len(small_fits_s)
            before = _speed(client, job, ALONE_S)
            beside.append(_speed(client, job, STREAM_S, small_fit))
            after = _speed(client, job, ALONE_S)
            first_s.append(small_fits_s[n_before])
            alone.append(statistics.mean([before, after]))
            client.cancel(job)
    return _lines(first_s, small_fits_s, Pairs(alone, beside, "iterations/s"))


def _lines(first_s: list[float], each_s: list[float], speeds: Pairs) -> list[Line]:
    cost = [100 * (1 - share) for share in speeds.ratios()]
    return [
        Line(FIRST, "s", first_s, Target("at most", 1)),
        Line(EACH, "s", each_s),
        Line(COST, "%", cost, Target("at most", 25), speeds),
    ]


def _long_fit(bench: Bench, client: Client) -> str:
    """Start a fit of several minutes, of which half a minute is needed."""
    train, _ = bench.tables(75_000, 25_000, 50)
    params = {"max_iter": 10_000, "early_stopping": False}
    job = client.fit(train, validation="none", learner="boosting", params=params)
    while _iterations(client, job)[0] < 5:
        time.sleep(0.2)
    return job


def _iterations(client: Client, job: str) -> tuple[int, float]:
    status = client.status(job)
    if status["status"] in FINAL:
        raise RuntimeError(f"The long fit ended too early: {status['status']}.")
    progress: dict[str, Any] = status["progress"] or {}
    return progress.get("iterations_done") or 0, time.monotonic()


def _speed(
    client: Client,
    job: str,
    seconds: float,
    meanwhile: Callable[[], None] = lambda: time.sleep(0.1),
) -> float:
    """Return the iterations per second of a running fit, while `meanwhile` is called repeatedly."""
    # Progress is reported once a second, so both ends wait for the next report.
    first, began = _next(client, job)
    while time.monotonic() < began + seconds:
        meanwhile()
    last, ended = _next(client, job)
    return (last - first) / (ended - began)


def _next(client: Client, job: str) -> tuple[int, float]:
    """Wait for a progress report; return its iterations and its time."""
    done, _ = _iterations(client, job)
    while True:
        now, at = _iterations(client, job)
        if now != done:
            return now, at
        time.sleep(0.02)


BENCHMARKS = [Benchmark("small_jobs", COST, measure)]
