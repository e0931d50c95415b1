"""Small tables predicted by real online workers: the numbers of a job, and nothing is stored."""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import requests
from pyarrow import ipc

from rowcast.errors import InvalidTable, NoOnlineWorker, OnlineWorkerLost
from rowcast.online import limits, protocol
from rowcast.online.protocol import Question
from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import parquet, table
from tests.support.waiting import eventually

JSON, LINES, CSV = "application/json", "application/x-ndjson", "text/csv"
PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
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


@pytest.fixture(scope="module", autouse=True)
def shared(stack: Stack) -> Stack:
    return ready(stack)


# The same numbers


@pytest.fixture(scope="module")
def classifier(stack: Stack) -> str:
    return stack.fitted(mixed().drop(columns="price"), target="label")


@pytest.fixture(scope="module")
def regressor(stack: Stack) -> str:
    return stack.fitted(mixed().drop(columns="label"), target="price")


@pytest.fixture(scope="module")
def by_job(stack: Stack) -> Callable[..., bytes]:
    """Return a function that gives a job's result for a body, JSON records sent as JSON Lines."""

    @functools.cache
    def result(
        body: str, model_id: str, form: str, output: str, keep: str = "[]"
    ) -> bytes:
        name = "lines" if body == "records" else body
        asked = {"model_id": model_id, "format": form, "output": output, "keep": keep}
        dataset_id = stack.upload(BODIES[name][1](ROWS))
        job = submitted(stack.post("/predict", dataset_id=dataset_id, **asked))
        stack.finished(job)
        return requests.get(
            stack.get("/result", id=job).json()["url"], timeout=40
        ).content

    return result


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("body", BODIES)
def test_every_format_of_body_and_answer_agrees_with_a_job(
    stack: Stack, classifier: str, by_job: Callable[..., bytes], body: str, accept: str
) -> None:
    kind, write = BODIES[body]
    keep = ["count", "day", "text"]
    found = ask(
        stack, classifier, write(ROWS), kind, accept, output="probabilities", keep=keep
    )
    assert found.status_code == 200, found.text
    assert found.headers["Content-Type"].partition(";")[0] == accept
    expected = by_job(
        body, classifier, FORMATS[accept], "probabilities", json.dumps(keep)
    )
    assert read_back(found.content, accept) == predictions_of_job(expected, accept)


@pytest.mark.parametrize("body", BODIES)
def test_labels_and_quantiles_are_those_of_a_job(
    stack: Stack,
    classifier: str,
    regressor: str,
    by_job: Callable[..., bytes],
    body: str,
) -> None:
    kind, write = BODIES[body]
    for model_id, output in (
        (classifier, "labels"),
        (regressor, "labels"),
        (regressor, "quantiles"),
    ):
        found = answered(ask(stack, model_id, write(ROWS), kind, output=output))
        assert found == predictions_of_job(
            by_job(body, model_id, "jsonl", output), JSON
        )


def test_default_is_labels_as_json_records(stack: Stack, classifier: str) -> None:
    found = ask(stack, classifier, records(ROWS))
    assert found.headers["Content-Type"].partition(";")[0] == JSON
    assert {*map(len, answered(found))} == {1}
    assert {row["label"] for row in found.json()} == {"yes, sir", "no"}


def test_quantiles_that_are_asked_for_are_answered(
    stack: Stack, regressor: str
) -> None:
    (row,) = answered(
        ask(
            stack,
            regressor,
            records(ROWS[:1]),
            output="quantiles",
            quantiles=[0.25, 0.75],
        )
    )
    assert set(row) == {"price", "quantile_0.25", "quantile_0.75"}
    assert row["quantile_0.25"] <= row["quantile_0.75"]


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("*/*", JSON),
        ("text/*", CSV),
        (f"{CSV};q=0.5, {PARQUET}", PARQUET),
        (f"{CSV};q=0.9, {LINES};q=0.1", CSV),
        (f"application/xml, {ARROW};q=0.3", ARROW),
        ("text/html, */*;q=0.1", JSON),
    ],
)
def test_answer_has_the_format_that_accept_prefers(
    stack: Stack, classifier: str, accept: str, given: str
) -> None:
    found = ask(stack, classifier, records(ROWS), accept=accept)
    assert (found.status_code, found.headers["Content-Type"].partition(";")[0]) == (
        200,
        given,
    )


