"""What it costs to tell how far a fit is: training that writes it into a pipe, against silent training.

In CPU time of all threads, with one thread for the learner: on a shared machine the time on the clock differs
by more than a hundredth from run to run.
"""

from __future__ import annotations

import json
import os
import threading
import time

import numpy as np
import pandas as pd
from sklearn.datasets import make_classification
from threadpoolctl import threadpool_limits

import ml
from benchmarks.stack import Stack
from rowcast import training
from rowcast.columns import Feature
from rowcast.progress import SILENT, Progress

N_ROWS, N_COLUMNS, N_RUNS = 75_000, 50, 9


def measure(_: Stack) -> list[tuple[str, str, str, str, bool]]:
    ml.warm_up()
    x, y = make_classification(N_ROWS, N_COLUMNS, n_informative=10, random_state=0)
    frame = pd.DataFrame(x, columns=[f"col_{i}" for i in range(N_COLUMNS)])
    features, rows = [Feature(name, "numeric") for name in frame], training.Rows(frame, y)
    read_end, write_end = os.pipe()
    reader = threading.Thread(target=_read, args=(read_end,))
    reader.start()
    pairs = [
        (_cpu_s(features, rows, _into(write_end)), _cpu_s(features, rows, SILENT)) for _ in range(N_RUNS + 1)
    ][1:]
    os.close(write_end)
    reader.join()
    ratios = [telling / silent for telling, silent in pairs]
    return [
        (
            f"training on {N_ROWS:,} x {N_COLUMNS} that tells its progress",
            f"{np.median([silent for _, silent in pairs]):.2f} s",
            f"{np.median(ratios):.3f} times ({min(ratios):.3f} to {max(ratios):.3f})",
            "at most 1.01 times",
            bool(np.median(ratios) <= 1.01),
        )
    ]


def _into(pipe: int) -> Progress:
    return Progress(lambda message: os.write(pipe, json.dumps(message).encode() + b"\n")).start("fit")


def _read(pipe: int) -> None:
    while os.read(pipe, 1 << 16):
        pass
    os.close(pipe)


def _cpu_s(features: list[Feature], rows: training.Rows, progress: Progress) -> float:
    # Without importances, which take as many rounds as fit into their time.
    plan = training.Plan("boosting", "classification", {"early_stopping": False}, importance_s=0)
    with threadpool_limits(1):
        started = time.process_time()
        training.train(plan, features, rows, progress)
        return time.process_time() - started
