"""What a table must hold for a fit or a prediction, checked with every problem listed.

`check_fit` and `check_predict` serve the server, which has only what the footer or the first
megabyte shows, and the job, which then reads all rows. Importing this module loads pyarrow, and
neither pandas nor scikit-learn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from rowcast.errors import InvalidTable
from rowcast.tables import columns
from rowcast.tables import target as labels
from rowcast.tables.columns import Feature, Unreadable
from rowcast.tables.formats import Sample, Source

DEFAULT_TARGET = "y"
OTHER_TARGETS = ("target", "label", "class")


@dataclass(frozen=True)
class Problems:
    """Values of one column that cannot be read: why, how many, and the first row where this is
    known."""

    name: str
    reason: str
    n_rows: int = 0
    first_row: int = 0

    def __str__(self) -> str:
        where = f": {self.n_rows}, first in row {self.first_row}" if self.n_rows else ""
        return f"The column {self.name!r} holds {self.reason}{where}."


def target_of(names: Collection[str], asked: str | None) -> str:
    """Return the target's name: the one asked for, else `y`, else the only one of target, label and
    class."""
    if asked is not None or DEFAULT_TARGET in names:
        return asked or DEFAULT_TARGET
    others = [name for name in OTHER_TARGETS if name in names]
    return others[0] if len(others) == 1 else DEFAULT_TARGET


def check_fit(
    sample: Sample | Source, target: str | None, weights: str | None = None
) -> str:
    """Return the name of the target, if a model of it can be fitted as far as the sample shows.

    Raises:
        InvalidTable: with every problem that the sample shows.
    """
    types = _types(sample.schema)
    target = target_of(types, target)
    problems = _duplicates(types)
    features = feature_fields(sample.schema, target, weights)
    if target not in types:
        problems.append(
            f"The target column {target!r} is missing; the table has {_list(sample.schema.names)}."
        )
    problems += [
        _unusable(field)
        for field in features
        if columns.kind_of_type(field.type) is None
    ]
    problems += [
        f"The target column {target!r} has the type {_short(found)}, which cannot be predicted."
        for found in types.get(target, [])
        if not labels.can_be_target(found)
    ]
    problems += _weights_problems(types, target, weights, untyped=is_untyped(sample))
    if target in types and not features:
        problems.append(f"The table has no columns besides the target {target!r}.")
    refuse(
        problems,
        "Name the target with target=<column>; correct or leave out the other columns; upload "
        "again.",
    )
    return target


def _weights_problems(
    types: dict[str, list[pa.DataType]],
    target: str,
    weights: str | None,
    *,
    untyped: bool,
) -> Iterator[str]:
    if weights is None:
        return
    if weights not in types:
        yield f"The column {weights!r} is missing, which sample_weight names."
    elif weights == target:
        yield f"The target {target!r} cannot be the sample_weight too."
    elif not columns.can_be("numeric", types[weights][0], untyped=untyped):
        yield (
            f"The column {weights!r} has the type {_short(types[weights][0])}; sample_weight "
            "needs numbers."
        )


def feature_fields(
    schema: pa.Schema, target: str, weights: str | None
) -> list[pa.Field]:
    """Return the columns to learn from: all but the target, the weights and pandas' index."""
    index = _pandas_index(schema) - {target}
    return [field for field in schema if field.name not in {target, weights} | index]


def is_untyped(sample: Sample | Source) -> bool:
    """Tell whether the file has no types, so that its text may stand for anything."""
    return sample.format.name == "csv"


def check_predict(
    sample: Sample | Source, features: Sequence[Feature], keep: Sequence[str] = ()
) -> None:
    """Check that a table has what a model needs. Column order does not matter, other columns are
    ignored.

    Raises:
        InvalidTable: with every missing column and all values and types that cannot be used.
    """
    types = _types(sample.schema)
    needed = dict.fromkeys([*(feature.name for feature in features), *keep])
    problems = _duplicates({name: types.get(name, []) for name in needed})
    for feature in features:
        if feature.name not in types:
            problems.append(
                f"The column {feature.name!r} is missing, which the model was trained on."
            )
        elif not columns.can_be(
            feature.kind, found := types[feature.name][0], untyped=is_untyped(sample)
        ):
            problems.append(
                f"The column {feature.name!r} has the type {_short(found)}; the model needs "
                f"{feature.kind}."
            )
        elif len(types[feature.name]) == 1 and (
            problem := _problem_in_sample(sample, feature)
        ):
            problems.append(str(problem))
    problems += [
        f"The column {name!r} is missing, which keep names."
        for name in keep
        if name not in types
    ]
    problems += [
        f"The column {name!r} has the type {_short(types[name][0])}, which keep cannot copy."
        for name in keep
        if name in types and columns.kind_of_type(types[name][0]) is None
    ]
    refuse(
        problems,
        "Send the columns that the model was trained on, with the same names and types.",
    )


def _problem_in_sample(sample: Sample | Source, feature: Feature) -> Problems | None:
    # Only these kinds are read without pandas, which the server does without.
    rows = sample.rows if isinstance(sample, Sample) else None
    if rows is None or feature.kind not in ("numeric", "duration"):
        return None
    try:
        columns.read(feature, rows.column(feature.name), sample.format.decimal or ".")
    except Unreadable as error:
        return Problems(feature.name, error.reason, len(error.rows), int(error.rows[0]))
    return None


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
    return (
        {name for name in index if isinstance(name, str)}
        if isinstance(index, list)
        else set()
    )


def _unusable(field: pa.Field) -> str:
    return (
        f"The column {field.name!r} has the type {_short(field.type)}, which no model can "
        "use; leave it out."
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


def refuse(problems: list[str], hint: str) -> None:
    """Reject a table with these problems, if there are any."""
    if problems:
        count = f" ({len(problems)} problems)" if len(problems) > 1 else ""
        raise InvalidTable(problems[0] + count, hint=hint, errors=problems[:100])


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return (
        f"{shown} and {len(names) - 10} more"
        if len(names) > 10
        else shown or "no columns"
    )
