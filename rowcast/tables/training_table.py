"""A table that a model can be fitted on: the rows with a target and the columns to learn from.

Importing this module loads pyarrow, but not pandas or scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa

from rowcast.tables import (
    asked_kinds,
    columns,
    drift,
    inference,
    row_order,
    spellings,
)
from rowcast.tables import target as labels
from rowcast.tables.checks import Problems, check_fit, feature_fields, is_untyped
from rowcast.tables.columns import Feature, Kind, Unreadable, Values
from rowcast.tables.files import OnProgress, Source, ignore_progress
from rowcast.tables.inference import LeftOut
from rowcast.tables.rejections import reject
from rowcast.tables.row_order import Suspect
from rowcast.tables.selection import ALL, Selection

# The rows of a profile: how a feature's values spread.
_PROFILED_ROWS = 20_000
_Read = TypeVar("_Read")
_AGAIN = "Correct these values, upload the table again and submit the new id."


@dataclass
class TrainingTable:
    """The rows of a table whose target is known, and what was found in them.

    `frame` (n_rows, n_features) has the features in their order; `target`, `weights`, `times` and
    `groups` (n_rows,) belong to its rows. `report` has what is known of each column and whether it
    is used, and `notes` what may surprise the table's owner. `suspects` are columns that look like
    times or groups, unless one was named.
    """

    features: list[Feature]
    frame: Any
    target: np.ndarray
    target_type: str
    weights: np.ndarray | None
    report: list[dict[str, Any]]
    notes: list[str]
    n_rows_left_out: int
    times: np.ndarray | None = None
    groups: np.ndarray | None = None
    suspects: Sequence[Suspect] = ()


def read(
    source: Source,
    target: str,
    weights: str | None = None,
    *,
    time_column: str | None = None,
    group_column: str | None = None,
    use_identifiers: bool = False,
    infinite: Literal["refuse", "missing"] = "refuse",
    task: str = "auto",
    selection: Selection = ALL,
    on_progress: OnProgress = ignore_progress,
) -> TrainingTable:
    """Read all rows and return what a model can be fitted on.

    Identifiers, and the column of groups, are left out unless asked for. `infinite` says what
    infinite numbers are, `task` is the one asked for, and `selection` which columns are learned
    from. `on_progress` is called as by `Source.read`.

    Raises:
        InvalidTable: as `check_fit`; values cannot be read; no column is left to learn from.
    """
    check_fit(source, target, weights, time_column, group_column, selection=selection)
    fields = feature_fields(source.schema, target, weights, selection)
    names = [field.name for field in fields]
    needed = {target, weights, time_column, group_column, *names} - {None}
    table = source.read(needed, on_progress)
    decimal = source.format.decimal or "."
    untyped = is_untyped(source)
    labelled = labels.read(
        target,
        table.column(target),
        untyped=untyped,
        decimal=decimal,
        as_classes=task == "classification",
    )
    is_known = labelled.is_known

    reader = _Reader(
        table,
        is_known,
        decimal,
        untyped=untyped,
        skips_infinite=infinite == "missing",
        kinds=selection.kinds,
    )
    weight_values = reader.weights(weights) if weights else None
    times = reader.times(time_column) if time_column else None
    groups = reader.groups(group_column) if group_column else None
    found = reader.columns(names)
    if not use_identifiers:
        found = _without_groups(found, group_column)
    found = _with_identifiers(found, selection, use_identifiers=use_identifiers)
    used = _used(found)
    arrays = {column.feature.name: column.values.array for column in used}
    return TrainingTable(
        features=[column.profiled() for column in used],
        frame=columns.frame_of(arrays),
        target=labelled.values,
        target_type=labelled.type_name,
        weights=weight_values,
        report=[column.report() for column in found],
        notes=[
            *_notes_on_file(source),
            *_note_on_missing(target, is_known),
            *_notes(found, target, labelled.note),
            *reader.notes,
        ],
        n_rows_left_out=int(len(is_known) - is_known.sum()),
        times=times,
        groups=groups,
        suspects=[] if time_column or group_column else _suspects(found),
    )


@dataclass(frozen=True)
class _Column:
    """A column that was read; `note` is what may surprise its owner."""

    feature: Feature
    values: Values
    description: dict[str, Any]
    note: str
    left_out: LeftOut | None

    def report(self) -> dict[str, Any]:
        """Return the description, and why the column is left out."""
        reason = self.left_out.value if self.left_out else ""
        return {**self.description, "left_out": reason}

    def profiled(self) -> Feature:
        """Return the feature with its profile."""
        spread = self.values.for_bins(_PROFILED_ROWS)
        categories = self.feature.categories
        if categories is None:
            profile = drift.profile_numbers(spread)
        else:
            profile = drift.profile_categories(spread, categories)
        return replace(self.feature, profile=profile)


class _Reader:
    """Reads the columns of a table, and collects what cannot be read.

    It leaves out the rows whose target is not known (`is_known`), but reports problems by the
    numbers of rows in the user's table.
    """

    def __init__(
        self,
        table: pa.Table,
        is_known: np.ndarray,
        decimal: str,
        *,
        untyped: bool,
        skips_infinite: bool,
        kinds: Mapping[str, Kind],
    ) -> None:
        self._whole = None if is_known.all() else table
        self._table = table if is_known.all() else table.filter(is_known)
        self._rows = np.flatnonzero(is_known)
        self._decimal = decimal
        self._untyped = untyped
        self._skips_infinite = skips_infinite
        self._kinds = kinds
        self._problems: list[Problems] = []
        self.notes: list[str] = []

    def columns(self, names: Sequence[str]) -> list[_Column]:
        """Return these columns.

        Raises:
            InvalidTable: some of them, or the weights that were read before, cannot be read.
        """
        found = [column for name in names if (column := self._column(name))]
        # A column of times may be a feature as well.
        reject(list(dict.fromkeys(map(str, self._problems))), _AGAIN)
        return found

    def weights(self, name: str) -> np.ndarray | None:
        """Return the sample weights (n_rows,): none missing or negative, at least one over 0."""
        column = self._table.column(name)
        try:
            found = columns.read(Feature(name, "numeric"), column, self._decimal)
        except Unreadable as error:
            self._add(name, error.reason, error.rows)
            return None
        values: np.ndarray = found.array
        bad = np.flatnonzero(~(values >= 0))
        if len(bad):
            self._add(name, "weights that are missing or below 0", bad)
        elif not values.any():
            self._add(name, "no weight over 0", np.arange(len(values)))
        return values

    def times(self, name: str) -> np.ndarray | None:
        """Return the times (n_rows,) of a column, NaN where there is none."""
        column = self._table.column(name)

        def read(column: Any) -> row_order.Order:
            feature, values, _ = self._inferred(name, column)
            return row_order.times(feature.kind, values)

        return self._order(name, column, read, "time", "they count as the earliest")

    def groups(self, name: str) -> np.ndarray | None:
        """Return the codes (n_rows,) of a column's groups."""
        column = self._table.column(name)
        return self._order(
            name, column, row_order.groups, "group", "they form one group"
        )

    def _order(
        self,
        name: str,
        column: Any,
        read: Callable[[Any], row_order.Order],
        what: str,
        outcome: str,
    ) -> np.ndarray | None:
        found = self._tried(name, partial(read, column))
        if found is None:
            return None
        if found.n_missing:
            self.notes.append(
                f"{found.n_missing} of {len(column)} rows have no {what} in {name!r}; {outcome}."
            )
        return found.values

    def _column(self, name: str) -> _Column | None:
        column = self._table.column(name)
        found = self._tried(name, partial(self._inferred, name, column))
        if found is None:
            return None
        feature, values, note = found
        description = inference.describe(feature, column, values)
        whole = self._read_whole(feature)
        left_out = inference.reason_to_leave_out(feature, column, values, whole)
        return _Column(feature, values, description, note, left_out)

    def _feature(self, name: str, column: Any) -> tuple[Feature, str]:
        """Return how to read a column, and a note: as the kind that is asked for, if any."""
        feature, note = inference.infer(
            name, column, untyped=self._untyped, decimal=self._decimal
        )
        kind = self._kinds.get(name, feature.kind)
        if kind == feature.kind:
            return feature, note
        asked = asked_kinds.feature_of(
            name, column, kind, untyped=self._untyped, decimal=self._decimal
        )
        return asked, f"it is read as {kind}, as asked for, not as {feature.kind}."

    def _inferred(self, name: str, column: Any) -> tuple[Feature, Values, str]:
        """Return how a column is read, its values, and a note."""
        feature, note = self._feature(name, column)
        n_infinite = self._n_infinite(feature, column)
        if self._skips_infinite and feature.kind == "numeric":
            feature = replace(feature, infinite="missing")
        values = columns.read(feature, column, self._decimal)
        if name in self._kinds and feature.kind == "boolean" and values.n_unseen:
            raise asked_kinds.NotOfKind("values that are neither true nor false")
        if n_infinite:
            found = spellings.counted(n_infinite)
            note = f"{note} its infinite numbers are missing ({found}).".strip()
        return feature, values, note

    def _tried(self, name: str, read: Callable[[], _Read]) -> _Read | None:
        """Return what is read of a column; None, and a problem, if that cannot be."""
        try:
            return read()
        except (row_order.NotUsable, asked_kinds.NotOfKind) as error:
            self._problems.append(Problems(name, str(error)))
        except Unreadable as error:
            self._add(name, error.reason, error.rows)
        except (pa.ArrowException, ValueError, OverflowError):
            # Arrow's messages quote values, which must not be in logs or records.
            self._problems.append(Problems(name, "values that cannot be converted"))
        return None

    def _n_infinite(self, feature: Feature, column: Any) -> int:
        """Return how many numbers are infinite, if these are to be missing."""
        if not self._skips_infinite or feature.kind != "numeric":
            return 0
        try:
            columns.read(feature, column, self._decimal)
        except Unreadable as error:
            return len(error.rows) if error.reason == columns.INFINITE else 0
        return 0

    def _read_whole(self, feature: Feature) -> tuple[Any, Values] | None:
        """Return a column with the rows that have no target, if there are any.

        What cannot be read in these rows does not matter.
        """
        if self._whole is None:
            return None
        column = self._whole.column(feature.name)
        try:
            return column, columns.read(feature, column, self._decimal)
        except (Unreadable, pa.ArrowException, ValueError, OverflowError):
            return None

    def _add(self, name: str, reason: str, rows: np.ndarray) -> None:
        first_row = int(self._rows[rows[0]])
        self._problems.append(Problems(name, reason, len(rows), first_row))


