"""What a table must hold for a fit or a prediction, checked with every problem listed.

`check_fit` and `check_predict` serve the server, which has only what the footer or the first
megabyte shows, and the job, which then reads all rows. Importing this module loads pyarrow, and
neither pandas nor scikit-learn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from rowcast.errors import InvalidTable
from rowcast.tables import columns, drift, inference
from rowcast.tables import target as labels
from rowcast.tables.columns import Feature, Unreadable, Values
from rowcast.tables.formats import OnProgress, Sample, Source, ignore_progress

DEFAULT_TARGET = "y"
OTHER_TARGETS = ("target", "label", "class")
# So many rows are looked at to tell how a feature's values spread.
_PROFILED_ROWS = 20_000
_AGAIN = "Correct these values, upload the table again and submit the new id."


@dataclass
class Training:
    """A table that a model can be fitted on: the rows whose target is known, and what was found in
    them.

    `frame` (n_rows, n_features) holds the features in their order, `target` and `weights` (n_rows,)
    belong to its rows. `report` says of each column what it is and whether it is used, `notes` what
    may surprise.
    """

    features: list[Feature]
    frame: Any
    target: np.ndarray
    target_type: str
    weights: np.ndarray | None
    report: list[dict[str, Any]]
    notes: list[str]
    n_rows_left_out: int


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
    _refuse(
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
    _refuse(
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


def training(
    source: Source,
    target: str,
    weights: str | None = None,
    *,
    use_identifiers: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Training:
    """Read all rows and return what a model can be fitted on; identifiers are left out unless asked
    for.

    `told` is called as by `Source.read`.

    Raises:
        InvalidTable: as `check_fit`; values cannot be read; no column is left to learn from.
    """
    check_fit(source, target, weights)
    table, decimal, untyped = (
        source.read(on_progress=on_progress),
        source.format.decimal or ".",
        is_untyped(source),
    )
    values, is_known, target_type = labels.read(
        target, table.column(target), untyped=untyped, decimal=decimal
    )
    known = table if is_known.all() else table.filter(is_known)
    reader = _Reader(np.flatnonzero(is_known), decimal)
    weight_values = reader.weights(known, weights) if weights else None
    fields = feature_fields(table.schema, target, weights)
    found = [reader.column(field.name, known, untyped=untyped) for field in fields]
    _refuse([str(problem) for problem in reader.problems], _AGAIN)
    used, report, notes = _usable(
        [one for one in found if one], use_identifiers=use_identifiers
    )
    return Training(
        features=[
            replace(feature, profile=_profile(feature, read)) for feature, read in used
        ],
        frame=frame_of({feature.name: read.array for feature, read in used}),
        target=values,
        target_type=target_type,
        weights=weight_values,
        report=report,
        notes=notes,
        n_rows_left_out=int(len(is_known) - is_known.sum()),
    )


Found = tuple[Feature, Values, dict[str, Any], str]


class _Reader:
    """Reads columns and collects what cannot be read; `rows` are the rows' numbers in the user's
    table."""

    def __init__(self, rows: np.ndarray, decimal: str) -> None:
        self.problems: list[Problems] = []
        self._rows = rows
        self._decimal = decimal

    def column(self, name: str, table: pa.Table, *, untyped: bool) -> Found | None:
        """Return a feature, its values, its report and a note; None where it cannot be read."""
        column = table.column(name)
        try:
            feature, note = inference.infer(
                name, column, untyped=untyped, decimal=self._decimal
            )
            values = columns.read(feature, column, self._decimal)
        except Unreadable as error:
            self._add(name, error.reason, error.rows)
            return None
        except (pa.ArrowException, ValueError, OverflowError):
            # Arrow's messages quote values, which neither logs nor records may hold.
            self.problems.append(Problems(name, "values that cannot be converted"))
            return None
        report = inference.describe(feature, column, values)
        report["left_out"] = inference.reason_to_leave_out(feature, column, values)
        return feature, values, report, note

    def weights(self, table: pa.Table, name: str) -> np.ndarray | None:
        """Return the sample weights (n_rows,), none of them missing or negative, at least one over
        0."""
        try:
            values: np.ndarray = columns.read(
                Feature(name, "numeric"), table.column(name), self._decimal
            ).array
        except Unreadable as error:
            self._add(name, error.reason, error.rows)
            return None
        bad = np.flatnonzero(~(values >= 0))
        if len(bad):
            self._add(name, "weights that are missing or below 0", bad)
        elif not values.any():
            self._add(name, "no weight over 0", np.arange(len(values)))
        return values

    def _add(self, name: str, reason: str, rows: np.ndarray) -> None:
        self.problems.append(
            Problems(name, reason, len(rows), int(self._rows[rows[0]]))
        )


def _usable(
    found: list[Found], *, use_identifiers: bool
) -> tuple[list[tuple[Feature, Values]], list[dict[str, Any]], list[str]]:
    """Return the columns to learn from, the report of all, and the notes.

    Raises:
        InvalidTable: there are none; says why each was left out.
    """
    identifiers = [
        report
        for *_, report, _ in found
        if report["left_out"].startswith("an identifier")
    ]
    if use_identifiers or len(identifiers) == sum(
        1 for *_, report, _ in found if not _is_empty(report)
    ):
        # A single telling column may look like an identifier; without it there would be nothing to
        # learn.
        for report in identifiers:
            report["left_out"] = ""
    used = [
        (feature, values)
        for feature, values, report, _ in found
        if not report["left_out"]
    ]
    notes = [
        f"The column {feature.name!r}: {note}" for feature, _, _, note in found if note
    ]
    notes += [
        f"The column {report['name']!r} was left out: {report['left_out']}."
        for *_, report, _ in found
        if report["left_out"]
    ]
    if not used:
        _refuse(
            [
                "No column besides the target can be learned from.",
                *(
                    f"The column {r['name']!r} holds {r['left_out']}."
                    for *_, r, _ in found
                ),
            ],
            "Add columns whose values differ, upload the table again and submit the new id.",
        )
    return used, [report for *_, report, _ in found], notes


def _is_empty(report: dict[str, Any]) -> bool:
    return bool(report["left_out"]) and not report["left_out"].startswith(
        "an identifier"
    )


def _profile(feature: Feature, values: Values) -> dict[str, Any]:
    spread = values.for_bins(_PROFILED_ROWS)
    if feature.categories is not None:
        return drift.profile_categories(spread, feature.categories)
    return drift.profile_numbers(spread)


def frame_of(arrays: dict[str, Any]) -> Any:
    """Return a pandas DataFrame of shape (n_rows, n_features), without copying where that is
    possible."""
    import pandas as pd

    return pd.DataFrame(arrays, copy=False)


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


def _refuse(problems: list[str], hint: str) -> None:
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
