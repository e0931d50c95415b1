"""How long after a job's end a waiting caller knows of it, and how /healthz answers beside 200
waiters."""

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

N_JOBS, N_WAITERS, N_CALLS = 4, 200, 10
WAITER, HEALTH = (
    "a job's end to the waiter's answer",
    f"/healthz beside {N_WAITERS} waiters, slowest of {N_CALLS}",
)


def measure_waiter(bench: Bench) -> list[Line]:
    train, _ = bench.tables(1_000, 1_000, 10)
    with Client(bench.stack().url) as client:
        dataset = client.upload(train)
        delays_ms = [
            _delay_ms(client, client.fit(dataset)) for _ in range(N_JOBS * bench.n_runs)
        ]
    return [Line(WAITER, "ms", delays_ms, Target("at most", 50))]


def _delay_ms(client: Client, job: str) -> float:
    return (-client.wait(job)["ended_at"] + time.time()) * 1000


def measure_health(bench: Bench) -> list[Line]:
    """Job after job is waited for that takes longer than the waiting."""
    with Client(bench.stack().url) as client:
        rng = np.random.default_rng(0)
        table = (
            pd.DataFrame(rng.normal(size=(5_000, 20)))
            .add_prefix("x")
            .assign(y=rng.integers(0, 20, 5_000))
        )
        dataset = client.upload(table)
        slowest_ms = []
        for _ in range(bench.n_runs):
            job = client.fit(dataset)
            slowest_ms.append(_health_ms(bench.stack().url, job))
            client.cancel(job)
    return [Line(HEALTH, "ms", slowest_ms, Target("under", 100))]


def _health_ms(url: str, job: str) -> float:
    def wait(_: int) -> None:
        requests.get(f"{url}/status", params={"id": job, "wait": 3}, timeout=30)

    with ThreadPoolExecutor(N_WAITERS) as pool:
        waiters = [pool.submit(wait, place) for place in range(N_WAITERS)]
        # Measured once all are connected: the making of 200 connections is the load of the callers.
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
