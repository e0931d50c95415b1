"""What it costs to judge a model: fits with holdout, scores and importances against bare fits."""

from __future__ import annotations

import io
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier

import ml
from benchmarks.stack import Stack
from rowcast import formats, tables, training
from rowcast.config import Settings

N_RUNS = 7


def measure(_: Stack) -> list[tuple[str, str, str, str, bool]]:
    ml.warm_up()
    large, small = _pairs(75_000, 50), _pairs(1_000, 10)
    ratios = [own / bare for own, bare in large]
    extra = [own - bare for own, bare in small]
    return [
        (
            "fit, scores, importances on 75,000 x 50",
            f"{np.median([bare for _, bare in large]):.2f} s",
            f"{np.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})",
            "at most 1.25 times",
            bool(np.median(ratios) <= 1.25),
        ),
        (
            "fits, scores, importances on 1,000 x 10",
            f"{np.median([bare for _, bare in small]):.2f} s",
            f"{np.median(extra):.2f} s more ({min(extra):.2f} to {max(extra):.2f})",
            "at most 0.25 s more",
            bool(np.median(extra) <= 0.25),
        ),
    ]


def _pairs(n_rows: int, n_columns: int) -> list[tuple[float, float]]:
    """Return seconds of ours and of the bare fit, one after the other; the first pair warms up."""
    x, y = make_classification(
        n_rows, n_columns, n_informative=min(10, n_columns), n_redundant=0, random_state=0
    )
    frame = pd.DataFrame(x, columns=[f"col_{i}" for i in range(n_columns)])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_bytes(_parquet(frame.assign(y=y)))
        source = formats.open_file(path, formats.Limits.of(Settings()))
        table = tables.training(source, "y")
    rows, plan = training.Rows(table.frame, table.target), training.Plan("boosting", "classification")
    return [
        (
            _seconds(lambda: training.train(plan, table.features, rows)),
            _seconds(lambda: HistGradientBoostingClassifier(random_state=0).fit(frame, y)),
        )
        for _ in range(N_RUNS + 1)
    ][1:]


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def _seconds(work: Any) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started