def test_nan_and_null_are_missing_and_so_are_members_left_out(
    stack: Stack, classifier: str
) -> None:
    whole = json.loads(records(ROWS[:1]))[0] | {"number": None}
    without = {name: value for name, value in whole.items() if name != "number"}
    bodies = [
        json.dumps([whole, whole]),
        json.dumps([whole | {"number": float("nan")}, whole]),
    ]
    bodies.append(json.dumps([without, whole]))
    first, *others = [
        answered(ask(stack, classifier, body, output="probabilities"))
        for body in bodies
    ]
    assert others == [first, first]


def test_one_row_is_enough_and_other_columns_are_ignored(
    stack: Stack, model_id: str
) -> None:
    row = table(1).drop(columns="y").assign(more="x")
    assert len(answered(ask(stack, model_id, records(row)))) == 1


# What is refused


def test_format_that_is_not_supported_is_406(stack: Stack, model_id: str) -> None:
    problem = refused(
        ask(stack, model_id, records(table(2)), accept="application/xml"),
        406,
        "not_acceptable",
    )
    assert all(kind in problem["detail"] for kind in FORMATS)


@pytest.mark.parametrize(
    "kind", ["application/xml", "text/plain", "application/x-www-form-urlencoded", ""]
)
def test_type_of_body_that_is_no_table_is_415_and_names_those_that_are(
    stack: Stack, model_id: str, kind: str
) -> None:
    problem = refused(
        ask(stack, model_id, csv(table(2)), kind), 415, "unsupported_media_type"
    )
    assert all(kind in problem["hint"] for kind, _ in BODIES.values())


def test_neither_dataset_nor_body_is_400_and_names_the_dataset(
    stack: Stack, model_id: str
) -> None:
    for answer in (
        stack.post("/predict", model_id=model_id),
        ask(stack, model_id, b"{}"),
    ):
        problem = refused(answer, 400, "invalid_request")
        assert "dataset_id" in problem["detail"]
        assert "body" in problem["hint"]


def test_model_must_be_named(stack: Stack) -> None:
    answer = requests.post(stack.url + "/predict", json=[{"a": 1}], timeout=40)
    assert "model_id" in refused(answer, 400, "invalid_request")["detail"]


def test_json_object_is_a_job(stack: Stack, model_id: str) -> None:
    asked = {"dataset_id": stack.upload(table(20)), "model_id": model_id}
    stack.finished(
        submitted(requests.post(stack.url + "/predict", json=asked, timeout=40))
    )


def test_table_beside_the_id_of_a_dataset_is_415(stack: Stack, model_id: str) -> None:
    answer = ask(
        stack, model_id, csv(table(2)), CSV, dataset_id=stack.upload(table(20))
    )
    refused(answer, 415, "unsupported_media_type")


def test_parameters_of_jobs_are_refused_by_name(stack: Stack, model_id: str) -> None:
    given = {
        "priority": "high",
        "callback_url": "https://example.org/",
        "timeout_s": 5,
        "reuse": True,
    }
    problem = refused(
        ask(stack, model_id, records(table(2)), format="csv", **given),
        400,
        "invalid_request",
    )
    assert [error.split("'")[1] for error in problem["errors"]] == sorted(
        [*given, "format"]
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "holds no rows"),
        (b"[1, 2]", "Row 0 is not a JSON object"),
        (b'[{"a": 1}, null]', "Row 1 is not a JSON object"),
        (b'[{"a": 1}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'[{"a": "\xff"}]', "not valid JSON"),
        (b"[{}]", "no columns"),
    ],
)
def test_json_that_is_no_list_of_rows_is_422(
    stack: Stack, model_id: str, body: bytes, said: str
) -> None:
    assert said in refused(ask(stack, model_id, body), 422, "invalid_table")["detail"]