def _suspects(found: Sequence[_Column]) -> list[Suspect]:
    return row_order.suspects(
        [
            (column.feature, column.values)
            for column in found
            if column.left_out in (None, LeftOut.IDENTIFIER)
        ]
    )


def _without_groups(
    found: Sequence[_Column], group_column: str | None
) -> list[_Column]:
    """Return the columns, with that of the groups left out: new rows are of other groups."""
    return [
        replace(column, left_out=LeftOut.GROUP)
        if column.feature.name == group_column
        else column
        for column in found
    ]


def _with_identifiers(
    found: Sequence[_Column], selection: Selection, *, use_identifiers: bool
) -> list[_Column]:
    """Return the columns, with the identifiers used if asked for or if there is nothing else.

    A single telling column may look like an identifier.
    """
    use_all = use_identifiers or all(column.left_out for column in found)
    return [
        replace(column, left_out=None)
        if column.left_out is LeftOut.IDENTIFIER
        and (use_all or selection.asks_for(column.feature.name))
        else column
        for column in found
    ]


def _used(found: Sequence[_Column]) -> list[_Column]:
    """Return the columns that are learned from. Raises InvalidTable: there are none."""
    used = [column for column in found if not column.left_out]
    if used:
        return used
    problems = ["No column besides the target can be learned from."]
    for column in found:
        reason = column.left_out.value if column.left_out else ""
        problems.append(f"The column {column.feature.name!r} holds {reason}.")
    reject(
        problems,
        "Add columns whose values differ, upload the table again and submit the new id.",
    )
    return used


def _note_on_missing(target: str, is_known: np.ndarray) -> list[str]:
    n_rows, n_known = len(is_known), int(is_known.sum())
    if n_known * 2 >= n_rows:
        return []
    return [
        f"The target {target!r} is missing in most rows: {n_rows - n_known:,} of {n_rows:,} were "
        "left out."
    ]


def _notes_on_file(source: Source) -> list[str]:
    notes = []
    encoding, n_lines = source.format.encoding, source.format.n_lines_skipped
    if encoding not in (None, "utf-8", "utf-16-le", "utf-16-be", "cp1252"):
        notes.append(f"The text of the file is read as {encoding}.")
    if n_lines:
        notes.append(f"Lines above the header of the file were skipped: {n_lines}.")
    return notes


def _notes(found: Sequence[_Column], target: str, on_target: str) -> list[str]:
    notes = [f"The target {target!r}: {on_target}"] if on_target else []
    notes += [
        f"The column {column.feature.name!r}: {column.note}"
        for column in found
        if column.note
    ]
    for column in found:
        if column.left_out:
            name, reason = column.feature.name, column.left_out.value
            notes.append(f"The column {name!r} was left out: {reason}.")
    return notes
