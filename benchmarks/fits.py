"""Many queued fits: how well they share the cores, and what each costs besides its training."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import joblib

from benchmarks.bare import Bare
from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, Pairs, Target, alternate, ratio
from client import Client

N_FITS = 20
# Bare fits per process and run.
N_ALONE = 3
SHAPES = {"small": (1_000, 10), "large": (75_000, 50)}


def measure(bench: Bench, size: str, bound: float) -> list[Line]:
    n_rows, n_columns = SHAPES[size]
    n_test = 1_000 if size == "small" else 25_000
    train, _ = bench.tables(n_rows, n_test, n_columns)
    n_cores = joblib.cpu_count()
    parallel_s = []
    with Client(bench.stack().url) as client, ExitStack() as others:
        processes = [bench.bare]
        processes += [others.enter_context(Bare()) for _ in range(n_cores - 1)]
        dataset = client.upload(train)
        # A first fit warms up each side.
        client.fit(dataset, timeout=None, validation="none", learner="boosting")
        _in_parallel(processes, train)

        def bare() -> float:
            parallel_s.append(_in_parallel(processes, train))
            alone_s = bench.bare.ask("fits_on_one_thread", train=train, n=N_ALONE)
            return N_FITS * statistics.median(alone_s) / n_cores

        service = partial(_fits, bench, client, dataset, train)
        pairs = alternate(bench.n_runs, bare, service, n_warm_ups=0)
    what = what_of(size)
    parallel = Pairs(parallel_s, pairs.service)
    return [
        ratio(what, pairs, Target("at most", bound)),
        ratio(f"{what}, compared with a bare process per core", parallel),
    ]


def what_of(size: str) -> str:
    """Return what the line of a size measures."""
    n_rows, n_columns = SHAPES[size]
    return f"{N_FITS} fits of {n_rows:,} x {n_columns}, queued before the workers start"


def _fits(bench: Bench, client: Client, dataset: str, train: Path) -> float:
    """Queue fits, run them, and return the seconds from the first start to the last end."""
    with bench.stack().held():
        jobs = [
            client.fit(dataset, validation="none", learner="boosting")
            for _ in range(N_FITS)
        ]
    ended = [client.wait(job) for job in jobs]

    paths = [client.download_model(job, bench.folder / f"{job}.joblib") for job in jobs]
    is_equal = bench.bare.ask("are_fits_of", models=paths, train=train)
    assert is_equal, "models differ from the bare one"
    for path in paths:
        path.unlink()

    first_start = min(job["started_at"] for job in ended)
    last_end = max(job["ended_at"] for job in ended)
    return float(last_end - first_start)


def _in_parallel(processes: list[Bare], train: Path) -> float:
    """Return the seconds that N_FITS bare fits take, shared equally among these processes."""

    def fits(process: Bare) -> list[float]:
        return list(process.ask("fits_on_one_thread", train=train, n=N_ALONE))

    with ThreadPoolExecutor(len(processes)) as pool:
        seconds = [one for each in pool.map(fits, processes) for one in each]
    return N_FITS / len(processes) * statistics.mean(seconds)


BENCHMARKS = [
    Benchmark(
        "fits_small", what_of("small"), partial(measure, size="small", bound=1.6)
    ),
    Benchmark(
        "fits_large", what_of("large"), partial(measure, size="large", bound=1.1)
    ),
]
