"""What the bare process does: scikit-learn called by hand on the same files, with the same
parameters.

    python -m benchmarks.bare_work

Reads a line of JSON for each task, a function of this module and its arguments, and writes one with
what it returned. Tables are Parquet files with a target `y`; predictions are left in .npy files for
comparison.
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
    # What libraries print must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    warm_up()
    for line in sys.stdin:
        work, arguments = json.loads(line)
        try:
            answer = {"value": globals()[work](**arguments)}
        except Exception:  # noqa: BLE001 - whatever it is, the benchmark that asked is to say so
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def warm_up() -> None:
    """Do once what the first fit and prediction would otherwise pay for."""
    ml.warm_up()
    with TemporaryDirectory() as folder:
        train, test = tables.made(Path(folder), 1_000, 100, 5)
        cycle(str(train), str(test), f"{folder}/out.npy")


def cycle(train: str, test: str, out: str) -> float:
    """Read, fit, read, predict, on all cores; return the seconds."""
    began = time.monotonic()
    model = _fit(pd.read_parquet(train))
    predictions = model.predict(pd.read_parquet(test))
    seconds = time.monotonic() - began
    np.save(out, predictions)
    return seconds


def _fit(frame: pd.DataFrame) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(random_state=0).fit(
        frame.drop(columns="y"), frame["y"]
    )


def judged_cycle(train: str, test: str, out: str) -> float:
    """Do the same with the default validation: rows held back, scores, a baseline and
    importances."""
    began = time.monotonic()
    model = _judged(pd.read_parquet(train))
    predictions = model.predict(pd.read_parquet(test))
    seconds = time.monotonic() - began
    np.save(out, predictions)
    return seconds


def _judged(frame: pd.DataFrame, progress: Progress = SILENT, **plan: Any) -> Any:
    features = [Feature(name, "numeric") for name in frame.columns if name != "y"]
    rows = training.Rows(frame.drop(columns="y"), frame["y"].to_numpy())
    how = training.Plan("boosting", "classification", **plan)
    return training.train(how, features, rows, progress).model


def fit_and_judged_fit(train: str) -> tuple[float, float]:
    """Return the seconds of a bare fit, and of one with the default validation, on a table in
    memory."""
    frame = pd.read_parquet(train)
    return _seconds(lambda: _fit(frame)), _seconds(lambda: _judged(frame))


def silent_and_telling_fit(train: str) -> tuple[float, float]:
    """Return the CPU seconds of a training that tells nobody how far it is, and of one that does.

    Of all threads, with one for the learner: on a shared machine the time on the clock differs by
    more than a hundredth from run to run. Without importances, which take as many rounds as fit
    into their time.
    """
    frame = pd.read_parquet(train)
    how: dict[str, Any] = {"params": {"early_stopping": False}, "importance_s": 0}
    read_end, write_end = os.pipe()
    reader = threading.Thread(target=_read, args=(read_end,))
    reader.start()
    telling = Progress(
        lambda message: os.write(write_end, json.dumps(message).encode() + b"\n")
    )
    with threadpool_limits(1):
        told_s = _seconds(
            lambda: _judged(frame, telling.start("fit"), **how), time.process_time
        )
        silent_s = _seconds(lambda: _judged(frame, **how), time.process_time)
    os.close(write_end)
    reader.join()
    return silent_s, told_s


def _read(pipe: int) -> None:
    while os.read(pipe, 1 << 16):
        pass
    os.close(pipe)


def fits_on_one_thread(train: str, n: int) -> list[float]:
    """Return the seconds of reading and fitting on one thread, each of `n` times."""
    with threadpool_limits(1):
        return [_seconds(lambda: _fit(pd.read_parquet(train))) for _ in range(n)]


def are_fits_of(models: list[str], train: str) -> bool:
    """Tell whether each of these model files predicts what a fit by hand does, to the last
    digit."""
    frame = pd.read_parquet(train)
    with threadpool_limits(1):
        expected = _fit(frame).predict_proba(frame.drop(columns="y"))
        found = [
            joblib.load(path).predict_proba(frame.drop(columns="y")) for path in models
        ]
    return all(np.array_equal(expected, each) for each in found)


# What predictions are made with is kept between tasks, as a process of one's own would.
MODELS: dict[str, Any] = {}


def keep(model: str) -> None:
    """Load a model file, which is predicted with from now on."""
    MODELS["kept"] = joblib.load(model)


def predict(test: str, out: str) -> float:
    """Read a table and predict it with the model that is kept; return the seconds."""
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
    """Predict the first `n` rows of a table one by one; return the milliseconds and probabilities
    of each."""
    table = pd.read_parquet(test)
    rows = [table.iloc[[place]] for place in range(n)]
    took_ms, found = [], []
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
