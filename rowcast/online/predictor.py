"""Predict a small table within a request: from the bytes of the request to those of the answer.

A job would give the same numbers: the same code reads and predicts the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from rowcast.config import Settings
from rowcast.errors import RequestTooLarge
from rowcast.learning import Predictor, prediction, result_formats
from rowcast.online import limits
from rowcast.online.protocol import RECORDS, Question
from rowcast.tables import Limits, ReadingOptions, Source, checks, formats

# The share of ONLINE_TIMEOUT_S that explanations may take by their nominal seconds, which a busy
# machine exceeds.
_EXPLAINING_SHARE = 1 / 6


@dataclass(frozen=True)
class TableLimits:
    """The largest table of an online prediction, and the most nominal seconds to explain it."""

    max_rows: int
    limits: Limits
    explaining_s: float = 10.0

    @classmethod
    def of(cls, settings: Settings) -> TableLimits:
        """Return the limits that the settings name."""
        general = Limits.of(settings)
        unpacked_bytes = limits.MAX_UNPACKING_FACTOR * settings.online_max_bytes
        smaller = min(general.max_unpacked_bytes, unpacked_bytes)
        narrowed = replace(
            general,
            max_unpacked_bytes=smaller,
            max_excel_bytes=min(general.max_excel_bytes, unpacked_bytes),
        )
        explaining_s = settings.online_timeout_s * _EXPLAINING_SHARE
        return cls(settings.online_max_rows, narrowed, explaining_s)


def answer(
    question: Question,
    table: bytes,
    model: tuple[Predictor, dict[str, Any]],
    bounds: TableLimits,
    path: Path,
) -> bytes:
    """Return the predictions for a table, in the format that the question wants.

    Args:
        question: what to predict, in which format.
        table: the body of the request.
        model: the model and its manifest.
        bounds: the largest table.
        path: where a file of the table may lie meanwhile.

    Raises:
        InvalidRequest: the model cannot give this output; an option of reading does not apply.
        InvalidTable: the table cannot be used; the message says why.
        RequestTooLarge: the table has too many rows.
    """
    predictor, manifest = model
    result_format = result_formats.of_media_type(question.wanted)
    options = {**question.options, "format": result_format.name}
    plan = prediction.check_plan(manifest, prediction.Plan.of(options))

    reading = ReadingOptions.of(options).of_model(manifest)
    source = _source(question.sent_as, table, bounds, path, reading)
    _check_rows(source.n_rows or 0, bounds)
    checks.check_predict(source, predictor.features, plan.keep)
    _check_explained(source, predictor, plan, bounds)

    schema = prediction.schema_of(predictor, source, plan)
    body = pa.BufferOutputStream()
    with result_format.writer(body, schema) as write:
        for batch in _batches(predictor, source, plan, bounds):
            write(batch)
    return bytes(body.getvalue())


def _source(
    sent_as: str,
    table: bytes,
    bounds: TableLimits,
    path: Path,
    reading: ReadingOptions,
) -> Source:
    if sent_as == RECORDS:
        return formats.of_records(table, bounds.limits, reading)
    path.write_bytes(table)
    return formats.open_file(path, bounds.limits, reading)


def _batches(
    predictor: Predictor,
    source: Source,
    plan: prediction.Plan,
    bounds: TableLimits,
) -> Iterator[pa.RecordBatch]:
    tally = prediction.Tally(predictor.features)
    for batch in prediction.batches(predictor, source, plan, tally):
        _check_rows(tally.n_rows, bounds)
        if batch is not None:
            yield batch
    tally.refuse()


def _check_rows(n_rows: int, bounds: TableLimits) -> None:
    if n_rows > bounds.max_rows:
        raise RequestTooLarge(
            f"The table has more than {bounds.max_rows:,} rows (ONLINE_MAX_ROWS).",
            hint="Send fewer rows per request, or upload them and predict them by a job.",
        )


def _check_explained(
    source: Source, predictor: Predictor, plan: prediction.Plan, bounds: TableLimits
) -> None:
    most_rows = prediction.rows_allowed_if_exceeded(
        predictor, source, plan, bounds.explaining_s
    )
    if most_rows is not None:
        raise RequestTooLarge(
            f"output=contributions of this model can explain {most_rows:,} rows online, and the "
            "table has more.",
            hint="Send fewer rows per request, or upload them and predict them by a job.",
        )