@pytest.mark.parametrize(
    "body", [b"\x00\x01\x02", b"PK\x03\x04 no table", parquet(table(9))[:-7]]
)
def test_bytes_that_are_no_table_are_422(
    stack: Stack, model_id: str, body: bytes
) -> None:
    refused(ask(stack, model_id, body, ANY), 422, "invalid_table")


def test_every_problem_of_a_table_is_listed(stack: Stack, model_id: str) -> None:
    missing = records(table(3).drop(columns=["col_1", "col_4", "y"]))
    problem = refused(ask(stack, model_id, missing), 422, "invalid_table")
    assert [
        name for name in ("col_1", "col_4") if name in " ".join(problem["errors"])
    ] == ["col_1", "col_4"]
    wrong = table(3).astype({"col_1": object, "col_2": object})
    wrong.loc[1, ["col_1", "col_2"]] = ["high", "low"]
    problem = refused(ask(stack, model_id, csv(wrong), CSV), 422, "invalid_table")
    assert len(problem["errors"]) == 2


def test_what_the_model_cannot_give_is_400(
    stack: Stack, classifier: str, regressor: str
) -> None:
    for model_id, output in ((classifier, "quantiles"), (regressor, "probabilities")):
        refused(
            ask(stack, model_id, records(ROWS), output=output), 400, "invalid_request"
        )
    problem = refused(
        ask(stack, classifier, records(ROWS), keep=["label"]), 400, "invalid_request"
    )
    assert "keep names 'label'" in problem["detail"]


def test_body_over_five_megabytes_is_413_and_says_what_to_do(
    stack: Stack, model_id: str
) -> None:
    problem = refused(
        ask(stack, model_id, b" " * 5_000_001, CSV), 413, "request_too_large"
    )
    assert "/upload" in problem["hint"]


def test_nothing_is_stored_and_there_is_no_job(stack: Stack, model_id: str) -> None:
    def left() -> list[Any]:
        kept = [
            key
            for bucket in ("datasets", "models", "results")
            for key in stack.storage().keys(bucket)
        ]
        return [kept, stack.get("/jobs", limit=100).json()]

    before = left()
    answered(ask(stack, model_id, records(table(50)), keep=["col_0"]))
    assert left() == before


def test_eight_threads_in_parallel_get_the_right_answers(
    stack: Stack, model_id: str
) -> None:
    tables = [table(20 + i, seed=i) for i in range(8)]
    results = [stack.predict(rows, model_id) for rows in tables]
    expected = [stack.result(result)["y"].tolist() for result in results]

    def predicted(i: int) -> list[Any]:
        return [
            row["y"]
            for row in answered(ask(stack, model_id, parquet(tables[i % 8]), PARQUET))
        ]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(predicted, range(64))) == expected * 8


def test_online_worker_computes_with_one_thread_and_has_no_children(
    stack: Stack, model_id: str
) -> None:
    answered(ask(stack, model_id, parquet(table(10_000)), PARQUET))
    (worker,) = stack.part("online").children()
    assert worker.children() == []
    # A team of OpenMP or BLAS threads would have computed meanwhile, on a machine with a second
    # core.
    busy = [thread for thread in worker.threads() if thread.user_time > 0.05]
    assert len(busy) == 1


# Limits of its own


@pytest.fixture(scope="module")
def small(start_stack: StartStack) -> Stack:
    """Return a stack of two owners that takes and keeps little; requests are ann's."""
    stack = start_stack(
        workers=1,
        ONLINE_WORKERS="1",
        ONLINE_MAX_ROWS="100",
        ONLINE_MAX_BYTES="20000",
        ONLINE_CACHE_BYTES="700000",
        API_KEYS="ann:ann-key-0001,bob:bob-key-0002",
    )
    stack.headers = ANN
    return ready(stack)


