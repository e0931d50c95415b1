"""How long after a job's end a waiting caller knows of it, and how /healthz answers beside 200 waiters."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import requests

from benchmarks.stack import Stack
from client import Client

N_RUNS, N_WAITERS = 20, 200


def measure(stack: Stack) -> list[tuple[str, str, str, str, bool]]:
    with Client(stack.url) as client:
        rng = np.random.default_rng(0)
        small = client.upload(pd.DataFrame({"x": rng.normal(size=1000), "y": rng.integers(0, 2, 1000)}))
        large = client.upload(
            pd.DataFrame(rng.normal(size=(5_000, 20))).add_prefix("x").assign(y=rng.integers(0, 20, 5_000))
        )
        delays_ms = [_delay_ms(client, client.fit(small)) for _ in range(N_RUNS)]
        health_ms = _health_ms(stack, client.fit(large))
    delay, health = statistics.median(delays_ms), max(health_ms)
    spread = f"{min(delays_ms):.0f} to {max(delays_ms):.0f}"
    return [
        ("a job's end to the waiter's answer", "", f"{delay:.0f} ms ({spread})", "within 50 ms", delay <= 50),
        (
            f"/healthz beside {N_WAITERS} waiters",
            "",
            f"at most {health:.0f} ms",
            "under 100 ms",
            health < 100,
        ),
    ]


def _delay_ms(client: Client, job: str) -> float:
    return (-client.wait(job)["ended_at"] + time.time()) * 1000


def _health_ms(stack: Stack, job: str) -> list[float]:
    def wait(_: int) -> None:
        requests.get(stack.url + "/status", params={"id": job, "wait": 3}, timeout=30)

    def health() -> float:
        started = time.monotonic()
        requests.get(stack.url + "/healthz", timeout=30).raise_for_status()
        return (time.monotonic() - started) * 1000

    with ThreadPoolExecutor(N_WAITERS) as pool:
        waiters = [pool.submit(wait, i) for i in range(N_WAITERS)]
        # Measured once all are connected: the making of 200 connections is the load of the callers.
        time.sleep(1)
        times = [health() for _ in range(10)]
        for waiter in waiters:
            waiter.result()
    return times
