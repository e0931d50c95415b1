"""Bytes in, checked columns out.

A table is refused as early as its footer shows what is wrong, with every problem listed; `check_fit`
and `check_predict` therefore serve the server, which reads only the footer, and the job, which reads all.
Importing this module loads pyarrow, and neither pandas nor scikit-learn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from rowcast.errors import InvalidTable

Kind = Literal["numeric", "text", "datetime"]

# The first test that holds decides; a type that none takes is refused.
_KINDS: tuple[tuple[Callable[[pa.DataType], bool], Kind], ...] = (
    (pt.is_boolean, "numeric"),
    (pt.is_integer, "numeric"),
    (pt.is_floating, "numeric"),
    (pt.is_decimal, "numeric"),
    (pt.is_null, "numeric"),
    (pt.is_string, "text"),
    (pt.is_large_string, "text"),
    (pt.is_string_view, "text"),
    (pt.is_date, "datetime"),
    (pt.is_timestamp, "datetime"),
)

FOOTER_BYTES = 65_536
_MAGIC = b"PAR1"
_MAX_FOOTER_BYTES = 64 << 20
_MIN_ROWS = 10


@dataclass(frozen=True)
class Feature:
    """A column that a model was trained on."""

    name: str
    kind: Kind

    def as_dict(self) -> dict[str, str]:
        """Return the form that a manifest holds."""
        return asdict(self)


def read_schema(size: int, read: Callable[[int, int], bytes]) -> pa.Schema:
    """Return the schema of a Parquet file of `size` bytes, reading no more than its footer.

    `read(offset, length)` returns a part of the file.

    Raises:
        InvalidTable: the file is empty, no Parquet file, truncated or encrypted.
    """
    if size == 0:
        raise InvalidTable("The table is an empty file.")
    tail = read(max(0, size - FOOTER_BYTES), min(size, FOOTER_BYTES))
    if len(tail) < 12 or tail[-4:] != _MAGIC:
        raise InvalidTable(
            "The table is not a Parquet file, or only a part of one.",
            hint="Save the table as Parquet (pandas: df.to_parquet), upload it again and submit the new id.",
        )
    n_footer = int.from_bytes(tail[-8:-4], "little") + 8
    if len(tail) < n_footer <= min(size, _MAX_FOOTER_BYTES):
        tail = read(size - n_footer, n_footer)
    return _parquet(pa.BufferReader(tail)).schema_arrow


def read(path: Path) -> pa.Table:
    """Return all of a Parquet file's rows.

    Raises:
        InvalidTable: the file is damaged.
    """
    if path.stat().st_size == 0:
        raise InvalidTable("The table is an empty file.")
    try:
        return _without_views(_parquet(path).read(use_threads=pa.cpu_count() > 1))
    except (pa.ArrowException, OSError) as error:
        raise InvalidTable(f"The Parquet file is damaged: {_first_sentence(error)}") from error


def _without_views(table: pa.Table) -> pa.Table:
    # Arrow cannot filter string views, so they become strings.
    fields = [f.with_type(pa.string()) if pt.is_string_view(f.type) else f for f in table.schema]
    return table.cast(pa.schema(fields, table.schema.metadata))


def _parquet(source: Any) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(source)
        # Names are decoded only when they are asked for.
        _ = file.schema_arrow.names
        return file
    except UnicodeDecodeError:
        raise InvalidTable("The Parquet file cannot be read: a column's name is not Unicode.") from None
    except (pa.ArrowException, OSError) as error:
        raise InvalidTable(f"The Parquet file cannot be read: {_first_sentence(error)}") from error


def check_fit(schema: pa.Schema, target: str) -> list[Feature]:
    """Return the features that a model of `target` will have: every other column but pandas' index.

    Raises:
        InvalidTable: with every problem that the schema shows.
    """
    types = _types(schema)
    problems = _duplicates(types)
    if target not in types:
        problems.append(f"The target column {target!r} is missing; the table has {_list(schema.names)}.")
    index = _pandas_index(schema) - {target}
    features = [f for f in schema if f.name != target and f.name not in index]
    problems += [_unusable(field) for field in features if _kind_of(field.type) is None]
    problems += [
        f"The target column {target!r} has the type {_short(found)}; it must be numbers, booleans or text."
        for found in types.get(target, [])
        if not _is_target(_value_type(found))
    ]
    if target in types and not features:
        problems.append(f"The table has no columns besides the target {target!r}.")
    _refuse(
        problems,
        "Name the target with target=<column>; correct or leave out the other columns; upload again.",
    )
    return [Feature(field.name, kind) for field in features if (kind := _kind_of(field.type))]


def check_predict(schema: pa.Schema, features: Sequence[Feature]) -> None:
    """Check that a table has what a model needs. Column order does not matter, other columns are ignored.

    Raises:
        InvalidTable: with every missing column and every type that cannot be used.
    """
    types = _types(schema)
    problems = _duplicates({feature.name: types.get(feature.name, []) for feature in features})
    for feature in features:
        if feature.name not in types:
            problems.append(f"The column {feature.name!r} is missing, which the model was trained on.")
        elif not _can_be(feature.kind, found := types[feature.name][0]):
            problems.append(
                f"The column {feature.name!r} has the type {_short(found)}; the model needs {feature.kind}."
            )
    _refuse(problems, "Send the columns that the model was trained on, with the same names and types.")


def training_data(table: pa.Table, target: str) -> tuple[list[Feature], Any, np.ndarray]:
    """Return the features, their frame (n_rows, n_features) and the known values of the target (n_rows,).

    Raises:
        InvalidTable: as `check_fit`, `target_values` and `features_frame`.
    """
    features = check_fit(table.schema, target)
    values, is_known = target_values(table, target)
    return features, features_frame(table.filter(is_known), features, np.flatnonzero(is_known)), values


def features_frame(table: pa.Table, features: Sequence[Feature], rows: np.ndarray | None = None) -> Any:
    """Return a pandas DataFrame of shape (n_rows, n_features) in the features' order.

    `rows` are the rows' numbers in the user's table, where these are not all of it.

    Numeric columns become float64 with NaN where a value is missing, text becomes pandas' str, dates
    and times datetime64.

    Raises:
        InvalidTable: a value cannot be converted, or a number is infinite; names every such column.
    """
    import pandas as pd

    columns, problems = {}, []
    for feature in features:
        try:
            columns[feature.name] = _CONVERT[feature.kind](table.column(feature.name))
        except _Infinite as error:
            first = error.rows[0] if rows is None else rows[error.rows[0]]
            problems.append(
                f"The column {feature.name!r} holds infinite values: {len(error.rows)}, first in row {first}."
            )
        except (pa.ArrowException, ValueError, OverflowError):
            # Arrow's messages quote values, which neither logs nor records may hold.
            problems.append(f"The column {feature.name!r} holds values that cannot be converted.")
    _refuse(problems, "Correct these values, upload the table again and submit the new id.")
    return pd.DataFrame(columns, copy=False)


def target_values(table: pa.Table, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the known target values and the mask, of shape (n_rows,), that says in which rows they are.

    Raises:
        InvalidTable: a value is infinite, or fewer than 10 rows have a target.
    """
    # Imported here because the server, which needs no values, saves 10 MB without it.
    import pyarrow.compute as pc

    column = _decoded(table.column(target))
    try:
        column.validate(full=True)
    except pa.ArrowException:
        raise InvalidTable(f"The target column {target!r} holds text that is not Unicode.") from None
    if pt.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pt.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        if pc.any(pc.is_inf(column)).as_py():
            raise InvalidTable(f"The target column {target!r} holds infinite values.")
    known = pc.is_valid(column).to_numpy(zero_copy_only=False)
    if known.sum() < _MIN_ROWS:
        raise InvalidTable(
            f"Only {int(known.sum())} of {len(known)} rows have a value in the target column {target!r}; "
            f"a fit needs at least {_MIN_ROWS}."
        )
    return column.drop_null().to_numpy(zero_copy_only=False), known