@pytest.fixture(scope="module")
def anns(small: Stack) -> str:
    return small.fitted(table(60, 3), learner="linear", validation="none")


@pytest.mark.parametrize("body", ["records", "lines", "csv", "parquet", "stream"])
def test_too_many_rows_are_413_and_say_what_to_do(
    small: Stack, anns: str, body: str
) -> None:
    kind, write = BODIES[body]
    rows = pd.DataFrame({f"col_{i}": [0] * 101 for i in range(3)})
    assert len(answered(ask(small, anns, write(rows[:100]), kind))) == 100
    problem = refused(ask(small, anns, write(rows), kind), 413, "request_too_large")
    assert "100 rows" in problem["detail"]
    assert "job" in problem["hint"]


def test_too_many_bytes_are_413_with_or_without_a_length(
    small: Stack, anns: str
) -> None:
    body = csv(table(90, 3)) + b" " * 20_000
    for sent in (body, iter([body[:9_000], body[9_000:]])):
        problem = refused(ask(small, anns, sent, CSV), 413, "request_too_large")
        assert "20,000 bytes" in problem["detail"]
    assert len(answered(ask(small, anns, iter([csv(table(90, 3))]), CSV))) == 90


def test_packed_text_may_not_unpack_to_much_more(small: Stack, anns: str) -> None:
    body = gzip.compress(csv(table(90, 3)) + b"\n" * 10_000_000)
    assert len(body) < 20_000
    refused(ask(small, anns, body, CSV), 422, "invalid_table")


def test_model_of_another_owner_is_404(small: Stack, anns: str) -> None:
    answered(ask(small, anns, records(table(2, 3))))
    url, body = f"{small.url}/predict?model_id={anns}", json.loads(records(table(2, 3)))
    refused(
        requests.post(url, json=body, headers=BOB, timeout=40), 404, "model_not_found"
    )
    refused(requests.post(url, json=body, timeout=40), 401, "unauthorized")


def test_model_that_is_too_large_is_413_and_others_are_answered_all_the_same(
    small: Stack, anns: str
) -> None:
    rows = table(200, 3)
    large = small.fitted(
        rows,
        learner="forest",
        params='{"n_estimators": 400, "bootstrap": false}',
        validation="none",
    )
    assert small.get(f"/models/{large}").json()["file"]["size"] > 700_000
    problem = refused(ask(small, large, records(rows[:2])), 413, "model_too_large")
    assert "ONLINE_CACHE_BYTES" in problem["hint"]
    others = [
        small.fitted(rows, seed=i, validation="none", params='{"max_iter": 30}')
        for i in range(4)
    ]
    expected = [
        small.result(small.predict(rows[:9], model_id))["y"].tolist()
        for model_id in others
    ]
    for model_id, labels in itertools.chain.from_iterable(
        zip(others, expected, strict=True) for _ in "12"
    ):
        assert [
            row["y"] for row in answered(ask(small, model_id, records(rows[:9])))
        ] == labels


def test_without_online_workers_there_is_a_503_at_once(small: Stack, anns: str) -> None:
    tree = small.part("online")
    with stopped(tree):
        for worker in tree.children():
            worker.kill()
        gone = Path(small.data, "online", "socket")
        gone.rename(gone.with_name("aside"))
        answer = ask(small, anns, records(table(2, 3)))
        refused(answer, 503, "no_online_worker")
        assert answer.headers["Retry-After"] == "1"
        gone.with_name("aside").rename(gone)
    eventually(lambda: ask(small, anns, records(table(2, 3))).status_code == 200)


# Models that are not there, or not what they were


