"""Tables of numbers, as the tests need them."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.datasets import make_classification

from rowcast.config import Settings
from rowcast.tables import Format, Limits, Source

LIMITS = Limits.of(Settings())


def parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return buffer.getvalue()


def table(n_rows: int = 1000, n_columns: int = 10, seed: int = 0) -> pd.DataFrame:
    """Return a table of numbers with a target `y` of two classes."""
    x, y = make_classification(
        n_rows,
        n_columns,
        n_informative=2,
        n_redundant=0,
        n_clusters_per_class=1,
        random_state=seed,
    )
    return pd.DataFrame(x, columns=[f"col_{i}" for i in range(n_columns)]).assign(y=y)


def slow_table() -> pd.DataFrame:
    """Return a table that takes several seconds to fit: many classes, with a tree each an
    iteration."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.normal(size=(3_000, 20)), columns=[f"col_{i}" for i in range(20)]
    )
    return frame.assign(y=[f"class {i}" for i in rng.integers(0, 14, 3_000)])


def source_of(table: pa.Table) -> Source:
    return Source(
        Format("parquet"),
        table.schema,
        table.num_rows,
        LIMITS,
        lambda wanted, max_rows: iter(table.select(wanted).to_batches(max_rows)),
    )
