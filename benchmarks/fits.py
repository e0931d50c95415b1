"""Many fits that wait when the workers begin: how well they share the cores, and what each costs
beside."""

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

N_FITS, N_ALONE = 20, 3
SHAPES = {"small": (1_000, 10), "large": (75_000, 50)}


def measure(bench: Bench, size: str, bound: float) -> list[Line]:
    n_rows, n_columns = SHAPES[size]
    train, _ = bench.tables(n_rows, 1_000 if size == "small" else 25_000, n_columns)
    n_cores, parallel_s = joblib.cpu_count(), []
    with Client(bench.stack().url) as client, ExitStack() as others:
        processes = [
            bench.bare,
            *(others.enter_context(Bare()) for _ in range(n_cores - 1)),
        ]
        dataset = client.upload(train)
        # One of each warms the workers up.
        client.fit(dataset, timeout=None, validation="none")
        _in_parallel(processes, train)

        def bare() -> float:
            parallel_s.append(_in_parallel(processes, train))
            alone_s = bench.bare.ask("fits_on_one_thread", train=train, n=N_ALONE)
            return N_FITS * statistics.median(alone_s) / n_cores

        service = partial(_fits, bench, client, dataset, train)
        pairs = alternate(bench.n_runs, bare, service, n_warm_ups=0)
    what = what_of(size)
    return [
        ratio(what, pairs, Target("at most", bound)),
        ratio(
            f"{what}, against as many bare processes as cores",
            Pairs(parallel_s, pairs.service),
        ),
    ]


def what_of(size: str) -> str:
    n_rows, n_columns = SHAPES[size]
    return f"{N_FITS} fits of {n_rows:,} x {n_columns}, queued before the workers start"


def _fits(bench: Bench, client: Client, dataset: str, train: Path) -> float:
    """Return the seconds from the first start to the last end of jobs that wait while no worker
    takes any."""
    with bench.stack().held():
        jobs = [client.fit(dataset, validation="none") for _ in range(N_FITS)]
    ended = [client.wait(job) for job in jobs]
    paths = [
        client.download_model(job, bench.folder / f"model-{place}")
        for place, job in enumerate(jobs)
    ]
    assert bench.bare.ask("are_fits_of", models=paths, train=train), (
        "models differ from the bare one"
    )
    return max(job["ended_at"] for job in ended) - min(
        job["started_at"] for job in ended
    )


def _in_parallel(processes: list[Bare], train: Path) -> float:
    """Return the seconds that as many bare fits take where each of these processes does its
    share."""
    with ThreadPoolExecutor(len(processes)) as pool:
        work = [
            pool.submit(each.ask, "fits_on_one_thread", train=train, n=N_ALONE)
            for each in processes
        ]
        return (
            N_FITS
            / len(processes)
            * statistics.mean(s for each in work for s in each.result())
        )


BENCHMARKS = [
    Benchmark(
        "fits_small", what_of("small"), partial(measure, size="small", bound=1.6)
    ),
    Benchmark(
        "fits_large", what_of("large"), partial(measure, size="large", bound=1.1)
    ),
]
