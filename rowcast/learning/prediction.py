"""Predict a table in batches, so that memory does not grow with its rows; report its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from rowcast.errors import InvalidRequest, InvalidTable, TooManyRows
from rowcast.learning import prediction_intervals, prediction_sets, thresholds
from rowcast.learning.explanations import contributions
from rowcast.learning.result_formats import RESULT_FORMATS
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

Output = Literal["labels", "probabilities", "quantiles", "sets", "contributions"]
DEFAULT_QUANTILES, DEFAULT_LEVELS = (0.05, 0.5, 0.95), (0.9,)

# The most rows of a batch, and the most values of features or classes: 16 MB of float64.
MAX_BATCH_ROWS, MAX_BATCH_CELLS = 65_536, 2_000_000
# The rows of each batch that count for drift.
DRIFT_ROWS = 5_000
# The features whose shares of bins are reported; each has at most 23 bins.
_MAX_BINNED = 50
_MAX_PROBLEMS = 100
# Nominal seconds of a job that explains its predictions: far below the default time of a job,
# because a busy machine or many small trees take several times as long.
MAX_EXPLAINING_S = 300.0


@dataclass(frozen=True)
class Plan:
    """What to write; the columns in `keep` are copied from the table, before the predictions.

    `format` is a name in RESULT_FORMATS. At most one of `thresholds.RULES` is given; `check_plan`
    returns the `cut` that follows from it.
    """

    output: Output = "labels"
    quantiles: Sequence[float] = DEFAULT_QUANTILES
    keep: Sequence[str] = ()
    format: str = "parquet"
    levels: Sequence[float] = DEFAULT_LEVELS
    threshold: float | None = None
    min_recall: float | None = None
    min_precision: float | None = None
    cost_ratio: float | None = None
    positive_class: str | None = None
    cut: thresholds.Cut | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Plan:
        """Return what the options of /predict ask for; those of earlier versions are fewer."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: options[name] for name in names & options.keys()})

    @property
    def rule(self) -> thresholds.Rule | None:
        """The rule of a threshold, with its number."""
        rules = ((name, getattr(self, name)) for name in thresholds.RULES)
        return next((rule for rule in rules if rule[1] is not None), None)


