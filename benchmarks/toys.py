"""Short jobs beside a long one that has every core: how soon they end, and what a stream of them costs it.

    python -m benchmarks.toys

The long fit's speed is its iterations a second, before, during and after the stream.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import stack
from client import Client

ALONE_S, STREAM_S = 20.0, 40.0


def measure(running: stack.Stack) -> list[tuple[str, str, str, str, bool]]:
    """Return the rows of the table."""
    with Client(running.url) as client, tempfile.TemporaryDirectory() as folder:
        toy = client.upload(_table(Path(folder) / "toy", 1_000, 10))
        client.fit(toy, timeout=None)
        # Iterations of half an hour, of which a minute is needed.
        params = {"max_iter": 10_000, "early_stopping": False}
        long = client.fit(_table(Path(folder) / "long", 75_000, 50), validation="none", params=params)
        _await_iterations(client, long)
        before = _speed(client, long, ALONE_S)
        toys: list[float] = []
        during = _speed(client, long, STREAM_S, lambda: toys.append(_toy(client, toy)))
        after = _speed(client, long, ALONE_S)
        client.cancel(long)
    cost = 1 - during / statistics.mean([before, after])
    rest = f"{statistics.median(toys[1:]):.2f} s, {max(toys):.2f} s at most"
    return [
        ("a toy submitted beside a long fit ends in", "", f"{toys[0]:.2f} s", "<= 1 s", toys[0] <= 1),
        (f"each of a stream of {len(toys)} toys", "", rest, "", True),
        ("a stream of toys costs the long fit", "", f"{cost:.0%}", "<= 25 %", cost <= 0.25),
    ]


def _table(path: Path, n_rows: int, n_columns: int) -> str:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n_rows, n_columns)), columns=[f"c{i}" for i in range(n_columns)])
    frame.assign(y=(frame.sum(axis=1) + rng.normal(size=n_rows) > 0).astype(int)).to_parquet(path)
    return str(path)


def _toy(client: Client, dataset: str) -> float:
    began = time.monotonic()
    client.fit(dataset, timeout=None)
    return time.monotonic() - began


def _iterations(client: Client, job: str) -> tuple[int, float]:
    progress: dict[str, Any] = client.status(job)["progress"] or {}
    return progress.get("iterations_done") or 0, time.monotonic()


def _await_iterations(client: Client, job: str) -> None:
    while _iterations(client, job)[0] < 5:
        time.sleep(0.2)


def _speed(client: Client, job: str, seconds: float, meanwhile: Any = lambda: time.sleep(0.1)) -> float:
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


if __name__ == "__main__":
    with stack.running() as started:
        for what, _, found, target, is_met in measure(started):
            print(f"{what:<44}{found:<30}{target:<10}{'' if is_met else 'MISSED'}")
