"""Small tables predicted by real online workers: the numbers of a job, and nothing is stored."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.support.online import (
    ANY,
    ARROW,
    BODIES,
    CSV,
    FORMATS,
    JSON,
    LINES,
    PARQUET,
    ROWS,
    answered,
    ask,
    csv,
    mixed,
    predictions_of_job,
    read_back,
    ready,
    records,
    refused,
)
from tests.support.stack import Stack, submitted
from tests.support.tables import parquet, table
from tests.support.waiting import eventually


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
def test_labels_sets_and_quantiles_are_those_of_a_job(
    stack: Stack,
    classifier: str,
    regressor: str,
    by_job: Callable[..., bytes],
    body: str,
) -> None:
    kind, write = BODIES[body]
    for model_id, output in (
        (classifier, "labels"),
        (classifier, "sets"),
        (regressor, "labels"),
        (regressor, "quantiles"),
    ):
        found = answered(ask(stack, model_id, write(ROWS), kind, output=output))
        assert found == predictions_of_job(
            by_job(body, model_id, "jsonl", output), JSON
        )


def test_contributions_are_those_of_a_job(
    stack: Stack, regressor: str, classifier: str, by_job: Callable[..., bytes]
) -> None:
    for model_id in (regressor, classifier):
        body = records(ROWS)
        found = answered(ask(stack, model_id, body, output="contributions"))
        job = predictions_of_job(
            by_job("records", model_id, "jsonl", "contributions"), JSON
        )
        for row, row_of_job in zip(found, job, strict=True):
            assert row == pytest.approx(row_of_job, abs=1e-9)
            moved = sum(row[name] for name in row if name.startswith("contribution_"))
            predicted = row.get("probability", row.get("price"))
            assert row["base_value"] + moved == pytest.approx(predicted, abs=1e-9)


def test_rows_that_take_too_long_to_explain_are_413(
    stack: Stack, regressor: str
) -> None:
    many = csv(mixed(9_000).drop(columns=["label", "price"]))
    problem = refused(
        ask(stack, regressor, many, CSV, output="contributions"),
        413,
        "request_too_large",
    )
    assert "can explain" in problem["detail"]
    assert "by a job" in problem["hint"]


def test_threshold_by_recall_is_that_of_a_job_whose_manifest_says_what_to_expect(
    stack: Stack, classifier: str
) -> None:
    wanted: dict[str, Any] = {
        "min_recall": 1,
        "positive_class": "yes, sir",
        "output": "probabilities",
    }
    job = submitted(
        stack.post(
            "/predict", dataset_id=stack.upload(ROWS), model_id=classifier, **wanted
        )
    )
    stack.finished(job)
    cut = stack.get(f"/results/{job}").json()["cut"]
    assert (cut["rule"], cut["positive_class"]) == ("min_recall", "yes, sir")
    assert cut["expected"]["recall"] == 1
    found = answered(ask(stack, classifier, records(ROWS), **wanted))
    assert [row["label"] for row in found] == [
        "yes, sir" if row["probability_yes, sir"] >= cut["threshold"] else "no"
        for row in found
    ]
    assert stack.result(job)["label"].tolist() == [row["label"] for row in found]


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
    given: dict[str, Any] = {
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

    def is_idle() -> bool:
        statuses = {job["status"] for job in left()[1]["jobs"]}
        return not statuses & {"queued", "started"}

    # Other tests may have left jobs that still run.
    eventually(is_idle, timeout_s=60)
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
    body = parquet(table(10_000))
    answered(ask(stack, model_id, body, PARQUET))
    (worker,) = stack.part("online").children()
    assert worker.children() == []
    before = {thread.id: thread.user_time for thread in worker.threads()}
    for _ in range(20):
        answered(ask(stack, model_id, body, PARQUET))
    # On a machine with a second core, a team of OpenMP or BLAS threads would have computed as long
    # as the first thread. Others only look after connections.
    worked_s = sorted(
        thread.user_time - before.get(thread.id, 0.0) for thread in worker.threads()
    )
    assert sum(worked_s[:-1]) < worked_s[-1] / 4
