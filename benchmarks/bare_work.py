"""The work of the bare process: scikit-learn on the same files with the same parameters.

    python -m benchmarks.bare_work

Reads a line of JSON for each task, with a function of this module and its arguments, and writes a
line with what the function returned. Tables are Parquet files with a target `y`. Predictions are
written to .npy files, to be compared with the service's.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

import ml
from benchmarks import tables
from rowcast.learning import training
from rowcast.learning.progress import SILENT, Progress
from rowcast.tables import Feature


def main() -> None:
    """Run the tasks on standard input, until it ends."""
    # Output of libraries must not mix with the answers.
    answers = sys.stdout
    sys.stdout = sys.stderr
    warm_up()
    for line in sys.stdin:
        work, arguments = json.loads(line)
        try:
            answer = {"value": globals()[work](**arguments)}
        except Exception:  # noqa: BLE001 - the benchmark reports it, whatever it is
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def warm_up() -> None:
    """Fit and predict a small table, because the first time takes longer."""
    ml.warm_up()
    with TemporaryDirectory() as folder:
        train, test = tables.made(Path(folder), 1_000, 100, 5)
        cycle(str(train), str(test), f"{folder}/out.npy")


def cycle(train: str, test: str, out: str) -> float:
    """Read, fit, read and predict, on all cores; return the seconds."""
    began = time.monotonic()
    model = _fit(pd.read_parquet(train))
    predictions = model.predict(pd.read_parquet(test))
    seconds = time.monotonic() - began
    np.save(out, predictions)
    return seconds


def _fit(frame: pd.DataFrame) -> HistGradientBoostingClassifier:
    learner = HistGradientBoostingClassifier(random_state=0)
    return learner.fit(frame.drop(columns="y"), frame["y"])


def validated_cycle(train: str, test: str, out: str) -> float:
    """Do the same with the default validation; return the seconds.

    It holds back rows, and computes scores, a baseline and importances.
    """
    began = time.monotonic()
    model = _validated(pd.read_parquet(train))
    predictions = model.predict(pd.read_parquet(test))
    seconds = time.monotonic() - began
    np.save(out, predictions)
    return seconds


def _validated(frame: pd.DataFrame, progress: Progress = SILENT, **plan: Any) -> Any:
    return _trained(frame, "boosting", progress, **plan).model


def _trained(
    frame: pd.DataFrame, learner: str, progress: Progress = SILENT, **plan: Any
) -> training.Trained:
    features = [Feature(name, "numeric") for name in frame.columns if name != "y"]
    rows = training.Rows(frame.drop(columns="y"), frame["y"].to_numpy())
    chosen = training.Plan(learner, "classification", **plan)
    return training.train(chosen, features, rows, progress)


def validated_fit_of(train: str, learner: str) -> dict[str, float]:
    """Fit a learner on one thread with its default validation; return CPU seconds and log loss."""
    frame = pd.read_parquet(train)
    with threadpool_limits(1):
        began = time.process_time()
        scores = _trained(frame, learner).validation["scores"]
    seconds = time.process_time() - began
    return {"seconds": seconds, "log_loss": scores["log_loss"]}


def fits_without_and_with_validation(train: str) -> tuple[float, float]:
    """Return the seconds of a bare fit and of one with the default validation."""
    frame = pd.read_parquet(train)
    bare_s = _seconds(lambda: _fit(frame))
    validated_s = _seconds(lambda: _validated(frame))
    return bare_s, validated_s


def fits_without_and_with_progress(train: str) -> tuple[float, float]:
    """Return the CPU seconds of a training that reports no progress, and of one that does.

    CPU time, with one thread for the learner, because wall time on a shared machine varies by more
    than 1 % between runs. Importances are left out, because they always fill their time limit.
    """
    frame = pd.read_parquet(train)
    plan: dict[str, Any] = {"params": {"early_stopping": False}, "importance_s": 0}
    read_end, write_end = os.pipe()
    reader = threading.Thread(target=_read, args=(read_end,))
    reader.start()

    def send(message: object) -> None:
        os.write(write_end, json.dumps(message).encode() + b"\n")

    def fit_with_progress() -> None:
        _validated(frame, Progress(send).start("fit"), **plan)

    with threadpool_limits(1):
        with_s = _seconds(fit_with_progress, time.process_time)
        without_s = _seconds(lambda: _validated(frame, **plan), time.process_time)
    os.close(write_end)
    reader.join()
    return without_s, with_s


def _read(pipe: int) -> None:
    while os.read(pipe, 1 << 16):
        pass
    os.close(pipe)


def fits_on_one_thread(train: str, n: int) -> list[float]:
    """Read and fit `n` times on one thread, and return the seconds of each time."""
    with threadpool_limits(1):
        return [_seconds(lambda: _fit(pd.read_parquet(train))) for _ in range(n)]


def are_fits_of(models: list[str], train: str) -> bool:
    """Return whether every model file predicts exactly the probabilities of a bare fit."""
    frame = pd.read_parquet(train)
    features = frame.drop(columns="y")
    with threadpool_limits(1):
        expected = _fit(frame).predict_proba(features)
        found = [joblib.load(path).predict_proba(features) for path in models]
    return all(np.array_equal(expected, each) for each in found)


# The model of the following predictions: a process without the service keeps it in memory too.
MODELS: dict[str, Any] = {}


def keep(model: str) -> None:
    """Load a model file for the following predictions."""
    MODELS["kept"] = joblib.load(model)


def predict(test: str, out: str) -> float:
    """Read a table and predict it with the loaded model; return the seconds."""
    began = time.monotonic()
    predictions = MODELS["kept"].predict(pd.read_parquet(test))
    seconds = time.monotonic() - began
    np.save(out, predictions)
    return seconds


def predict_in_batches(rows: str, batch_rows: int, out: str) -> float:
    """Read and predict a table in batches, on all cores; return the seconds."""
    began = time.monotonic()
    batches = pq.ParquetFile(rows).iter_batches(batch_rows)
    predictions = [MODELS["kept"].predict(batch.to_pandas()) for batch in batches]
    seconds = time.monotonic() - began
    np.save(out, np.concatenate(predictions))
    return seconds


def predict_rows_singly(test: str, n: int) -> tuple[list[float], list[list[float]]]:
    """Predict the first `n` rows one by one; return the milliseconds and probabilities of each."""
    table = pd.read_parquet(test)
    rows = [table.iloc[[place]] for place in range(n)]
    took_ms = []
    found = []
    for row in rows:
        began = time.perf_counter()
        probabilities = MODELS["kept"].predict_proba(row)
        took_ms.append((time.perf_counter() - began) * 1000)
        found.append(probabilities[0].tolist())
    return took_ms, found


def _seconds(
    work: Callable[[], Any], clock: Callable[[], float] = time.monotonic
) -> float:
    began = clock()
    work()
    return clock() - began


if __name__ == "__main__":
    main()