@pytest.fixture(scope="module")
def rough(start_stack: StartStack) -> Stack:
    """Return a stack whose parts are stopped and killed; it accepts large, slow tables."""
    return ready(
        start_stack(
            workers=1,
            ONLINE_WORKERS="2",
            ONLINE_MAX_ROWS="10000000",
            ONLINE_MAX_BYTES="100000000",
            ONLINE_MEMORY_BYTES="600000000",
        )
    )


@pytest.fixture(scope="module")
def forest(rough: Stack) -> str:
    """Return a model that takes seconds for many rows."""
    params = '{"n_estimators": 300}'
    return rough.fitted(
        table(2_000, 10), learner="forest", params=params, validation="none"
    )


def test_unknown_model_is_404(rough: Stack) -> None:
    refused(ask(rough, UNKNOWN, ONE), 404, "model_not_found")


def test_model_that_is_being_fitted_is_409_and_then_answers(rough: Stack) -> None:
    with rough.frozen():
        model_id = rough.fit(table())
        refused(ask(rough, model_id, ONE), 409, "model_not_ready")
    rough.finished(model_id)
    answered(ask(rough, model_id, ONE))


def test_model_whose_fit_failed_is_409_and_says_why(rough: Stack) -> None:
    model_id = rough.fit(table(50).assign(col_0=np.inf))
    assert rough.wait(model_id)["status"] == "failed"
    assert "infinite" in str(
        refused(ask(rough, model_id, ONE), 409, "model_failed")["errors"]
    )


@pytest.mark.parametrize("name", ["model.joblib", "manifest.json"])
def test_model_that_somebody_changed_is_untrusted_each_time(
    rough: Stack, name: str
) -> None:
    model_id, storage = rough.fitted(table()), rough.storage()
    content = storage.read("models", "default", model_id, f"1/{name}")
    changed = (
        content.replace(b'"y"', b'"z"') if name == "manifest.json" else content + b"."
    )
    assert changed != content
    storage.write("models", "default", model_id, f"1/{name}", changed)
    for _ in range(3):
        refused(ask(rough, model_id, ONE), 409, "model_untrusted")


def test_deleted_model_is_immediately_404_from_all_workers(rough: Stack) -> None:
    model_id = rough.fitted(table())
    for _ in range(8):
        answered(ask(rough, model_id, ONE))
    assert rough.process.poll() is None
    assert (
        requests.delete(f"{rough.url}/models/{model_id}", timeout=40).status_code == 204
    )
    for _ in range(8):
        refused(ask(rough, model_id, ONE), 404, "model_not_found")


def test_deleted_model_is_404_although_redis_is_away(rough: Stack) -> None:
    model_id, kept = rough.fitted(table()), rough.fitted(table())
    for _ in range(8):
        answered(ask(rough, model_id, ONE))
    with stopped(rough.part("redis")):
        # The deletion cannot end without Redis, but it has begun.
        refused(
            requests.delete(f"{rough.url}/models/{model_id}", timeout=40),
            503,
            "queue_unavailable",
        )
        for _ in range(4):
            refused(ask(rough, model_id, ONE), 404, "model_not_found")
        answered(ask(rough, kept, ONE))
    eventually(lambda: rough.get("/readyz").status_code == 200)


# Workers that die


@contextmanager
def stopped(*processes: psutil.Process) -> Iterator[None]:
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def online_workers(stack: Stack) -> list[psutil.Process]:
    return list(stack.part("online").children())


@contextmanager
def at_work(
    stack: Stack, model_id: str
) -> Iterator[tuple[psutil.Process, Future[requests.Response]]]:
    """Yield the worker that computes a long answer, and the request."""
    before = {worker: worker.cpu_times().user for worker in online_workers(stack)}
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(
            ask, stack, model_id, parquet(table(200_000)), PARQUET, PARQUET
        )
        yield (
            eventually(
                lambda: next(
                    (w for w, s in before.items() if w.cpu_times().user > s + 0.3), None
                )
            ),
            request,
        )


