"""A table that a model can be fitted on: the rows with a target, and the columns to learn from.

Importing this module loads pyarrow, and neither pandas nor scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from rowcast.tables import columns, drift, inference
from rowcast.tables import target as labels
from rowcast.tables.checks import (
    Problems,
    check_fit,
    feature_fields,
    is_untyped,
    refuse,
)
from rowcast.tables.columns import Feature, Unreadable, Values
from rowcast.tables.formats import OnProgress, Source, ignore_progress

# So many rows are looked at to tell how a feature's values spread.
_PROFILED_ROWS = 20_000
_AGAIN = "Correct these values, upload the table again and submit the new id."


@dataclass
class TrainingTable:
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


def read(
    source: Source,
    target: str,
    weights: str | None = None,
    *,
    use_identifiers: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> TrainingTable:
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
    refuse([str(problem) for problem in reader.problems], _AGAIN)
    used, report, notes = _usable(
        [one for one in found if one], use_identifiers=use_identifiers
    )
    return TrainingTable(
        features=[
            replace(feature, profile=_profile(feature, read)) for feature, read in used
        ],
        frame=columns.frame_of({feature.name: read.array for feature, read in used}),
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
        refuse(
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
