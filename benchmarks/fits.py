"""Many fits at once: the service's makespan against the same fits on one thread each, as many as cores.

The bare side reads the same files and fits them with the same learner in processes that have imported
everything, one for each core.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
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
        ratios = []
        with multiprocessing.get_context("spawn").Pool(joblib.cpu_count()) as pool:
            pool.map(_fit, paths[:2], chunksize=1)
            for _ in range(N_RUNS):
                bare_s, service_s = _bare(pool, paths), _service(client, datasets)
                ratios.append(service_s / bare_s)
        threads = _threads_alone(client, datasets[0])
    ratio, spread = np.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f}"
    what = f"{N_FITS} fits of {N_ROWS:,} x {N_COLUMNS} at once"
    return [
        (what, f"{bare_s:.1f} s", f"{ratio:.2f} times ({spread})", "at most 1.2 times", ratio <= 1.2),
        ("one alone, CPU time over time", "1 core", f"{threads:.1f} cores", "over 1.2", threads > 1.2),
    ]


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
    jobs = [client.fit(dataset) for dataset in datasets]
    ended = [client.wait(job) for job in jobs]
    return max(job["ended_at"] for job in ended) - min(job["enqueued_at"] for job in ended)


def _threads_alone(client: Client, dataset: str) -> float:
    """Return how many cores a lone fit kept busy, from the machine's own count of idle time."""
    before, started = _busy_s(), time.monotonic()
    for _ in range(5):
        client.fit(dataset, timeout=None)
    return (_busy_s() - before) / (time.monotonic() - started)


def _busy_s() -> float:
    import psutil

    times = psutil.cpu_times()
    return float(times.user + times.system)