def is_replaced(
    stack: Stack, worker: psutil.Process, others: list[psutil.Process]
) -> bool:
    """Return whether another worker runs in place of this one, and the others are the same."""
    found = online_workers(stack)
    return (
        worker not in found
        and len(found) == len(others) + 1
        and set(others) <= set(found)
    )


def test_killed_worker_fails_its_question_alone_and_is_restarted(
    rough: Stack, forest: str
) -> None:
    parent = rough.part("online")
    with at_work(rough, forest) as (worker, request):
        others = [other for other in online_workers(rough) if other != worker]
        worker.kill()
        refused(request.result(), 500, "online_worker_lost")
        for _ in range(3):
            answered(ask(rough, forest, ONE))
    eventually(lambda: is_replaced(rough, worker, others))
    assert rough.part("online") == parent
    assert not list((rough.data / "scratch").glob(f"*{worker.pid}*"))
    for _ in range(8):
        answered(ask(rough, forest, ONE))


def test_busy_worker_does_not_delay_the_other(rough: Stack, forest: str) -> None:
    with at_work(rough, forest) as (worker, request), stopped(worker):
        for _ in range(5):
            answered(ask(rough, forest, ONE))
        worker.resume()
        assert request.result().status_code == 200


def test_when_no_worker_is_free_there_is_a_503_after_half_a_second(
    rough: Stack, forest: str
) -> None:
    with stopped(*online_workers(rough)):
        started = time.monotonic()
        answer = ask(rough, forest, ONE)
        refused(answer, 503, "no_online_worker")
        assert 0.4 < time.monotonic() - started < 5
        assert answer.headers["Retry-After"] == "1"
    answered(ask(rough, forest, ONE))


def test_worker_that_takes_too_much_memory_is_replaced(
    rough: Stack, forest: str
) -> None:
    before = online_workers(rough)
    body = (
        b"["
        + b",".join([json.dumps({f"col_{i}": i for i in range(10)}).encode()] * 700_000)
        + b"]"
    )
    refused(ask(rough, forest, body), 500, "online_worker_lost")
    eventually(
        lambda: (
            len(online_workers(rough)) == 2
            and len(set(online_workers(rough)) & set(before)) == 1
        )
    )
    assert "Killing the online worker" in (rough.data / "test.log").read_text()
    answered(ask(rough, forest, ONE))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_end_of_the_pool_leaves_no_process_and_the_stack_restarts_it(
    rough: Stack, forest: str, end: signal.Signals
) -> None:
    answered(ask(rough, forest, ONE))
    parent, workers = rough.part("online"), online_workers(rough)
    parent.send_signal(end)
    gone, alive = psutil.wait_procs([parent, *workers], timeout=20)
    assert (len(gone), alive) == (3, [])
    eventually(lambda: ask(rough, forest, ONE).status_code == 200)
    assert rough.part("online") != parent


def test_worker_that_is_told_to_stop_answers_its_question_first(
    rough: Stack, forest: str
) -> None:
    parent = rough.part("online")
    with at_work(rough, forest) as (_, request):
        parent.terminate()
        assert request.result().status_code == 200
    eventually(lambda: ask(rough, forest, ONE).status_code == 200)


def test_worker_that_takes_too_long_is_ended_and_replaced(
    start_stack: StartStack,
) -> None:
    stack = start_stack(
        workers=1, ONLINE_WORKERS="1", ONLINE_TIMEOUT_S="1", ONLINE_MAX_ROWS="10000000"
    )
    model_id = ready(stack).fitted(table(60, 3))
    (worker,) = online_workers(stack)
    path = str(stack.data / "online" / "socket")
    # The worker waits for a question that never comes.
    with protocol._connected(path, 30) as connection:
        assert connection.poll(20)
        with pytest.raises((EOFError, OSError)):
            connection.recv_bytes()
    eventually(lambda: is_replaced(stack, worker, []))
    assert "takes longer than 1 s" in (stack.data / "test.log").read_text()
    eventually(lambda: ask(stack, model_id, records(table(1, 3))).status_code == 200)
    stack.stop()


