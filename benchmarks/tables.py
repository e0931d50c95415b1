"""The tables of the benchmarks: numbers and two classes, always the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq
from sklearn.datasets import make_classification


class Tables(NamedTuple):
    """Two Parquet files with the same features: `train` has a target `y`, `test` has none."""

    train: Path
    test: Path


def made(folder: Path, n_rows: int, n_test: int, n_columns: int) -> Tables:
    """Return tables of a shape, made at the first call."""
    folder = folder / f"{n_rows}+{n_test}x{n_columns}"
    found = Tables(folder / "train.parquet", folder / "test.parquet")
    if not folder.exists():
        folder.mkdir()
        x, y = make_classification(
            n_rows + n_test,
            n_columns,
            n_informative=min(15, n_columns),
            n_redundant=0,
            random_state=0,
        )
        frame = pd.DataFrame(x, columns=[f"col_{place}" for place in range(n_columns)])
        frame[:n_rows].assign(y=y[:n_rows]).to_parquet(found.train, index=False)
        frame[n_rows:].to_parquet(found.test, index=False)
    return found


def marked(path: Path) -> Path:
    """Return a copy of a Parquet file with the same rows and new bytes.

    The client does not upload bytes that the service already has.
    """
    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    mark = str(time.time_ns()).encode()
    copy = path.with_name(f"{path.stem}-marked.parquet")
    pq.write_table(table.replace_schema_metadata({**metadata, b"mark": mark}), copy)
    return copy
