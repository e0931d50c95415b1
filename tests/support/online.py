"""Online predictions: tables in every format, requests, and readers of the answers."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import requests
from pyarrow import ipc

from tests.support.excel import excel
from tests.support.stack import Stack
from tests.support.tables import parquet, table
from tests.support.waiting import eventually

JSON, LINES, CSV = "application/json", "application/x-ndjson", "text/csv"
PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ANY = "application/octet-stream"
ANN, BOB = (
    {"Authorization": "Bearer ann-key-0001"},
    {"Authorization": "Bearer bob-key-0002"},
)


def mixed(n_rows: int = 120, seed: int = 0) -> pd.DataFrame:
    """Return a table with all kinds of columns and gaps, from which both targets can be learned."""
    rng = np.random.default_rng(seed)
    words = [
        "red roof",
        "blue door",
        "old mill near the river",
        "a garden",
        "new kitchen, two baths",
    ]
    frame = pd.DataFrame(
        {
            "number": rng.normal(size=n_rows).round(3),
            "count": rng.integers(0, 1000, n_rows),
            "kind": rng.choice(["flat", "house", "hütte"], n_rows),
            "text": [
                f"{rng.choice(words)} {i % 37} {rng.choice(words)}"
                for i in range(n_rows)
            ],
            "day": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(rng.integers(0, 700, n_rows), "D"),
            "sold": rng.random(n_rows) < 0.5,
        }
    )
    for name in ("number", "kind", "day"):
        frame[name] = frame[name].where(rng.random(n_rows) > 0.1)
    price = (
        100 * frame["number"].fillna(0)
        + 50 * (frame["kind"] == "flat")
        + rng.normal(size=n_rows)
    )
    return frame.assign(price=price, label=np.where(price > 0, "yes, sir", "no"))


ROWS = mixed(40, seed=1).drop(columns=["price", "label"])


def stream(rows: pd.DataFrame) -> bytes:
    found, buffer = pa.Table.from_pandas(rows), io.BytesIO()
    with ipc.new_stream(buffer, found.schema) as writer:
        writer.write_table(found)
    return buffer.getvalue()


def arrow_file(rows: pd.DataFrame) -> bytes:
    found, buffer = pa.Table.from_pandas(rows), io.BytesIO()
    with ipc.new_file(buffer, found.schema) as writer:
        writer.write_table(found)
    return buffer.getvalue()


def csv(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False).encode()


def lines(rows: pd.DataFrame) -> bytes:
    return str(rows.to_json(orient="records", lines=True, date_format="iso")).encode()


def records(rows: pd.DataFrame) -> bytes:
    return str(rows.to_json(orient="records", date_format="iso")).encode()


UNKNOWN, ONE = "01a20842-a75d-7589-a082-00000000000d", records(table(1))

# By name: the media type, and what makes a table's bytes.
BODIES: dict[str, tuple[str, Callable[[pd.DataFrame], bytes]]] = {
    "records": (JSON, records),
    "lines": (LINES, lines),
    "jsonl": ("application/jsonl", lines),
    "csv": (CSV, csv),
    "gzip": (CSV, lambda rows: gzip.compress(csv(rows))),
    "parquet": (PARQUET, parquet),
    "stream": (ARROW, stream),
    "file": ("application/vnd.apache.arrow.file", arrow_file),
    "excel": (EXCEL, lambda rows: excel(pa.Table.from_pandas(rows))),
    "any": (ANY, parquet),
}
# By media type: the corresponding format of a job's result.
FORMATS = {
    JSON: "jsonl",
    LINES: "jsonl",
    CSV: "csv",
    PARQUET: "parquet",
    ARROW: "parquet",
}


def ask(
    stack: Stack,
    model_id: str,
    body: Any,
    kind: str = JSON,
    accept: str | None = None,
    **params: Any,
) -> requests.Response:
    """Request an online prediction."""
    headers = {
        "Content-Type": kind,
        **({"Accept": accept} if accept else {}),
        **stack.headers,
    }
    query = {
        name: v if isinstance(v, str) else json.dumps(v) for name, v in params.items()
    }
    query = {"model_id": model_id, **query}
    return requests.post(
        stack.url + "/predict", params=query, data=body, headers=headers, timeout=60
    )


def ready(stack: Stack) -> Stack:
    """Wait until the online workers, which start slower than the server, accept questions."""
    eventually(lambda: ask(stack, UNKNOWN, ONE).status_code == 404)
    return stack


def refused(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem, and return it."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    return problem


def answered(answer: requests.Response) -> list[dict[str, Any]]:
    """Return the predictions of an answer in JSON."""
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def read_back(content: bytes, kind: str) -> Any:
    """Return the predictions in an answer: rows, a table, or the text of a CSV file."""
    if kind == JSON:
        return json.loads(content)
    if kind == ARROW:
        return ipc.open_stream(content).read_all()
    return pq.read_table(io.BytesIO(content)) if kind == PARQUET else content


def predictions_of_job(content: bytes, kind: str) -> Any:
    """Return the predictions in the result of a job, in the form of `read_back`."""
    if kind == JSON:
        return [json.loads(line) for line in content.splitlines()]
    return read_back(content, PARQUET if kind == ARROW else kind)


def online_workers(stack: Stack) -> list[psutil.Process]:
    return list(stack.part("online").children())