@dataclass(frozen=True)
class Predictor:
    """A model, and what its manifest says of it.

    `takes_array`: the model ignores names of columns, and gets an array of float64 instead of a
    frame.
    """

    model: Any
    features: Sequence[Feature]
    target: str
    target_type: str
    classes: Sequence[str] | None
    intervals: Mapping[str, Any] | None
    takes_array: bool = False
    sets: Mapping[str, Any] | None = None

    def predict(self, plan: Plan, arrays: Mapping[str, Any]) -> list[pa.Array]:
        """Predict from features (n_rows,); return arrays (n_rows,) in the order of `names`."""
        frame = self._frame(arrays)
        if plan.output == "quantiles":
            return self._quantiles(frame, plan.quantiles)
        if plan.output in ("probabilities", "sets") or plan.cut:
            return self._classes(frame, plan)
        if plan.output == "contributions":
            return self._contributions(frame)
        labels = self.model.predict(frame)
        return [target.to_arrow(labels, self.target_type)]

    def _quantiles(self, frame: Any, levels: Sequence[float]) -> list[pa.Array]:
        values = self.model.predict(frame)
        values = np.asarray(values, np.float64)
        intervals = self.intervals or {}
        quantiles = prediction_intervals.quantiles(intervals, values, levels)
        return [pa.array(column) for column in (values, *quantiles.T)]

    def _classes(self, frame: Any, plan: Plan) -> list[pa.Array]:
        probabilities = np.asarray(self.model.predict_proba(frame), np.float64)
        labels = self.model.classes_[self._places(probabilities, plan.cut)]
        extra = []
        if plan.output == "probabilities":
            extra = [probabilities]
        if plan.output == "sets":
            learned = self.sets or {}
            extra = [
                prediction_sets.sets(learned, probabilities, level)
                for level in plan.levels
            ]
        columns = [pa.array(column) for part in extra for column in part.T]
        return [target.to_arrow(labels, self.target_type), *columns]

    def _contributions(self, frame: Any) -> list[pa.Array]:
        codes, columns_before = self._explained(frame)
        found = contributions.explain(self.model, frame, codes)
        explained = [found.base, *found.contributions.T]
        return [*columns_before, *[pa.array(column) for column in explained]]

    def _explained(self, frame: Any) -> tuple[np.ndarray | None, list[pa.Array]]:
        """Return the positions of the predicted classes, and the columns of what is explained."""
        if self.classes is None:
            values = np.asarray(self.model.predict(frame), np.float64)
            return None, [pa.array(values)]
        probabilities = self.model.predict_proba(frame)
        codes = probabilities.argmax(axis=1)
        labels = target.to_arrow(self.model.classes_[codes], self.target_type)
        return codes, [labels, pa.array(probabilities.max(axis=1).astype(np.float64))]

    def account_of_contributions(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return how contributions to the predictions for these features are computed."""
        frame = self._frame(arrays)
        codes, _ = self._explained(frame)
        return contributions.account(self.model, frame, codes)

    def _frame(self, arrays: Mapping[str, Any]) -> Any:
        if self.takes_array:
            return np.column_stack(list(arrays.values()))
        return columns.frame_of(dict(arrays))

    def _places(self, probabilities: np.ndarray, cut: thresholds.Cut | None) -> Any:
        """Return the places (n_rows,) of the predicted classes."""
        if cut is None or self.classes is None:
            return probabilities.argmax(axis=1)
        positive = list(self.classes).index(cut.positive_class)
        is_positive = probabilities[:, positive] >= cut.threshold
        return np.where(is_positive, positive, 1 - positive)

    def names(self, plan: Plan) -> list[str]:
        """Return the names of the predicted columns."""
        return [self.target, *self._extra_names(plan)]

    def _extra_names(self, plan: Plan) -> list[str]:
        names = [feature.name for feature in self.features]
        return extra_names(plan, self.classes, names)

    def types(self, plan: Plan) -> list[pa.DataType]:
        """Return the types of the predicted columns."""
        predicted = target.arrow_type(self.target_type)
        extra = pa.bool_() if plan.output == "sets" else pa.float64()
        return [predicted, *[extra for _ in self._extra_names(plan)]]


def extra_names(
    plan: Plan, classes: Sequence[str] | None, features: Sequence[str]
) -> list[str]:
    """Return the names of the columns beside the prediction itself."""
    if plan.output == "probabilities":
        return [f"probability_{label}" for label in classes or ()]
    if plan.output == "quantiles":
        return [f"quantile_{level:.15g}" for level in plan.quantiles]
    if plan.output == "sets":
        return prediction_sets.names(plan.levels, classes or ())
    if plan.output == "contributions":
        explained = [] if classes is None else ["probability"]
        by_column = [f"contribution_{name}" for name in features]
        return [*explained, "base_value", *by_column]
    return []


def write(
    path: Path,
    predictor: Predictor,
    source: Source,
    plan: Plan,
    on_progress: OnProgress = ignore_progress,
) -> dict[str, Any]:
    """Predict all rows of a table into a file, one row out for each row in, in order.

    Returns what the rows were like, as `Tally.report`. `on_progress` is called after each batch,
    as by `Source.read`.

    Raises:
        InvalidTable: values cannot be read; names every such column, how many, and the first row.
        TooManyRows: there are more predictions than can be explained.
    """
    tally = Tally(predictor.features, explains=plan.output == "contributions")
    most_rows = rows_allowed_if_exceeded(predictor, source, plan, MAX_EXPLAINING_S)
    if most_rows is not None:
        raise TooManyRows(
            f"output=contributions of this model can explain {most_rows:,} rows in one job, and "
            "the table has more."
        )
    writer = RESULT_FORMATS[plan.format].writer
    schema = schema_of(predictor, source, plan)
    with pa.OSFile(str(path), "wb") as file, writer(file, schema) as write_batch:
        for batch in batches(predictor, source, plan, tally):
            if batch is not None:
                write_batch(batch)
            on_progress(tally.n_rows, source.n_rows, source.n_rows_expected)
    tally.refuse()
    return tally.report()


def rows_allowed_if_exceeded(
    predictor: Predictor, source: Source, plan: Plan, seconds: float
) -> int | None:
    """Return how many rows can be explained within nominal seconds, if a table has more.

    None for a table that has not, and for any that is not to be explained.

    Raises:
        InvalidTable: the file is damaged or over a limit.
    """
    if plan.output != "contributions":
        return None
    names = [feature.name for feature in predictor.features]
    most_rows = contributions.max_rows(predictor.model, len(names), seconds)
    has_more = _has_more_rows(source, names[0], most_rows)
    return most_rows if has_more else None


def _has_more_rows(source: Source, column: str, n_rows: int) -> bool:
    if source.n_rows is not None:
        return source.n_rows > n_rows
    n_found = 0
    for batch in source.batches({column}):
        n_found += batch.num_rows
        if n_found > n_rows:
            return True
    return False


def batches(
    predictor: Predictor, source: Source, plan: Plan, tally: Tally
) -> Iterator[pa.RecordBatch | None]:
    """Yield the predictions of a table, in order; only None once a value could not be read.

    Raises:
        InvalidTable: the file is damaged, or a kept column cannot be written.
    """
    needed = set(plan.keep)
    needed.update(feature.name for feature in predictor.features)
    schema = schema_of(predictor, source, plan)
    result_format = RESULT_FORMATS[plan.format]
    for batch in source.batches(needed, batch_rows(predictor, plan)):
        arrays = tally.read(batch, source.format.decimal or ".")
        if arrays is None:
            yield None
            continue
        if tally.explains and batch.num_rows and not tally.contributions:
            tally.contributions = predictor.account_of_contributions(arrays)
        written = [result_format.column(name, batch.column(name)) for name in plan.keep]
        written += predictor.predict(plan, arrays)
        yield pa.record_batch(written, schema=schema)


def check_plan(manifest: dict[str, Any], plan: Plan) -> Plan:
    """Return a plan with the threshold that its rule gives; reject one that a model cannot follow.

    Raises:
        InvalidRequest: with every problem.
        KeyError, TypeError: the manifest is damaged.
    """
    rule = plan.rule
    problems = [
        *_wrong_output(manifest, plan),
        *_wrong_names(manifest, plan),
    ]
    if rule:
        problems += thresholds.problems(manifest, rule, plan.positive_class)
    if rule and plan.output == "contributions":
        problems.append(f"{rule[0]} does not apply to output=contributions.")
    if problems:
        raise InvalidRequest(" ".join(problems), errors=problems)
    if rule:
        plan = replace(plan, cut=thresholds.cut(manifest, rule, plan.positive_class))
    return plan


def _wrong_output(manifest: dict[str, Any], plan: Plan) -> Iterator[str]:
    is_regression = manifest["task"] == "regression"
    if plan.output in ("probabilities", "sets") and is_regression:
        yield (
            f"output={plan.output} needs classes, and the model is a regression; use labels "
            "or quantiles."
        )
    if plan.output == "sets" and not is_regression and not manifest.get("sets"):
        yield (
            "output=sets needs a model that was validated, by this version or a later one; "
            "fit it again, with a validation other than none."
        )
    if plan.output == "quantiles" and not is_regression:
        yield (
            "output=quantiles needs a quantity, and the model is a classification; use "
            "probabilities or sets."
        )
    if plan.output == "quantiles" and is_regression and not manifest["intervals"]:
        yield (
            "output=quantiles needs a model that was validated; fit it with a validation "
            "other than none."
        )
    if plan.output == "contributions":
        yield from _not_explained(manifest)


def _not_explained(manifest: dict[str, Any]) -> Iterator[str]:
    if not manifest.get("n_background"):
        yield (
            "output=contributions needs a model that keeps rows to compare with, and this one has "
            "none: an earlier version made it, it was fitted with background=leave_out, or its "
            "text is too long; fit it again."
        )
    if len(manifest["features"]) > contributions.MAX_COLUMNS:
        yield (
            f"output=contributions needs a model of at most {contributions.MAX_COLUMNS:,} "
            f"columns, and this one has {len(manifest['features']):,}."
        )


def _wrong_names(manifest: dict[str, Any], plan: Plan) -> Iterator[str]:
    for values in (plan.keep, plan.quantiles, plan.levels):
        if len(set(values)) < len(values):
            yield "keep, quantiles and levels must not name anything twice."
            break
    names = [feature["name"] for feature in manifest.get("features", ())]
    predicted = extra_names(plan, manifest["classes"], names)
    if manifest["target"] in predicted:
        yield (
            f"output={plan.output} makes a column {manifest['target']!r}, which is the "
            "target's name."
        )
    predicted.append(manifest["target"])
    for name in plan.keep:
        if name in predicted:
            yield f"keep names {name!r}, which is a column of the predictions."


def batch_rows(predictor: Predictor, plan: Plan) -> int:
    """Return the rows of a batch, so that neither features nor probabilities grow large."""
    if plan.output == "contributions":
        return contributions.batch_rows(len(predictor.features))
    n_classes = len(predictor.classes or ())
    n_columns = max(len(predictor.features), n_classes, 1)
    n_rows = min(MAX_BATCH_ROWS, MAX_BATCH_CELLS // n_columns)
    return max(1, n_rows)


def schema_of(predictor: Predictor, source: Source, plan: Plan) -> pa.Schema:
    """Return names and types of the written columns: the kept ones, then the predictions."""
    result_format = RESULT_FORMATS[plan.format]
    fields = []
    for name in plan.keep:
        found = source.schema.field(name).type
        fields.append((name, result_format.type_of(found)))
    fields += zip(predictor.names(plan), predictor.types(plan), strict=True)
    return pa.schema(fields)


class Tally:
    """Reads the features of batches; counts missing, unseen and unreadable values, and drift."""

    def __init__(self, features: Sequence[Feature], *, explains: bool = False) -> None:
        """Count for these features; `explains` to say also how contributions are computed."""
        self._features = features
        self.explains = explains
        self.n_rows = 0
        self.contributions: dict[str, Any] = {}
        self._missing = {feature.name: 0 for feature in features}
        self._unseen = {feature.name: 0 for feature in features}
        self._counts: dict[str, Any] = {}
        self._problems: dict[str, checks.Problems] = {}

    def read(self, batch: pa.RecordBatch, decimal: str) -> dict[str, Any] | None:
        """Return the batch's features (n_rows,) by name; None once a value could not be read."""
        arrays = {}
        for feature in self._features:
            name = feature.name
            try:
                values = columns.read(feature, batch.column(name), decimal)
            except columns.Unreadable as error:
                self._note(name, error.reason, error.rows)
            except (pa.ArrowException, ValueError, OverflowError):
                # Arrow's messages quote values, which neither logs nor records may hold.
                self._note(name, "values that cannot be converted", np.arange(0))
            else:
                arrays[name] = values.array
                self._count(feature, values)
        self.n_rows += batch.num_rows
        return None if self._problems else arrays

    def _note(self, name: str, reason: str, rows: np.ndarray) -> None:
        n_rows = len(rows)
        first_row = self.n_rows
        if n_rows:
            first_row += int(rows[0])
        earlier = self._problems.get(name)
        if earlier:
            n_rows += earlier.n_rows
            first_row = earlier.first_row
        self._problems[name] = checks.Problems(name, reason, n_rows, first_row)

    def _count(self, feature: Feature, values: columns.Values) -> None:
        self._missing[feature.name] += values.n_missing
        self._unseen[feature.name] += values.n_unseen
        if feature.profile is not None and len(values.array):
            found = drift.count(feature.profile, values.for_bins(DRIFT_ROWS))
            earlier = self._counts.get(feature.name, 0)
            self._counts[feature.name] = earlier + found

    def refuse(self) -> None:
        """Raise InvalidTable if values could not be read."""
        if self._problems:
            found = [str(problem) for problem in self._problems.values()]
            count = f" ({len(found)} problems)" if len(found) > 1 else ""
            raise InvalidTable(
                found[0] + count,
                hint="Correct these values, upload the table again and submit the new id.",
                errors=found[:_MAX_PROBLEMS],
            )

    def report(self) -> dict[str, Any]:
        """Return the rows, and each feature's missing and unseen values and drift.

        If it `explains`, it also says how contributions were computed. The features that have
        drifted the most have the shares of their bins.
        """
        explained = {"contributions": self.contributions} if self.contributions else {}
        found = [self._report_on(feature) for feature in self._features]
        by_drift = sorted(found, key=lambda column: -(column["stability_index"] or 0.0))
        binned = {column["name"] for column in by_drift[:_MAX_BINNED]}
        for feature, column in zip(self._features, found, strict=True):
            counts = self._counts.get(feature.name)
            if counts is not None and feature.name in binned:
                column["bins"] = drift.bins(feature.profile or {}, counts)
        return {"n_rows": self.n_rows, **explained, "columns": found}

    def _report_on(self, feature: Feature) -> dict[str, Any]:
        counts = self._counts.get(feature.name)
        index = chance_index = None
        if counts is not None:
            index = drift.stability_index(feature.profile or {}, counts)
            chance_index = drift.chance_index(feature.profile or {}, counts)
        return {
            "name": feature.name,
            "n_missing": self._missing[feature.name],
            "n_unseen": self._unseen[feature.name],
            "stability_index": index,
            "chance_index": chance_index,
            "drift": drift.verdict(index),
        }
