"""Tables as people have them, from the file to the predictions, on the real stack."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import requests
import threadpoolctl

from rowcast.config import Settings
from rowcast.learning import learners, prediction, training
from rowcast.learning.prediction import Predictor
from rowcast.tables import Limits, Source, formats, training_table
from tests.support import ROOT
from tests.support.excel import crafted, excel
from tests.support.files import (
    arrow_file,
    arrow_stream,
    json_lines,
    parquet,
    zipped,
    zstd,
)
from tests.support.stack import Stack, StartStack, submitted

N_ROWS = 120
RNG = np.random.default_rng(0)
CLASS = RNG.integers(0, 2, N_ROWS)
QUICK = {"params": json.dumps({"max_iter": 10}), "validation": "none"}
FIRST_DAY = dt.datetime(2024, 1, 1, 6, 30)  # noqa: DTZ001 - most tables hold times without a zone


def some_missing(values: list[Any], every: int) -> list[Any]:
    return [None if row % every == 0 else value for row, value in enumerate(values)]


# What text can carry: each format gives the same of it.
FEATURES = pa.table(
    {
        # Writers of Excel keep 16 digits.
        "float": some_missing(
            (CLASS / 3 + RNG.normal(size=N_ROWS)).round(12).tolist(), 7
        ),
        "whole float": [float(row * 3 % 50) for row in range(N_ROWS)],
        "int": pa.array(
            some_missing(RNG.integers(-50, 50, N_ROWS).tolist(), 11), pa.int64()
        ),
        "bool": some_missing([bool(flag) for flag in RNG.integers(0, 2, N_ROWS)], 13),
        "date": some_missing(
            [FIRST_DAY.date() + dt.timedelta(days=row % 90) for row in range(N_ROWS)],
            17,
        ),
        "time": pa.array(
            some_missing(
                [FIRST_DAY + dt.timedelta(minutes=971 * row) for row in range(N_ROWS)],
                19,
            ),
            pa.timestamp("us"),
        ),
        "größe, 'quoted'": some_missing(
            [["klein", "mittel", "groß"][row % 3] for row in range(N_ROWS)], 23
        ),
        "text": some_missing(
            [f'it is "number" {row * 7 % 60}; or,\nnot so' for row in range(N_ROWS)], 29
        ),
        "price": some_missing(
            [f"${row * 37 % 5000:,}.50" if row % 5 else "?" for row in range(N_ROWS)],
            31,
        ),
        "day": [
            f"{row % 28 + 1} Jan 2024" if row % 9 else "-" for row in range(N_ROWS)
        ],
        "lap": [f"{row % 3}:{row % 60:02}:30" for row in range(N_ROWS)],
        "month": [20240101 + row % 12 * 100 for row in range(N_ROWS)],
        "id": range(N_ROWS),
    }
)
TARGETS: dict[str, tuple[list[Any], str]] = {
    "bool": ([bool(label) for label in CLASS], "bool"),
    "int": ([int(label) * 7 for label in CLASS], "int64"),
    "string": (["ja" if label else "nein, danke" for label in CLASS], "string"),
    "regression": ((CLASS * 3 + RNG.normal(size=N_ROWS)).round(12).tolist(), "double"),
}


def csv(data: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(data, buffer)
    return buffer.getvalue()


def european_csv(data: pa.Table) -> bytes:
    frame = data.to_pandas().astype({"int": "Int64"})
    return bytes(frame.to_csv(index=False, sep=";", decimal=",").encode("utf-8-sig"))


def lines(data: pa.Table) -> bytes:
    rows = [
        {n: v if not isinstance(v, dt.date) else str(v) for n, v in row.items()}
        for row in data.to_pylist()
    ]
    return json_lines(*rows)


FORMATS: dict[str, Callable[[pa.Table], bytes]] = {
    "parquet": parquet,
    "arrow file": arrow_file,
    "feather with lz4": lambda data: arrow_file(data, "lz4"),
    "arrow stream": arrow_stream,
    "csv": csv,
    "csv with semicolons and decimal commas": european_csv,
    "csv.gz": lambda data: gzip.compress(csv(data)),
    "csv.zst": lambda data: zstd(csv(data)),
    "jsonl": lines,
    "xlsx": excel,
}


def results_of(
    stack: Stack, datasets: list[str], model_id: str, **params: Any
) -> list[bytes]:
    """Return the result files of predictions, submitted together."""
    jobs = [
        submitted(
            stack.post("/predict", dataset_id=dataset, model_id=model_id, **params)
        )
        for dataset in datasets
    ]
    for job in jobs:
        stack.finished(job)
    urls = [stack.get("/result", id=job).json()["url"] for job in jobs]
    return [requests.get(url, timeout=40).content for url in urls]


def models(stack: Stack, datasets: list[str], **params: Any) -> list[dict[str, Any]]:
    """Return the manifests of fits, submitted together."""
    jobs = [
        submitted(stack.post("/fit", id=dataset, **{**QUICK, **params}))
        for dataset in datasets
    ]
    for job in jobs:
        stack.finished(job)
    return [stack.get(f"/models/{job}").json() for job in jobs]


LIMITS = Limits.of(Settings())


def opened(folder: Path, name: str, data: pa.Table) -> Source:
    (folder / name).write_bytes(FORMATS[name](data))
    return formats.open_file(folder / name, LIMITS)


def predictor_of(source: Source) -> Predictor:
    data = training_table.read(source, "y")
    task = learners.task_of(data.target, "auto", max_classes=1000)
    plan = training.Plan("boosting", task, {"max_iter": 10}, validation="none")
    found = training.train(plan, data.features, training.Rows(data.frame, data.target))
    is_classes = task == "classification"
    classes = (
        [training.label_text(label) for label in found.model.classes_]
        if is_classes
        else None
    )
    target_type = data.target_type if is_classes else "double"
    return Predictor(found.model, found.features, "y", target_type, classes, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_every_pair_of_formats_gives_the_same_predictions(
    name: str, tmp_path: Path
) -> None:
    values, type_name = TARGETS[name]
    data = FEATURES.append_column("y", pa.array(values))
    rows = [opened(tmp_path, name, FEATURES) for name in FORMATS]
    (tmp_path / "to fit").mkdir()
    plan = prediction.Plan("labels" if name == "regression" else "probabilities")
    digests, kinds = set(), []
    with threadpoolctl.threadpool_limits(1):
        for format_ in FORMATS:
            predictor = predictor_of(opened(tmp_path / "to fit", format_, data))
            kinds.append(
                [(feature.name, feature.kind) for feature in predictor.features]
            )
            for source in rows:
                prediction.write(tmp_path / "result", predictor, source, plan)
                digests.add(
                    hashlib.sha256((tmp_path / "result").read_bytes()).hexdigest()
                )
    assert kinds == [kinds[0]] * len(FORMATS)
    assert len(digests) == 1
    predicted = pq.read_table(tmp_path / "result")["y"]
    assert (str(predicted.type), len(predicted)) == (type_name, N_ROWS)
    assert type(predicted[0].as_py()) is type(values[0])


def test_any_format_fits_the_same_model_and_any_gives_the_same_result(
    stack: Stack,
) -> None:
    data = FEATURES.append_column("y", pa.array(TARGETS["bool"][0]))
    found = models(stack, [stack.upload(write(data)) for write in FORMATS.values()])
    assert len({about["file"]["sha256"] for about in found}) == 1
    datasets = [stack.upload(write(FEATURES)) for write in FORMATS.values()]
    results = results_of(stack, datasets, found[0]["id"])
    assert len({hashlib.sha256(result).hexdigest() for result in results}) == 1


def test_what_was_read_at_the_fit_is_read_at_predictions_of_any_format(
    stack: Stack,
) -> None:
    rows = "".join(
        f'"${row * 31 % 9000:,}",{row % 7 / 2},{row % 2}\n' for row in range(60)
    )
    table = f"price,z,y\n{rows}?,inf,1\n".encode()
    (about,) = models(stack, [stack.upload(table)], infinite="missing")
    assert about["notes"] == [
        "The column 'price': its text is read as numbers, without $, with commas between "
        "thousands, with ? as missing (1 value). If its commas are decimal, write points instead.",
        "The column 'z': its infinite numbers are missing (1 value).",
    ]
    written = [
        b'price,z\n"$1,234",0.5\n?,-inf\n',
        parquet(pa.table({"price": ["$1,234", "?"], "z": [0.5, float("inf")]})),
        parquet(pa.table({"price": [1234.0, None], "z": [0.5, None]})),
    ]
    datasets = [stack.upload(content) for content in written]
    results = results_of(stack, datasets, about["id"])
    assert len({hashlib.sha256(result).hexdigest() for result in results}) == 1


def test_kinds_of_a_table_are_what_they_look_like(stack: Stack) -> None:
    data = FEATURES.append_column("y", pa.array(TARGETS["int"][0]))
    (about,) = models(stack, [stack.upload(csv(data))])
    assert {column["name"]: column["kind"] for column in about["columns"]} == {
        "float": "numeric",
        "whole float": "numeric",
        "int": "numeric",
        "bool": "boolean",
        "date": "datetime",
        "time": "datetime",
        "größe, 'quoted'": "category",
        "text": "text",
        "price": "numeric",
        "day": "datetime",
        "lap": "duration",
        "month": "datetime",
        "id": "numeric",
    }
    assert [column["name"] for column in about["columns"] if column["left_out"]] == [
        "id"
    ]


# Files that are meant to break the service, or are broken themselves


@pytest.fixture(scope="module")
def strict(start_stack: StartStack) -> Stack:
    """Return a stack with one worker and small limits."""
    limits = {
        "MAX_UNPACKED_BYTES": "20000000",
        "MAX_TABLE_BYTES": "100000000",
        "MAX_ROWS": "1000000",
    }
    stack = start_stack(workers=1, **limits)
    # Its worker is there once it has done something.
    stack.fitted(parquet(SMALL), **QUICK)
    return stack


SMALL = FEATURES.append_column("y", pa.array(TARGETS["int"][0]))
LONG_CELL = "x" * 10_000_000
ROWS = b"1,2\n" * 4
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "empty file"),
    "blanks": (lambda: b" \n" * 100, "no rows"),
    "zeros": (lambda: bytes(1000), "not text either"),
    "truncated Parquet": (lambda: parquet(SMALL)[:-100], "truncated"),
    "damaged Parquet": (
        lambda: parquet(SMALL)[:4] + bytes(500) + parquet(SMALL)[504:],
        "damaged",
    ),
    "damaged footer": (
        lambda: parquet(SMALL)[:-60] + b"\xff" * 52 + parquet(SMALL)[-8:],
        "damaged",
    ),
    "encrypted Parquet": (lambda: b"PARE" + bytes(100) + b"PARE", "encrypted"),
    "truncated Arrow": (lambda: arrow_file(SMALL)[:-100], "truncated"),
    "truncated gzip": (lambda: gzip.compress(csv(SMALL))[:-100], "truncated"),
    "truncated Zstandard": (lambda: zstd(csv(SMALL))[:-100], "truncated"),
    "gzip of zeros": (lambda: gzip.compress(bytes(100_000_000), 1), "not text either"),
    "gzip of many rows": (
        lambda: gzip.compress(b"x,y\n" + b"1,2\n" * 10_000_000, 1),
        "MAX_UNPACKED_BYTES",
    ),
    "gzip of one long row": (
        lambda: gzip.compress(b"x,y\n1," + b"1" * 100_000_000, 1),
        "longer than 1 MiB",
    ),
    "Zstandard of many rows": (
        lambda: zstd(b"x,y\n" + b"1,2\n" * 10_000_000),
        "MAX_UNPACKED_BYTES",
    ),
    "Parquet of one repeated value": (
        lambda: parquet(
            pa.table(
                {
                    "x": pa.array(["long " * 10_000]).take(pa.array([0] * 20_000)),
                    "y": [0, 1] * 10_000,
                }
            )
        ),
        "too large",
    ),
    "too many rows": (
        lambda: parquet(pa.table({"x": np.zeros(1_000_001), "y": np.zeros(1_000_001)})),
        "MAX_ROWS",
    ),
    "header of 100,000 columns": (
        lambda: (
            b",".join(b"c%d" % i for i in range(100_000))
            + b"\n"
            + b",".join([b"1"] * 100_000)
            + b"\n"
        ),
        "MAX_COLUMNS",
    ),
    "cell of 10 MB": (
        lambda: b"x,y\n" + b"a,1\n" * 400_000 + f"{LONG_CELL},2\n".encode(),
        "MAX_CELL_BYTES",
    ),
    "first cell of 10 MB": (
        lambda: f"x,y\n{LONG_CELL},2\n".encode() + ROWS,
        "longer than 1 MiB",
    ),
    "cell of 10 MB in Parquet": (
        lambda: parquet(pa.table({"x": ["a"] * 11 + [LONG_CELL], "y": [0, 1] * 6})),
        "MAX_CELL_BYTES",
    ),
    "cell of 10 MB in JSON Lines": (
        lambda: json_lines(*[{"x": "a", "y": 1}] * 100_000, {"x": LONG_CELL, "y": 2}),
        "MAX_CELL_BYTES",
    ),
    "mixed types in JSON Lines": (
        lambda: json_lines(
            *[{"x": 1.5, "y": 1}, {"x": 2.5, "y": 0}] * 10, {"x": "a", "y": 1}
        ),
        "'x' mixes numbers with text: text in 1 row, first in row 20",
    ),
    "mixed types late in JSON Lines": (
        lambda: json_lines(*[{"x": 1.5, "y": 1}] * 100_000, {"x": "a", "y": 1}),
        "'x' mixes numbers with text: text in 1 row, first in row 100000",
    ),
    "open quote": (lambda: b'x,y\n1,"2\n' + b"1,2\n" * 1000, "not closed"),
    "rows of many lengths": (
        lambda: b"x,y\n" + b"1,2\n1\n1,2,3\n" * 10,
        "Row 1 has 1 field",
    ),
    "zip that is no workbook": (lambda: zipped("xl/workbook.xml"), "a zip archive"),
    "truncated Excel": (lambda: excel(SMALL)[:-100], "truncated"),
    "Excel with a cell far away": (
        lambda: crafted(b'<c r="A1"><v>1</v></c><c r="XFD1048576"><v>1</v></c>'),
        "MAX_EXCEL_CELLS",
    ),
    "Excel with a text for many cells": (
        lambda: crafted(
            b'<row><c t="str"><v>x</v></c><c t="str"><v>y</v></c></row>'
            + b'<row><c t="s"><v>0</v></c><c><v>1</v></c></row>' * 100_000,
            b"<sst><si><t>%b</t></si></sst>" % (b"x" * 30_000),
        ),
        "MAX_EXCEL_BYTES",
    ),
    "JSON array": (lambda: json.dumps([{"x": 1, "y": 2}]).encode(), "JSON array"),
    "web page": (lambda: b"<!DOCTYPE html><html></html>", "web page"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_ends_in_a_clear_error_and_costs_no_worker(
    strict: Stack, name: str
) -> None:
    make, reason = HOSTILE[name]
    workers = [worker.pid for worker in strict.part("worker").children()]
    answer = strict.post("/fit", id=strict.upload(make()))
    error = (
        answer.json()
        if answer.status_code != 202
        else strict.wait(answer.json()["id"])["error"]
    )
    assert answer.status_code in (202, 422), answer.text
    assert error["code"] == "invalid_table"
    assert reason in error["detail"]
    assert error["hint"]
    assert len(str(error)) < 20_000
    assert [worker.pid for worker in strict.part("worker").children()] == workers


def test_service_works_on_after_all_that(strict: Stack) -> None:
    strict.finished(strict.fit(parquet(SMALL), **QUICK))


def test_late_problem_of_a_text_is_the_jobs_failure_at_a_prediction_too(
    stack: Stack,
) -> None:
    model_id = stack.fitted(b"x,y\n" + b"0.5,1\n1.5,0\n" * 10, **QUICK)
    late = b"x\n" + b"0.5\n" * 400_000 + b"none\n"
    error = stack.wait(stack.predict(late, model_id))["error"]
    assert error["code"] == "invalid_table"
    assert (
        error["detail"]
        == "The column 'x' holds values that are not numbers: 1, first in row 400000."
    )


def test_early_problems_are_refused_before_there_is_a_job(stack: Stack) -> None:
    model_id = stack.fitted(b"x,z,y\n" + b"0.5,1.5,1\n1.5,0.5,0\n" * 10, **QUICK)
    answer = stack.post(
        "/predict", dataset_id=stack.upload(b"x,other\nnone,1\n"), model_id=model_id
    )
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        "The column 'x' holds values that are not numbers: 1, first in row 0.",
        "The column 'z', which the model was trained on, is missing.",
    ]


# Memory


@pytest.mark.slow
def test_memory_of_a_prediction_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    n_rows = 2_000_000
    column = np.random.default_rng(0).normal(size=n_rows)
    data = pa.table({f"x{i}": np.roll(column, i) for i in range(10)})
    plainly = {"use_dictionary": False, "compression": "none"}
    pq.write_table(data, tmp_path / "table", row_group_size=n_rows, **plainly)
    code = """
import re, sys, threadpoolctl
from pathlib import Path
import numpy as np
import pyarrow as pa
from rowcast.learning import learners, prediction
from rowcast.tables import Feature, Limits, Source, formats
from rowcast.config import Settings

def memory(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

threadpoolctl.threadpool_limits(1)
pa.set_cpu_count(1)
features = [Feature(f"x{i}", "numeric") for i in range(10)]
model = learners.LEARNERS["boosting"].make("regression", {"max_iter": 5}, seed=0)
import pandas
values = np.random.default_rng(0).normal(size=(1000, 10))
rows = pandas.DataFrame(values, columns=[f.name for f in features])
model.fit(rows, rows["x0"])
model.predict(rows)
folder = Path(sys.argv[1])
source = formats.open_file(folder / "table", Limits.of(Settings()))
predictor = prediction.Predictor(model, features, "y", "double", None, None)
before = memory("VmRSS")
report = prediction.write(folder / "result", predictor, source, prediction.Plan())
print(report["n_rows"], memory("VmHWM") - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    n_written, grown_kib = map(int, done.stdout.split())
    assert n_written == n_rows == pq.read_metadata(tmp_path / "result").num_rows
    # The values alone are 160 MB.
    assert grown_kib < 100 << 10
