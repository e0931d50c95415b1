"""Predictions in batches, so that memory does not grow with the rows, and what the rows were
like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from rowcast.errors import InvalidRequest, InvalidTable
from rowcast.learning import prediction_intervals
from rowcast.tables import (
    Feature,
    OnProgress,
    Source,
    checks,
    columns,
    drift,
    ignore_progress,
    target,
)

Output = Literal["labels", "probabilities", "quantiles"]
FileFormat = Literal["parquet", "csv", "jsonl"]
DEFAULT_QUANTILES = (0.05, 0.5, 0.95)

# A batch holds at most so many rows, and so many values of features or classes: 16 MB of float64.
MAX_BATCH_ROWS, MAX_BATCH_CELLS = 65_536, 2_000_000
# The second of January of the year 1, and the thirty-first of December of 9999.
_YEAR_1_S, _YEAR_9999_S = -62_135_510_400, 253_402_214_400
# So many rows of each batch are looked at for drift.
DRIFT_ROWS = 5_000


@dataclass(frozen=True)
class Plan:
    """What to write: `keep` are columns of the table that stand in front of the predictions."""

    output: Output = "labels"
    quantiles: Sequence[float] = DEFAULT_QUANTILES
    keep: Sequence[str] = ()
    format: FileFormat = "parquet"


@dataclass(frozen=True)
class Predictor:
    """A model, and what its manifest says of it.

    `takes_array`: it looks at no names of columns, and is given an array of float64 in place of a
    frame.
    """

    model: Any
    features: Sequence[Feature]
    target: str
    target_type: str
    classes: Sequence[str] | None
    intervals: Mapping[str, Any] | None
    takes_array: bool = False

    def columns(self, plan: Plan, arrays: Mapping[str, Any]) -> list[pa.Array]:
        """Return what is predicted for features (n_rows,) each: arrays (n_rows,), named by
        `names`."""
        frame = (
            np.column_stack(list(arrays.values()))
            if self.takes_array
            else columns.frame_of(dict(arrays))
        )
        if plan.output == "labels":
            return [target.to_arrow(self.model.predict(frame), self.target_type)]
        if plan.output == "quantiles":
            values = np.asarray(self.model.predict(frame), np.float64)
            found = prediction_intervals.quantiles(
                self.intervals or {}, values, plan.quantiles
            )
            return [pa.array(values), *(pa.array(column) for column in found.T)]
        probabilities = self.model.predict_proba(frame)
        chosen = self.model.classes_[probabilities.argmax(axis=1)]
        return [
            target.to_arrow(chosen, self.target_type),
            *(pa.array(column.astype(np.float64)) for column in probabilities.T),
        ]

    def names(self, plan: Plan) -> list[str]:
        """Return the names of the columns that `columns` gives."""
        return [self.target, *extra_names(plan.output, plan.quantiles, self.classes)]

    def types(self, plan: Plan) -> list[pa.DataType]:
        """Return the types of the columns that `columns` gives."""
        return [
            target.arrow_type(self.target_type),
            *[pa.float64()] * (len(self.names(plan)) - 1),
        ]


def extra_names(
    output: str, quantiles: Sequence[float], classes: Sequence[str] | None
) -> list[str]:
    """Return the names of the columns beside the predicted one."""
    if output == "probabilities":
        return [f"probability_{label}" for label in classes or ()]
    return (
        [f"quantile_{level:.15g}" for level in quantiles]
        if output == "quantiles"
        else []
    )


def write(
    path: Path,
    predictor: Predictor,
    source: Source,
    plan: Plan,
    on_progress: OnProgress = ignore_progress,
) -> dict[str, Any]:
    """Predict all rows of a table, one out for each row in, in order, and return what they were
    like.

    `told` is called after each batch, as by `Source.read`.

    Raises:
        InvalidTable: values cannot be read; names every such column, how many, and the first row.
    """
    tally = Tally(predictor.features)
    with _WRITERS[plan.format](path, schema_of(predictor, source, plan)) as put:
        for batch in batches(predictor, source, plan, tally):
            if batch is not None:
                put(batch)
            on_progress(tally.n_rows, source.n_rows, source.n_rows_expected)
    tally.refuse()
    return tally.report()


def batches(
    predictor: Predictor, source: Source, plan: Plan, tally: Tally
) -> Iterator[pa.RecordBatch | None]:
    """Yield the predictions of a table, in order; None in place of a batch once a value could not
    be read.

    Raises:
        InvalidTable: the file is damaged, or what is to be kept cannot be written.
    """
    needed = {feature.name for feature in predictor.features}
    schema = schema_of(predictor, source, plan)
    for batch in source.batches(needed | set(plan.keep), batch_rows(predictor)):
        arrays = tally.read(batch, source.format.decimal or ".")
        if arrays is None:
            yield None
        else:
            kept = [_kept(name, batch.column(name), plan.format) for name in plan.keep]
            yield pa.record_batch(
                [*kept, *predictor.columns(plan, arrays)], schema=schema
            )


def check_givable(manifest: dict[str, Any], wanted: Plan) -> None:
    """Refuse what a model cannot give.

    Raises:
        InvalidRequest: with everything wanted that it cannot.
        KeyError, TypeError: the manifest is damaged.
    """
    if problems := list(_ungivable(manifest, wanted)):
        raise InvalidRequest(" ".join(problems), errors=problems)


def _ungivable(manifest: dict[str, Any], wanted: Plan) -> Iterator[str]:
    is_regression = manifest["task"] == "regression"
    if wanted.output == "probabilities" and is_regression:
        yield (
            "output=probabilities needs classes, and the model is a regression; use labels "
            "or quantiles."
        )
    if wanted.output == "quantiles" and not is_regression:
        yield (
            "output=quantiles needs a quantity, and the model is a classification; use "
            "probabilities."
        )
    if wanted.output == "quantiles" and is_regression and not manifest["intervals"]:
        yield (
            "output=quantiles needs a model that was validated; fit it with another "
            "validation than none."
        )
    if len(set(wanted.keep)) < len(wanted.keep) or len(set(wanted.quantiles)) < len(
        wanted.quantiles
    ):
        yield "keep and quantiles must not name anything twice."
    written = extra_names(wanted.output, wanted.quantiles, manifest["classes"])
    if manifest["target"] in written:
        yield (
            f"output={wanted.output} makes a column {manifest['target']!r}, which is the "
            "target's name."
        )
    written.append(manifest["target"])
    for name in wanted.keep:
        if name in written:
            yield f"keep names {name!r}, which is a column of the predictions."


def batch_rows(predictor: Predictor) -> int:
    """Return how many rows to predict at once, so that neither features nor probabilities grow
    large."""
    width = max(len(predictor.features), len(predictor.classes or ()), 1)
    return max(1, min(MAX_BATCH_ROWS, MAX_BATCH_CELLS // width))


def schema_of(predictor: Predictor, source: Source, plan: Plan) -> pa.Schema:
    """Return the names and types of what is predicted for a table, with the kept columns in
    front."""
    kept = [
        (name, _kept_type(source.schema.field(name).type, plan.format))
        for name in plan.keep
    ]
    return pa.schema(
        [*kept, *zip(predictor.names(plan), predictor.types(plan), strict=True)]
    )


def _kept_type(found: pa.DataType, file_format: FileFormat) -> pa.DataType:
    # Text has no durations: they are seconds there, as models read them.
    return pa.float64() if pt.is_duration(found) and file_format != "parquet" else found


def _kept(name: str, column: pa.Array, file_format: FileFormat) -> pa.Array:
    """Return a column to copy into a result, as the format holds it.

    Raises:
        InvalidTable: text has no word for its times.
    """
    if pt.is_dictionary(column.type) and column.dictionary.null_count:
        # Parquet takes no missing value among the categories.
        column = columns.decoded(column).dictionary_encode().cast(column.type)
    if file_format == "parquet":
        return column
    if not _can_be_written(column):
        raise InvalidTable(
            f"The column {name!r}, which keep names, holds times that cannot be written as "
            f"{file_format}: "
            "beyond the years 1 to 9999, or of a zone that is not known.",
            hint="Use format=parquet, or leave the column out of keep.",
        )
    return columns.seconds(column) if pt.is_duration(column.type) else column


def _can_be_written(column: pa.Array) -> bool:
    """Tell whether times are in the years that text and Python have, and their zone is known."""
    import pyarrow.compute as pc

    if not (pt.is_timestamp(column.type) or pt.is_date(column.type)):
        return True
    try:
        pa.lib.string_to_tzinfo(getattr(column.type, "tz", None) or "UTC")
        column = (
            column.cast(pa.timestamp("s"), safe=False)
            if pt.is_date(column.type)
            else column
        )
        found = pc.min_max(column.cast(pa.int64()))
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
    except pa.ArrowException:
        return False
    least, most = found["min"].as_py(), found["max"].as_py()
    return least is None or (
        least >= _YEAR_1_S * per_second and most < _YEAR_9999_S * per_second
    )


class Tally:
    """Reads batches, and counts what was missing, never seen, unreadable, and how the values
    spread."""

    def __init__(self, features: Sequence[Feature]) -> None:
        """Count for these features."""
        self._features = features
        self.n_rows = 0
        self._missing = dict.fromkeys((feature.name for feature in features), 0)
        self._unseen = dict(self._missing)
        self._counts: dict[str, Any] = {}
        self._problems: dict[str, checks.Problems] = {}

    def read(self, batch: pa.RecordBatch, decimal: str) -> dict[str, Any] | None:
        """Return the batch's features (n_rows,) by name; None once a value could not be read."""
        arrays = {}
        for feature in self._features:
            try:
                values = columns.read(feature, batch.column(feature.name), decimal)
            except columns.Unreadable as error:
                self._note(feature.name, error.reason, error.rows)
            except (pa.ArrowException, ValueError, OverflowError):
                # Arrow's messages quote values, which neither logs nor records may hold.
                self._note(
                    feature.name, "values that cannot be converted", np.arange(0)
                )
            else:
                arrays[feature.name] = values.array
                self._count(feature, values)
        self.n_rows += batch.num_rows
        return None if self._problems else arrays

    def _note(self, name: str, reason: str, rows: np.ndarray) -> None:
        first = self._problems.get(name)
        n_rows = (first.n_rows if first else 0) + len(rows)
        first_row = (
            first.first_row
            if first
            else self.n_rows + (int(rows[0]) if len(rows) else 0)
        )
        self._problems[name] = checks.Problems(name, reason, n_rows, first_row)

    def _count(self, feature: Feature, values: columns.Values) -> None:
        self._missing[feature.name] += values.n_missing
        self._unseen[feature.name] += values.n_unseen
        if feature.profile is not None and len(values.array):
            found = drift.count(feature.profile, values.for_bins(DRIFT_ROWS))
            self._counts[feature.name] = self._counts.get(feature.name, 0) + found

    def refuse(self) -> None:
        """Raise InvalidTable if values could not be read."""
        if self._problems:
            found = [str(problem) for problem in self._problems.values()]
            count = f" ({len(found)} problems)" if len(found) > 1 else ""
            raise InvalidTable(
                found[0] + count,
                hint="Correct these values, upload the table again and submit the new id.",
                errors=found[:100],
            )

    def report(self) -> dict[str, Any]:
        """Return rows, missing and unseen values per column, and each feature's drift."""
        return {
            "n_rows": self.n_rows,
            "columns": [self._of(feature) for feature in self._features],
        }

    def _of(self, feature: Feature) -> dict[str, Any]:
        counts = self._counts.get(feature.name)
        index = (
            None
            if counts is None
            else drift.stability_index(feature.profile or {}, counts)
        )
        return {
            "name": feature.name,
            "n_missing": self._missing[feature.name],
            "n_unseen": self._unseen[feature.name],
            "stability_index": index,
            "drift": drift.verdict(index),
        }


Put = Callable[[pa.RecordBatch], None]


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[Put]:
    with pq.ParquetWriter(path, schema) as writer:
        yield writer.write_batch


@contextmanager
def _csv(path: Path, schema: pa.Schema) -> Iterator[Put]:
    import pyarrow.csv

    with pyarrow.csv.CSVWriter(path, schema) as writer:
        yield writer.write_batch


@contextmanager
def _jsonl(path: Path, schema: pa.Schema) -> Iterator[Put]:  # noqa: ARG001 - the writers' signature
    with path.open("wb") as file:
        yield lambda batch: _write_lines(file, batch)


def _write_lines(file: BinaryIO, batch: pa.RecordBatch) -> None:
    lines = (orjson.dumps(row, default=str) for row in batch.to_pylist())
    file.write(b"".join(line + b"\n" for line in lines))


_WRITERS: dict[FileFormat, Any] = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}
