"""Many fits at once: how well the jobs share the cores, and what they cost over bare processes.

Against the same jobs when each worker is bound to a core of its own, so that one thread each, as many as
cores, is all that there can be; and against scikit-learn, which reads the same files and fits them in
processes that have imported everything, one for each core.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import psutil
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from benchmarks.stack import Stack
from client import Client

N_FITS, N_ROWS, N_COLUMNS, N_RUNS = 12, 20_000, 50, 5


def measure(stack: Stack) -> list[tuple[str, str, str, str, bool]]:
    with tempfile.TemporaryDirectory() as folder, Client(stack.url) as client:
        paths = [_table(Path(folder), seed) for seed in range(N_FITS)]
        datasets = [client.upload(path) for path in paths]
        shared, over_bare = [], []
        with multiprocessing.get_context("spawn").Pool(joblib.cpu_count()) as pool:
            pool.map(_fit, paths[:2], chunksize=1)
            for _ in range(N_RUNS):
                bare_s = _bare(pool, paths)
                with _bound_to_one_core_each(stack):
                    bound_s = _service(client, datasets)
                service_s = _service(client, datasets)
                shared.append(service_s / bound_s)
                over_bare.append(service_s / bare_s)
        threads = _threads_alone(client, datasets[0])
    what = f"{N_FITS} fits of {N_ROWS:,} x {N_COLUMNS}"
    return [
        (
            f"{what}, one core each",
            f"{bound_s:.1f} s",
            _times(shared),
            "at most 1.2 times",
            np.median(shared) <= 1.2,
        ),
        (f"{what}, bare", f"{bare_s:.1f} s", _times(over_bare), "", True),
        ("one alone, CPU time over time", "1 core", f"{threads:.1f} cores", "over 1.2", threads > 1.2),
    ]


def _times(ratios: list[float]) -> str:
    return f"{np.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"


@contextmanager
def _bound_to_one_core_each(stack: Stack) -> Iterator[None]:
    cores = psutil.Process().cpu_affinity()
    pool = min(stack.processes("worker.py"), key=lambda process: process.create_time())
    workers = pool.children()
    for worker, core in zip(workers, cores, strict=False):
        worker.cpu_affinity([core])
    yield
    for worker in workers:
        worker.cpu_affinity(cores)


def _table(folder: Path, seed: int) -> Path:
    x, y = make_classification(N_ROWS, N_COLUMNS, n_informative=10, random_state=seed)
    path = folder / f"{seed}.parquet"
    pd.DataFrame(x, columns=[f"col_{i}" for i in range(N_COLUMNS)]).assign(y=y).to_parquet(path)
    return path


def _fit(path: Path) -> None:
    frame = pd.read_parquet(path)
    with threadpool_limits(1):
        HistGradientBoostingClassifier(random_state=0).fit(frame.drop(columns="y"), frame.y)


def _bare(pool: multiprocessing.pool.Pool, paths: list[Path]) -> float:
    started = time.monotonic()
    pool.map(_fit, paths, chunksize=1)
    return time.monotonic() - started


def _service(client: Client, datasets: list[str]) -> float:
    jobs = [client.fit(dataset, validation="none") for dataset in datasets]
    ended = [client.wait(job) for job in jobs]
    return max(job["ended_at"] for job in ended) - min(job["enqueued_at"] for job in ended)


def _threads_alone(client: Client, dataset: str) -> float:
    """Return how many cores a lone fit kept busy, from the machine's own count of idle time."""
    before, started = _busy_s(), time.monotonic()
    for _ in range(5):
        client.fit(dataset, timeout=None, validation="none")
    return (_busy_s() - before) / (time.monotonic() - started)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system)
