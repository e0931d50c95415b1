"""A small table predicted at once: from the bytes of a request to those of its answer.

The numbers are those of a job: the table is read and predicted by the same code.
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

from rowcast.errors import RequestTooLarge
from rowcast.learning import Predictor, prediction
from rowcast.online.protocol import RECORDS, Question
from rowcast.tables import Limits, checks, formats

# A packed text or a Parquet file may unpack to so many times what may be sent.
UNPACKED_TIMES = 20


@dataclass(frozen=True)
class Bounds:
    """The largest table that is predicted at once."""

    max_rows: int
    limits: Limits

    @classmethod
    def of(cls, settings: Any) -> Bounds:
        """Return the bounds that the settings set."""
        limits = Limits.of(settings)
        most = min(
            limits.max_unpacked_bytes, UNPACKED_TIMES * settings.online_max_bytes
        )
        return cls(settings.online_max_rows, replace(limits, max_unpacked_bytes=most))


def answer(
    question: Question,
    table: bytes,
    model: tuple[Predictor, dict[str, Any]],
    bounds: Bounds,
    path: Path,
) -> bytes:
    """Return the predictions for a table in the wanted format; `path` is where its file may lie
    meanwhile.

    `model` is one with its manifest, as `models.load` gives it.

    Raises:
        InvalidRequest: the model cannot give what is wanted.
        InvalidTable: the table cannot be used; says why.
        RequestTooLarge: it has too many rows.
    """
    predictor, about = model
    file_format, write = _WRITERS[question.wanted]
    plan = prediction.Plan(
        _output(question), question.quantiles, question.keep, file_format
    )
    prediction.check_givable(about, plan)
    source = _source(question.sent_as, table, bounds.limits, path)
    _check_rows(source.n_rows or 0, bounds)
    checks.check_predict(source, predictor.features, plan.keep)
    schema = prediction.schema_of(predictor, source, plan)
    return write(
        pa.Table.from_batches(list(_batches(predictor, source, plan, bounds)), schema)
    )


def _output(question: Question) -> prediction.Output:
    outputs: dict[str, prediction.Output] = {
        "labels": "labels",
        "probabilities": "probabilities",
        "quantiles": "quantiles",
    }
    return outputs[question.output]


def _source(sent_as: str, table: bytes, limits: Limits, path: Path) -> formats.Source:
    if sent_as == RECORDS:
        return formats.of_records(table, limits)
    path.write_bytes(table)
    return formats.open_file(path, limits)


def _batches(
    predictor: Predictor, source: formats.Source, plan: prediction.Plan, bounds: Bounds
) -> Iterator[pa.RecordBatch]:
    tally = prediction.Tally(predictor.features)
    for batch in prediction.batches(predictor, source, plan, tally):
        _check_rows(tally.n_rows, bounds)
        if batch is not None:
            yield batch
    tally.refuse()


def _check_rows(n_rows: int, bounds: Bounds) -> None:
    if n_rows > bounds.max_rows:
        raise RequestTooLarge(
            f"The table has more than {bounds.max_rows:,} rows (ONLINE_MAX_ROWS).",
            hint="Send fewer rows at once, or upload them and predict them by a job.",
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


# As which kind of file each media type is written: it decides how kept columns are.
_WRITERS: dict[str, tuple[prediction.FileFormat, Callable[[pa.Table], bytes]]] = {
    "application/json": ("jsonl", _json),
    "application/x-ndjson": ("jsonl", _json_lines),
    "text/csv": ("csv", _csv),
    "application/vnd.apache.parquet": ("parquet", _parquet),
    "application/vnd.apache.arrow.stream": ("parquet", _arrow),
}
