"""Predict a small table within a request: from the bytes of the request to those of the answer.

A job would give the same numbers: the same code reads and predicts the table.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from rowcast.config import Settings
from rowcast.errors import RequestTooLarge
from rowcast.learning import Predictor, prediction
from rowcast.online import limits
from rowcast.online.protocol import RECORDS, Question
from rowcast.tables import Limits, Source, checks, formats


@dataclass(frozen=True)
class TableLimits:
    """The largest table of an online prediction."""

    max_rows: int
    limits: Limits

    @classmethod
    def of(cls, settings: Settings) -> TableLimits:
        """Return the limits that the settings name."""
        general = Limits.of(settings)
        unpacked_bytes = limits.MAX_UNPACKING_FACTOR * settings.online_max_bytes
        smaller = min(general.max_unpacked_bytes, unpacked_bytes)
        narrowed = replace(general, max_unpacked_bytes=smaller)
        return cls(settings.online_max_rows, narrowed)


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
        InvalidRequest: the model cannot give this output.
        InvalidTable: the table cannot be used; the message says why.
        RequestTooLarge: the table has too many rows.
    """
    predictor, manifest = model
    file_format, write = _WRITERS[question.wanted]
    plan = prediction.Plan(
        _output(question), question.quantiles, question.keep, file_format
    )
    prediction.check_givable(manifest, plan)

    source = _source(question.sent_as, table, bounds, path)
    _check_rows(source.n_rows or 0, bounds)
    checks.check_predict(source, predictor.features, plan.keep)

    schema = prediction.schema_of(predictor, source, plan)
    batches = list(_batches(predictor, source, plan, bounds))
    return write(pa.Table.from_batches(batches, schema))


def _output(question: Question) -> prediction.Output:
    outputs: dict[str, prediction.Output] = {
        "labels": "labels",
        "probabilities": "probabilities",
        "quantiles": "quantiles",
    }
    return outputs[question.output]


def _source(sent_as: str, table: bytes, bounds: TableLimits, path: Path) -> Source:
    if sent_as == RECORDS:
        return formats.of_records(table, bounds.limits)
    path.write_bytes(table)
    return formats.open_file(path, bounds.limits)


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


def _json(table: pa.Table) -> bytes:
    return orjson.dumps(table.to_pylist(), default=str)


def _json_lines(table: pa.Table) -> bytes:
    return b"".join(orjson.dumps(row, default=str) + b"\n" for row in table.to_pylist())


def _csv(table: pa.Table) -> bytes:
    import pyarrow.csv

    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    return buffer.getvalue()


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _arrow(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


# The file format decides how kept columns are written.
_WRITERS: dict[str, tuple[prediction.FileFormat, Callable[[pa.Table], bytes]]] = {
    "application/json": ("jsonl", _json),
    "application/x-ndjson": ("jsonl", _json_lines),
    "text/csv": ("csv", _csv),
    "application/vnd.apache.parquet": ("parquet", _parquet),
    "application/vnd.apache.arrow.stream": ("parquet", _arrow),
}
