"""How soon a waiting caller gets the end of a job, and how fast /healthz is beside 200 of them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import requests

from benchmarks.bench import Bench
from benchmarks.caller import calling
from benchmarks.line import Benchmark, Line, Target
from client import Client

# Jobs and requests in each run.
N_JOBS = 4
N_CALLS = 10
N_WAITERS = 200
WAITER = "from a job's end to the answer for a waiting caller"
HEALTH = f"/healthz beside {N_WAITERS} waiting callers, slowest of {N_CALLS}"


def measure_waiter(bench: Bench) -> list[Line]:
    train, _ = bench.tables(1_000, 1_000, 10)
    with Client(bench.stack().url) as client:
        dataset = client.upload(train)
        n_jobs = N_JOBS * bench.n_runs
        delays_ms = [
            _delay_ms(client, client.fit(dataset, learner="boosting"))
            for _ in range(n_jobs)
        ]
    return [Line(WAITER, "ms", delays_ms, Target("at most", 50))]


def _delay_ms(client: Client, job: str) -> float:
    ended_at = client.wait(job)["ended_at"]
    return (time.time() - float(ended_at)) * 1000


def measure_health(bench: Bench) -> list[Line]:
    """In each run the callers wait for a job that takes longer than they wait."""
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(5_000, 20))).add_prefix("x")
    table = features.assign(y=rng.integers(0, 20, 5_000))
    with Client(bench.stack().url) as client:
        dataset = client.upload(table)
        slowest_ms = []
        for _ in range(bench.n_runs):
            job = client.fit(dataset, learner="boosting")
            slowest_ms.append(_health_ms(bench.stack().url, job))
            client.cancel(job)
    return [Line(HEALTH, "ms", slowest_ms, Target("under", 100))]


def _health_ms(url: str, job: str) -> float:
    def wait(_: int) -> None:
        requests.get(f"{url}/status", params={"id": job, "wait": "3"}, timeout=30)

    with ThreadPoolExecutor(N_WAITERS) as pool:
        waiters = [pool.submit(wait, place) for place in range(N_WAITERS)]
        # All callers are connected by then: 200 new connections would load the machine.
        time.sleep(1)
        with calling(url) as caller:
            slowest_ms = max(caller.ask("GET", "/healthz").ms for _ in range(N_CALLS))
        for waiter in waiters:
            waiter.result()
    return slowest_ms


BENCHMARKS = [
    Benchmark("waiter", WAITER, measure_waiter),
    Benchmark("health", HEALTH, measure_health),
]