def write_result(path: Path, target: str, values: np.ndarray, arrow_type: str) -> None:
    """Write predictions as Parquet, one column named as the target, in the type the target had."""
    array = pa.array(values).cast(_TARGET_TYPES.get(arrow_type, pa.float64()))
    pq.write_table(pa.table({target: array}), path)


def target_type(table: pa.Table, target: str, task: str) -> str:
    """Return the name of the Arrow type that predictions of this target have."""
    if task == "regression":
        return "double"
    found = str(_value_type(table.schema.field(target).type))
    return found if found in _TARGET_TYPES else "double"


_TARGET_TYPES: dict[str, pa.DataType] = {
    str(t): t
    for t in (
        *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.string_view()),
    )
}


class _Infinite(Exception):
    """A column holds infinite values; `rows` are where, from 0 on."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__()
        self.rows = rows


def _value_type(found: pa.DataType) -> pa.DataType:
    return found.value_type if pt.is_dictionary(found) else found


def _kind_of(found: pa.DataType) -> Kind | None:
    # A category is text, whatever its values.
    if pt.is_dictionary(found):
        return "text" if _kind_of(found.value_type) else None
    return next((kind for test, kind in _KINDS if test(found)), None)


def _is_target(found: pa.DataType) -> bool:
    return _kind_of(found) in ("numeric", "text") and not pt.is_null(found)


def _can_be(kind: Kind, found: pa.DataType) -> bool:
    """Tell whether a column of this type can be read as the kind that the model knows."""
    actual = _kind_of(found)
    # An all-missing column has no type of its own. Numbers can be read as text, not text as numbers.
    return actual == kind or pt.is_null(found) or (kind == "text" and actual == "numeric")


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pt.is_dictionary(column.type) else column


def _numeric(column: pa.ChunkedArray) -> np.ndarray:
    values: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise _Infinite(infinite)
    return values


def _text(column: pa.ChunkedArray) -> Any:
    text = _decoded(column).cast(pa.string())
    text.validate(full=True)
    return text.to_pandas().astype("str")


def _datetime(column: pa.ChunkedArray) -> Any:
    import pyarrow.compute as pc

    zone = column.type.tz if pt.is_timestamp(column.type) else None
    # Nanoseconds are cut off; what is out of range is still refused.
    options = pc.CastOptions(pa.timestamp("us", tz=zone), allow_time_truncate=True)
    return column.cast(options=options).to_pandas()


_CONVERT: dict[Kind, Callable[[pa.ChunkedArray], Any]] = {
    "numeric": _numeric,
    "text": _text,
    "datetime": _datetime,
}


def _duplicates(types: dict[str, list[pa.DataType]]) -> list[str]:
    return [
        f"The column {name!r} appears {len(found)} times; names must be unique."
        for name, found in types.items()
        if len(found) > 1
    ]


def _pandas_index(schema: pa.Schema) -> set[str]:
    try:
        index = (schema.pandas_metadata or {}).get("index_columns")
    except (ValueError, AttributeError, RecursionError):
        # The metadata are a note of the writer's, not part of the table.
        return set()
    return {name for name in index if isinstance(name, str)} if isinstance(index, list) else set()


def _unusable(field: pa.Field) -> str:
    return (
        f"The column {field.name!r} has the type {_short(field.type)}, which no model can use; leave it out."
    )


def _types(schema: pa.Schema) -> dict[str, list[pa.DataType]]:
    """Return the types of the columns of each name, of which a broken table may have several."""
    types: dict[str, list[pa.DataType]] = {}
    for field in schema:
        types.setdefault(field.name, []).append(field.type)
    return types


def _short(found: pa.DataType) -> str:
    name = str(found)
    return name if len(name) <= 60 else f"{name[:60]}..."


def _refuse(problems: list[str], hint: str) -> None:
    if problems:
        count = f" ({len(problems)} problems)" if len(problems) > 1 else ""
        raise InvalidTable(problems[0] + count, hint=hint, errors=problems[:100])


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown or "no columns"


def _first_sentence(error: Exception) -> str:
    return re.split(r"[.\n]", str(error), maxsplit=1)[0] + "."