# The socket


QUESTION = Question("default", "request-1", "model-1", "labels", (0.5,), (), JSON, JSON)


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("s") / "online" / "socket")


@contextmanager
def serving(path: str, serve: Callable[[Any], Any]) -> Iterator[None]:
    """Serve one question by a thread, in place of a worker."""
    with protocol.listen(path) as listener:

        def run() -> None:
            with protocol.accept(listener) as connection:
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield
        thread.join()


def test_question_and_table_arrive_and_the_answer_comes_back(path: str) -> None:
    def serve(connection: Any) -> None:
        question, rows = protocol.receive_question(connection) or (None, b"")
        assert question is not None
        protocol.send_outcome(connection, f"{question.model_id} {rows!r}".encode())

    with serving(path, serve):
        assert protocol.ask(path, QUESTION, b"rows", 5) == b"model-1 b'rows'"


def test_server_raises_the_error_that_the_worker_sent(path: str) -> None:
    def serve(connection: Any) -> None:
        protocol.receive_question(connection)
        protocol.send_outcome(
            connection, InvalidTable("Wrong.", hint="Do this.", errors=["a", "b"])
        )

    with serving(path, serve), pytest.raises(InvalidTable) as raised:
        protocol.ask(path, QUESTION, b"rows", 5)
    assert (
        raised.value.cause()
        == InvalidTable("Wrong.", hint="Do this.", errors=["a", "b"]).cause()
    )


def test_worker_that_is_lost_with_the_question_is_an_error_of_its_own(
    path: str,
) -> None:
    with serving(path, lambda _: None), pytest.raises(OnlineWorkerLost):
        protocol.ask(path, QUESTION, b"x" * 10_000_000, 5)


def test_server_does_not_wait_forever_for_a_worker_that_reads_no_more(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ANSWER_MARGIN_S", 0.0)
    done = threading.Event()
    with serving(path, lambda _: done.wait(20)):
        with pytest.raises(OnlineWorkerLost):
            protocol.ask(path, QUESTION, b"x" * 10_000_000, 1)
        done.set()


def test_worker_notices_that_the_server_has_given_up(path: str) -> None:
    with protocol.listen(path) as listener:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(path)
        with protocol.accept(listener) as connection:
            assert protocol.receive_question(connection) is None
            protocol.send_outcome(connection, b"nobody hears this")


@pytest.mark.parametrize("said", [b"no JSON", b"[]", b'{"of": "a later version"}'])
def test_worker_lives_on_after_a_question_that_it_does_not_understand(
    path: str, said: bytes
) -> None:
    with protocol.listen(path) as listener, socket.socket(socket.AF_UNIX) as attempt:
        attempt.connect(path)
        with (
            Connection(attempt.detach()) as server,
            protocol.accept(listener) as worker,
        ):
            server.send_bytes(said)
            server.send_bytes(b"rows")
            assert protocol.receive_question(worker) is None


def test_server_without_online_workers_raises(path: str) -> None:
    with pytest.raises(NoOnlineWorker, match="No online worker runs"):
        protocol.ask(path, QUESTION, b"", 5)
    protocol.listen(path).close()
    with pytest.raises(NoOnlineWorker, match="No online worker runs"):
        protocol.ask(path, QUESTION, b"", 5)


def test_requests_beyond_the_waiting_connections_find_no_free_worker(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_WAITING_CONNECTIONS", 0)
    with protocol.listen(path), socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(path)
        with pytest.raises(NoOnlineWorker, match="was free"):
            protocol.ask(path, QUESTION, b"", 5)


def test_socket_lies_in_a_folder_of_its_own_user(path: str) -> None:
    folder = Path(path).parent
    protocol.listen(path).close()
    protocol.listen(path).close()
    assert [each.name for each in folder.iterdir()] == ["socket"]
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="nobody else may write it"):
        protocol.listen(path)
