"""Predictions for 20 million rows: the worker's memory, and its speed against the bare learner's.

The bare learner gets as many threads as the job had, which depends on what else the machine does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from sklearn.datasets import make_classification

from benchmarks.stack import ROOT, Stack
from client import Client

N_ROWS, N_COLUMNS, N_RUNS = 20_000_000, 10, 3
ROWS_A_GROUP = 1_000_000

# Reads and predicts the same batches, in a process that has imported everything; prints the seconds.
BARE = """
import sys, time, joblib, pandas, pyarrow.parquet as pq
from threadpoolctl import threadpool_limits
model, path, batch_rows = joblib.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with threadpool_limits(int(sys.argv[4])):
    started = time.monotonic()
    for batch in pq.ParquetFile(path).iter_batches(batch_rows):
        model.predict(batch.to_pandas())
print(time.monotonic() - started)
"""


def measure(stack: Stack) -> list[tuple[str, str, str, str, bool]]:
    with tempfile.TemporaryDirectory() as name, Client(stack.url) as client:
        folder = Path(name)
        model_id = client.fit(client.upload(_training_table(folder)), timeout=None)
        model = _model_file(stack, model_id, folder)
        rows = _rows(folder)
        dataset = client.upload(rows)
        ratios, most = [], 0.0
        for _ in range(N_RUNS):
            result_id, mb = _predicted(stack, client, dataset, model_id)
            about = requests.get(f"{stack.url}/results/{result_id}", timeout=30).json()
            n_threads = about["n_threads"]
            bare_s = float(_python(BARE, str(model), str(rows), "65536", str(n_threads)))
            durations_s = about["durations_s"]
            ratios.append(bare_s / (durations_s["reading"] + durations_s["predicting"]))
            most = max(most, mb)
    what = f"prediction of {N_ROWS:,} x {N_COLUMNS}"
    return [
        (f"{what}, worker's memory", "", f"{most:.0f} MB", "under 600 MB", most < 600),
        (
            f"{what}, rows a second",
            f"{bare_s:.0f} s, {n_threads} threads",
            f"{np.median(ratios):.2f} of bare ({min(ratios):.2f} to {max(ratios):.2f})",
            "at least 0.8",
            bool(np.median(ratios) >= 0.8),
        ),
    ]


def _training_table(folder: Path) -> Path:
    x, y = make_classification(20_000, N_COLUMNS, random_state=0)
    columns = {f"col_{i}": x[:, i].astype(np.float32) for i in range(N_COLUMNS)}
    path = folder / "train.parquet"
    pq.write_table(pa.table({**columns, "y": y}), path)
    return path


def _rows(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    path = folder / "rows.parquet"
    schema = pa.schema([(f"col_{i}", pa.float32()) for i in range(N_COLUMNS)])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(N_ROWS // ROWS_A_GROUP):
            values = rng.normal(size=(N_COLUMNS, ROWS_A_GROUP)).astype(np.float32)
            writer.write_table(pa.table(list(values), schema=schema))
    return path


def _model_file(stack: Stack, model_id: str, folder: Path) -> Path:
    url = requests.get(f"{stack.url}/models/{model_id}/file", timeout=30).json()["url"]
    path = folder / "model.joblib"
    path.write_bytes(requests.get(url, timeout=30).content)
    return path


def _predicted(stack: Stack, client: Client, dataset: str, model_id: str) -> tuple[str, float]:
    """Return the result's id, and the most memory (PSS) that a worker with its job took meanwhile, in MB."""
    done, most = threading.Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.1):
            most[0] = max([most[0], *(_pss_mb(process) for process in stack.processes("worker.py"))])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result_id = client.predict(dataset, model_id, timeout=None)
    finally:
        done.set()
        watcher.join()
    return result_id, most[0]


def _pss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 1e6
    except psutil.Error:
        return 0.0


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
