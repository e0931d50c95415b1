"""The formats of predictions: each writes batches one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from rowcast.learning import result_formats
from rowcast.learning.result_formats import RESULT_FORMATS
from rowcast.store import publications

ROWS = [{"x": 1, "label": "a"}, {"x": 2, "label": 'b,"'}, {"x": None, "label": None}]
SCHEMA = pa.schema([("x", pa.int64()), ("label", pa.string())])

READERS: dict[str, Callable[[bytes], list[dict[str, Any]]]] = {
    "json": json.loads,
    "jsonl": lambda content: [json.loads(line) for line in content.splitlines()],
    "csv": lambda content: pyarrow.csv.read_csv(
        pa.BufferReader(content),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=SCHEMA, strings_can_be_null=True
        ),
    ).to_pylist(),
    "parquet": lambda content: pq.read_table(pa.BufferReader(content)).to_pylist(),
    "arrow": lambda content: pa.ipc.open_stream(content).read_all().to_pylist(),
}


@pytest.mark.parametrize("sizes", [[], [0], [3], [1, 0, 2], [0, 3]], ids=str)
@pytest.mark.parametrize("name", RESULT_FORMATS)
def test_batches_follow_each_other(name: str, sizes: list[int]) -> None:
    sink = pa.BufferOutputStream()
    n_written = 0
    with RESULT_FORMATS[name].writer(sink, SCHEMA) as write:
        for size in sizes:
            part = ROWS[n_written : n_written + size]
            write(pa.RecordBatch.from_pylist(part, SCHEMA))
            n_written += size
    assert READERS[name](bytes(sink.getvalue())) == ROWS[:n_written]


def test_media_type_has_one_format() -> None:
    for found in RESULT_FORMATS.values():
        assert result_formats.of_media_type(found.media_type) is found


def test_jobs_write_the_formats_that_have_a_suffix() -> None:
    assert set(publications.RESULT_FILES) == set(get_args(result_formats.FileFormat))
    assert publications.RESULT_FILES["jsonl"] == "result.jsonl"
