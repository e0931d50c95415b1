"""The tables that lines work on: numbers, two classes, the same each time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq
from sklearn.datasets import make_classification


class Tables(NamedTuple):
    """Parquet files: rows with a target `y`, and rows without, of one shape of features."""

    train: Path
    test: Path


def made(folder: Path, n_rows: int, n_test: int, n_columns: int) -> Tables:
    """Return tables of a shape, made the first time that they are asked for."""
    folder = folder / f"{n_rows}+{n_test}x{n_columns}"
    found = Tables(folder / "train.parquet", folder / "test.parquet")
    if not folder.exists():
        folder.mkdir()
        informative = min(15, n_columns)
        x, y = make_classification(
            n_rows + n_test,
            n_columns,
            n_informative=informative,
            n_redundant=0,
            random_state=0,
        )
        frame = pd.DataFrame(x, columns=[f"col_{place}" for place in range(n_columns)])
        frame[:n_rows].assign(y=y[:n_rows]).to_parquet(found.train, index=False)
        frame[n_rows:].to_parquet(found.test, index=False)
    return found


def marked(path: Path, mark: int) -> Path:
    """Return a copy of a Parquet file with other bytes and the same rows.

    The client asks whether the service has these very bytes before it sends them, and would not
    send them.
    """
    table = pq.read_table(path)
    copy = path.with_name(f"{path.stem}-marked.parquet")
    pq.write_table(
        table.replace_schema_metadata(
            {**(table.schema.metadata or {}), b"mark": b"%d" % mark}
        ),
        copy,
    )
    return copy
