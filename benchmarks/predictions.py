"""Predictions for millions of rows: rows a second beside the bare learner, and the job's memory."""

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

N_ROWS, N_FEWER, N_COLUMNS = 5_000_000, 1_000_000, 20
ROWS_A_GROUP = 1_000_000
WHAT = f"predict of {N_ROWS:,} x {N_COLUMNS}"
# Looking costs the job about a hundredth of its time.
LOOK_S = 0.2


class Job(NamedTuple):
    """Seconds of the whole job, and of reading and predicting; its memory in MB; how many threads
    it had."""

    whole_s: float
    predicting_s: float
    mb: float
    n_threads: int


def measure(bench: Bench) -> list[Line]:
    rows, fewer = (_rows(bench.folder, n_rows) for n_rows in (N_ROWS, N_FEWER))
    out, jobs, small = bench.folder / "predictions.npy", [], []
    with Client(bench.stack().url) as client:
        model = _model(bench, client)
        many, few = client.upload(rows), client.upload(fewer)

        def bare() -> float:
            batches = {"rows": rows, "batch_rows": MAX_BATCH_ROWS, "out": out}
            return N_ROWS / bench.bare.ask("predict_in_batches", **batches)

        def service() -> float:
            small.append(_predicted(bench.stack(), client, few, model)[1].mb)
            result, job = _predicted(bench.stack(), client, many, model)
            jobs.append(job)
            _check(client, result, out)
            return N_ROWS / job.predicting_s

        _predicted(bench.stack(), client, few, model)
        pairs = alternate(bench.n_runs, bare, service, "rows/s", n_warm_ups=0)
    return _lines(pairs, jobs, small)


def _lines(pairs: Pairs, jobs: list[Job], small_mb: list[float]) -> list[Line]:
    whole = Pairs(pairs.bare, [N_ROWS / job.whole_s for job in jobs], pairs.unit)
    peaks = Pairs(small_mb, [job.mb for job in jobs], "MB")
    threads = f"threads of the jobs: {', '.join(str(job.n_threads) for job in jobs)}"
    return [
        ratio(
            f"{WHAT}, reading and predicting", pairs, Target("at least", 0.85), threads
        ),
        ratio(
            f"{WHAT}, the whole job with download and upload",
            whole,
            Target("at least", 0.85),
        ),
        ratio(
            f"{WHAT}, most memory, over that of {N_FEWER:,} rows",
            peaks,
            Target("at most", 1.1),
            "the bare column is the job with fewer rows",
        ),
    ]


def _rows(folder: Path, n_rows: int) -> Path:
    rng = np.random.default_rng(0)
    path = folder / f"{n_rows}-rows.parquet"
    schema = pa.schema([(f"col_{place}", pa.float64()) for place in range(N_COLUMNS)])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(n_rows // ROWS_A_GROUP):
            values = rng.normal(size=(N_COLUMNS, ROWS_A_GROUP))
            writer.write_table(pa.table(list(values), schema=schema))
    return path


def _model(bench: Bench, client: Client) -> str:
    """Fit a model, have the bare process load its file, and return its id."""
    train, _ = bench.tables(20_000, 1_000, N_COLUMNS)
    model = client.fit(train, timeout=None, validation="none")
    bench.bare.ask(
        "keep", model=client.download_model(model, bench.folder / "model.joblib")
    )
    return model


def _predicted(stack: Stack, client: Client, rows: str, model: str) -> tuple[str, Job]:
    # The work horse, which is the child of a worker.
    horses = partial(memory.children_of, stack.workers())
    with memory.watched(horses, LOOK_S) as most_mb:
        result = client.predict(rows, model, timeout=None)
    status = client.status(result)
    about: dict[str, Any] = requests.get(
        f"{stack.url}/results/{result}", timeout=30
    ).json()
    durations_s = about["durations_s"]
    return result, Job(
        status["ended_at"] - status["started_at"],
        durations_s["reading"] + durations_s["predicting"],
        most_mb[0],
        about["n_threads"],
    )


def _check(client: Client, result: str, out: Path) -> None:
    predictions = client.download(result)["y"].to_numpy()
    assert np.array_equal(predictions, np.load(out)), (
        "predictions differ from the bare ones"
    )


BENCHMARKS = [Benchmark("predict_many", WHAT, measure)]
