"""What a table must contain for a fit or a prediction; every problem is listed.

`check_fit` and `check_predict` serve the server, which has only what the footer or the first
megabyte shows, and the job, which then reads all rows. Importing this module loads pyarrow, but not
pandas or scikit-learn.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from rowcast.tables import columns
from rowcast.tables import target as labels
from rowcast.tables.columns import Feature, Unreadable
from rowcast.tables.files import Sample, Source
from rowcast.tables.rejections import reject
from rowcast.tables.selection import ALL, Selection

DEFAULT_TARGET = "y"
OTHER_TARGETS = ("target", "label", "class")
_MAX_TYPE_LENGTH = 60
_MAX_NAMES = 10
# Manifests, statuses and errors repeat the names of columns.
MAX_NAME_CHARACTERS = 1000
# The types of the columns of each name; an unusable table may have several.
Types = dict[str, list[pa.DataType]]


@dataclass(frozen=True)
class Problems:
    """Values of one column that cannot be read.

    `first_row` is the number of the first of the `n_rows`, which is 0 where they are not known.
    """

    name: str
    reason: str
    n_rows: int = 0
    first_row: int = 0

    def __str__(self) -> str:
        where = f": {self.n_rows}, first in row {self.first_row}" if self.n_rows else ""
        return f"The column {self.name!r} holds {self.reason}{where}."


def target_of(names: Collection[str], asked: str | None) -> str:
    """Return the target's name: the one asked for, else `y`, else the only other usual name.

    Blanks around the name asked for do not matter where the table's name has none.
    """
    if asked is not None:
        known = asked if asked in names or asked.strip() not in names else asked.strip()
        return known or DEFAULT_TARGET
    others = [name for name in OTHER_TARGETS if name in names]
    if DEFAULT_TARGET not in names and len(others) == 1:
        return others[0]
    return DEFAULT_TARGET


def check_fit(
    sample: Sample | Source,
    target: str | None,
    weights: str | None = None,
    time_column: str | None = None,
    group_column: str | None = None,
    *,
    selection: Selection = ALL,
) -> str:
    """Return the name of the target, if nothing in the sample prevents a fit.

    Raises:
        InvalidTable: the sample shows problems; the error lists all of them.
    """
    types = _types(sample.schema)
    target = target_of(types, target)
    untyped = is_untyped(sample)
    problems = [
        *_long_names(types),
        *_duplicates(types),
        *selection.problems(types, target, weights),
        *_feature_problems(sample.schema, types, target, weights, selection),
        *_weights_problems(types, target, weights, untyped=untyped),
        *_order_problems(types, target, "time_column", time_column),
        *_order_problems(types, target, "group_column", group_column),
    ]
    found = feature_fields(sample.schema, target, weights, selection)
    if target in types and not found and not problems:
        problems.append(f"The table has no columns besides the target {target!r}.")
    reject(
        problems,
        "Name the target with target=<column>; correct or leave out the other columns; upload "
        "again.",
    )
    return target


def check_predict(
    sample: Sample | Source, features: Sequence[Feature], keep: Sequence[str] = ()
) -> None:
    """Check that a table has what a model needs; column order and other columns do not matter.

    Raises:
        InvalidTable: columns are missing, or have unusable types or values; the error lists all.
    """
    types = _types(sample.schema)
    names = [*(feature.name for feature in features), *keep]
    used = {name: types.get(name, []) for name in names}
    problems = [*_long_names(types), *_duplicates(used)]
    for feature in features:
        problem = _feature_problem(sample, feature, types.get(feature.name, []))
        if problem:
            problems.append(problem)
    problems += _keep_problems(types, keep)
    reject(
        problems,
        "Send the columns that the model was trained on, with the same names and types.",
    )


def feature_fields(
    schema: pa.Schema, target: str, weights: str | None, selection: Selection
) -> list[pa.Field]:
    """Return the columns to learn from: all but the target, the weights and pandas' index.

    Of these, the selected ones.
    """
    others = _pandas_index(schema) | {target, weights}
    return [
        field
        for field in schema
        if field.name not in others and selection.has(field.name)
    ]


def is_untyped(sample: Sample | Source) -> bool:
    """Return whether text in the file may be of any kind, because its cells have no types."""
    return sample.format.name in ("csv", "excel")


def _feature_problems(
    schema: pa.Schema,
    types: Types,
    target: str,
    weights: str | None,
    selection: Selection,
) -> Iterator[str]:
    if target not in types:
        present = _listed(schema.names)
        yield f"The target column {target!r} is missing; the table has {present}."
    for field in feature_fields(schema, target, weights, selection):
        if columns.kind_of_type(field.type) is None:
            found = _short(field.type)
            yield (
                f"The column {field.name!r} has the type {found}, which no model can use; leave "
                "it out."
            )
    for target_type in types.get(target, []):
        if not labels.can_be_target(target_type):
            found = _short(target_type)
            yield f"The target column {target!r} has the type {found}, which cannot be predicted."


def _weights_problems(
    types: Types, target: str, weights: str | None, *, untyped: bool
) -> Iterator[str]:
    if weights is None:
        return
    if weights not in types:
        yield f"The column {weights!r}, which sample_weight names, is missing."
    elif weights == target:
        yield f"The target {target!r} cannot also be the sample_weight."
    elif not columns.can_be("numeric", types[weights][0], untyped=untyped):
        found = _short(types[weights][0])
        yield f"The column {weights!r} has the type {found}; sample_weight needs numbers."


def _order_problems(
    types: Types, target: str, option: str, name: str | None
) -> Iterator[str]:
    """Yield why a column that an option names cannot order or group rows."""
    if name is None:
        return
    if name == target:
        yield f"The target {target!r} cannot also be the {option}."
    elif name not in types:
        near = difflib.get_close_matches(name, types, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        yield f"The column {name!r}, which {option} names, is missing.{meant}"
    elif columns.kind_of_type(types[name][0]) is None:
        found = _short(types[name][0])
        yield f"The column {name!r} has the type {found}, which no {option} can have."


def _feature_problem(
    sample: Sample | Source, feature: Feature, found: list[pa.DataType]
) -> str | None:
    if not found:
        return (
            f"The column {feature.name!r}, which the model was trained on, is missing."
        )
    if not columns.can_read(feature, found[0], untyped=is_untyped(sample)):
        name = _short(found[0])
        return f"The column {feature.name!r} has the type {name}; the model needs {feature.kind}."
    if len(found) > 1:
        return None
    problem = _problem_in_rows(sample, feature)
    return str(problem) if problem else None


def _problem_in_rows(sample: Sample | Source, feature: Feature) -> Problems | None:
    rows = sample.rows if isinstance(sample, Sample) else None
    # Only these kinds can be read without pandas, which the server does not load.
    if rows is None or feature.kind not in ("numeric", "duration"):
        return None
    column = rows.column(feature.name)
    try:
        columns.read(feature, column, sample.format.decimal or ".")
    except Unreadable as error:
        first_row = int(error.rows[0])
        return Problems(feature.name, error.reason, len(error.rows), first_row)
    return None


def _keep_problems(types: Types, keep: Sequence[str]) -> list[str]:
    missing = [name for name in keep if name not in types]
    problems = [
        f"The column {name!r}, which keep names, is missing." for name in missing
    ]
    for name in keep:
        if name in types and columns.kind_of_type(types[name][0]) is None:
            found = _short(types[name][0])
            problems.append(
                f"The column {name!r} has the type {found}, which keep cannot copy."
            )
    return problems


def _long_names(types: Types) -> list[str]:
    return [
        f"The name of the column {name[:20]!r}... has {len(name):,} characters; the maximum is "
        f"{MAX_NAME_CHARACTERS:,}."
        for name in types
        if len(name) > MAX_NAME_CHARACTERS
    ]


def _duplicates(types: Types) -> list[str]:
    return [
        f"The column {name!r} appears {len(found)} times; names must be unique."
        for name, found in types.items()
        if len(found) > 1
    ]


def _pandas_index(schema: pa.Schema) -> set[str]:
    try:
        index = (schema.pandas_metadata or {}).get("index_columns")
    except (ValueError, AttributeError, RecursionError):
        # The metadata is a note of the writer's, not part of the table.
        return set()
    if not isinstance(index, list):
        return set()
    return {name for name in index if isinstance(name, str)}


def _types(schema: pa.Schema) -> Types:
    types: Types = {}
    for field in schema:
        types.setdefault(field.name, []).append(field.type)
    return types


def _short(found: pa.DataType) -> str:
    name = str(found)
    if len(name) <= _MAX_TYPE_LENGTH:
        return name
    return f"{name[:_MAX_TYPE_LENGTH]}..."


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "no columns"
    shown = ", ".join(repr(name) for name in names[:_MAX_NAMES])
    n_more = len(names) - _MAX_NAMES
    return f"{shown} and {n_more} more" if n_more > 0 else shown
