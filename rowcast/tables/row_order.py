"""What keeps rows apart when some are held back: times that order them, groups that they belong to.

Importing this module loads pyarrow, but not pandas or scikit-learn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from rowcast.tables import columns, inference
from rowcast.tables.columns import Kind

_TIMES: frozenset[Kind] = frozenset({"numeric", "datetime", "duration"})


class Order(NamedTuple):
    """What a column says of rows: times that order them, or codes of groups, (n_rows,) each."""

    values: np.ndarray
    n_missing: int


class NotUsable(Exception):
    """A column cannot order or group rows; the text says what it holds instead."""


def times(
    name: str, column: Any, *, untyped: bool, decimal: str, skips_infinite: bool
) -> Order:
    """Return a column as numbers that grow with time: dates in seconds; NaN is missing.

    Raises:
        NotUsable: it holds text, categories or booleans, or a single time.
        columns.Unreadable, pyarrow.ArrowException, ValueError, OverflowError: values cannot be
            read.
    """
    feature, _ = inference.infer(name, column, untyped=untyped, decimal=decimal)
    if feature.kind not in _TIMES:
        raise NotUsable(
            f"values of the kind {feature.kind}; a time_column needs numbers or dates"
        )
    if skips_infinite and feature.kind == "numeric":
        feature = replace(feature, infinite="missing")
    found = columns.read(feature, column, decimal).as_numbers()
    is_known = ~np.isnan(found)
    if len(np.unique(found[is_known])) < 2:
        raise NotUsable("a single time, so that no row is later than others")
    return Order(found, int(len(found) - is_known.sum()))


def groups(column: Any) -> Order:
    """Return the codes of a column's values; rows without one form a group.

    Raises:
        NotUsable: it holds a single group.
        pyarrow.ArrowException: values cannot be read.
    """
    import pyarrow.compute as pc

    column = columns.decoded(column)
    if columns.is_text(column.type):
        text = columns.as_text(column)
        column = columns.known_text(pc.utf8_trim_whitespace(text))
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    found = column.dictionary_encode()
    codes: np.ndarray = found.indices.fill_null(len(found.dictionary)).to_numpy()
    if len(np.unique(codes)) < 2:
        raise NotUsable("a single group, so that no other one can be held back")
    return Order(codes, column.null_count)
