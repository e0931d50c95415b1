"""Columns, and the values that learners use of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rowcast.tables import columns, inference
from rowcast.tables.columns import Feature, Values


def chunked(values: Any) -> pa.ChunkedArray:
    """Return values as a column in two chunks."""
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.chunked_array([array[:1], array[1:]])


def infer(values: Any, *, untyped: bool = False, decimal: str = ".") -> Feature:
    """Return the feature that a column of these values becomes."""
    return inference.infer("x", chunked(values), untyped=untyped, decimal=decimal)[0]


def read(feature: Feature, values: Any, decimal: str = ".") -> Values:
    """Return values as the feature reads them."""
    return columns.read(feature, chunked(values), decimal)


def learned(values: Any, *, untyped: bool = False, decimal: str = ".") -> Values:
    """Return the values of a column that is read as the feature that it becomes."""
    return read(infer(values, untyped=untyped, decimal=decimal), values, decimal)


def listed(values: Values) -> list[Any]:
    """Return values as a list with None for missing ones."""
    found = (
        values.array.tolist()
        if isinstance(values.array, np.ndarray)
        else list(values.array)
    )
    return [None if pd.isna(value) else value for value in found]
