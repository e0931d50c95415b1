"""Predictions for millions of rows: rows per second, and the memory of the job."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import requests

from benchmarks import memory
from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, Pairs, Target, alternate, ratio
from benchmarks.stack import Stack
from client import Client
from rowcast.learning.prediction import MAX_BATCH_ROWS

N_ROWS, N_FEWER = 5_000_000, 1_000_000
N_COLUMNS = 20
ROWS_PER_GROUP = 1_000_000
WHAT = f"predict of {N_ROWS:,} x {N_COLUMNS}"
# Seconds between samples of the memory, which cost the job about 1 % of its time.
SAMPLE_S = 0.2


class Job(NamedTuple):
    """What a job took: seconds in all and for reading and predicting, memory in MB, threads."""

    whole_s: float
    predicting_s: float
    mb: float
    n_threads: int


def measure(bench: Bench) -> list[Line]:
    rows = _rows(bench.folder, N_ROWS)
    fewer = _rows(bench.folder, N_FEWER)
    out = bench.folder / "predictions.npy"
    jobs: list[Job] = []
    small_mb = []
    with Client(bench.stack().url) as client:
        model = _model(bench, client)
        many, few = client.upload(rows), client.upload(fewer)

        def bare() -> float:
            batches = {"rows": rows, "batch_rows": MAX_BATCH_ROWS, "out": out}
            return N_ROWS / bench.bare.ask("predict_in_batches", **batches)

        def service() -> float:
            _, small = _predicted(bench.stack(), client, few, model)
            small_mb.append(small.mb)
            result, job = _predicted(bench.stack(), client, many, model)
            jobs.append(job)
            _check(client, result, out)
            return N_ROWS / job.predicting_s

        _predicted(bench.stack(), client, few, model)
        pairs = alternate(bench.n_runs, bare, service, "rows/s", n_warm_ups=0)
    return _lines(pairs, jobs, small_mb)


def _lines(pairs: Pairs, jobs: list[Job], small_mb: list[float]) -> list[Line]:
    whole = Pairs(pairs.bare, [N_ROWS / job.whole_s for job in jobs], pairs.unit)
    peaks = Pairs(small_mb, [job.mb for job in jobs], "MB")
    threads = f"threads of the jobs: {', '.join(str(job.n_threads) for job in jobs)}"
    speed = Target("at least", 0.85)
    memory_what = f"{WHAT}, peak memory, compared with {N_FEWER:,} rows"
    memory_note = "the bare column is the job with fewer rows"
    return [
        ratio(f"{WHAT}, reading and predicting", pairs, speed, threads),
        ratio(f"{WHAT}, the whole job with download and upload", whole, speed),
        ratio(memory_what, peaks, Target("at most", 1.1), memory_note),
    ]


def _rows(folder: Path, n_rows: int) -> Path:
    rng = np.random.default_rng(0)
    path = folder / f"{n_rows}-rows.parquet"
    schema = pa.schema([(f"col_{place}", pa.float64()) for place in range(N_COLUMNS)])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(n_rows // ROWS_PER_GROUP):
            values = rng.normal(size=(N_COLUMNS, ROWS_PER_GROUP))
            writer.write_table(pa.table(list(values), schema=schema))
    return path


def _model(bench: Bench, client: Client) -> str:
    """Fit a model, have the bare process load its file, and return its id."""
    train, _ = bench.tables(20_000, 1_000, N_COLUMNS)
    model = client.fit(train, timeout=None, validation="none", learner="boosting")
    path = client.download_model(model, bench.folder / "model.joblib")
    bench.bare.ask("keep", model=path)
    return model


def _predicted(stack: Stack, client: Client, rows: str, model: str) -> tuple[str, Job]:
    # Work horses are the children of workers.
    horses = partial(memory.children_of, stack.workers())
    with memory.watched(horses, SAMPLE_S) as peak_mb:
        result = client.predict(rows, model, timeout=None)
    status = client.status(result)
    answer = requests.get(f"{stack.url}/results/{result}", timeout=30)
    about: dict[str, Any] = answer.json()
    durations_s = about["durations_s"]
    return result, Job(
        status["ended_at"] - status["started_at"],
        durations_s["reading"] + durations_s["predicting"],
        peak_mb[0],
        about["n_threads"],
    )


def _check(client: Client, result: str, out: Path) -> None:
    predictions = client.download(result)["y"].to_numpy()
    is_equal = np.array_equal(predictions, np.load(out))
    assert is_equal, "predictions differ from the bare ones"


BENCHMARKS = [Benchmark("predict_many", WHAT, measure)]
