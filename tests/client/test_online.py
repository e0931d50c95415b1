"""predict_table(): small tables are predicted online, all others by a job."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import client as module
from client import APIError, Client, ConflictError, InvalidRequestError, NotFoundError
from tests.support.fake_service import D1, D2, DROP, PREDICTIONS, Reply, Server, problem
from tests.support.tables import table as numbers
from tests.support.waiting import eventually

# The requests of a prediction by a job.
BY_JOB = ["/upload", "/predict", "/status", "/result"]
NOT_ONLINE = [
    problem(503, "no_online_worker"),
    problem(500, "online_worker_lost"),
    problem(413, "request_too_large"),
    problem(413, "model_too_large"),
    problem(409, "model_not_ready"),
    # From a service without online predictions.
    problem(415, "unsupported_media_type"),
    # From a proxy in front of the service.
    Reply(413, b"<h1>Too large</h1>"),
]


@pytest.fixture
def online_service(service: Server, objects: dict[str, bytes]) -> Server:
    """Return a service that answers one prediction online, and all others by a job."""
    headers = {"Content-Type": module.PARQUET}
    service.queued["/predict"] = [Reply(200, objects["/results/r1"], headers)]
    return service


def opened(path: Path) -> io.BytesIO:
    return io.BytesIO(path.read_bytes())


@pytest.mark.parametrize(
    "convert", [str, Path, Path.read_bytes, opened, pd.read_parquet]
)
def test_small_table_is_predicted_online(
    client: Client, online_service: Server, store: Server, tmp_path: Path, convert: Any
) -> None:
    path = tmp_path / "new.parquet"
    PREDICTIONS.to_parquet(path)
    options = {"output": "quantiles", "quantiles": (0.1, 0.9), "keep": ["a b"]}
    found = client.predict_table(convert(path), "m/1", **options)
    assert_frame_equal(found, PREDICTIONS)
    (request,) = online_service.requests
    query = {
        "model_id": "m%2F1",
        "output": "quantiles",
        "quantiles": "[0.1, 0.9]",
        "keep": '["a b"]',
    }
    assert (request.method, request.path, request.query) == ("POST", "/predict", query)
    assert request.headers["accept"] == module.PARQUET
    sent = pd.read_parquet(io.BytesIO(request.body))
    assert_frame_equal(sent, PREDICTIONS)
    assert client.jobs == []
    assert store.requests == []


def test_key_is_sent_with_an_online_prediction(
    online_service: Server, table: Path
) -> None:
    with Client(online_service.url, api_key="a-key") as client:
        client.predict_table(table, "m1")
    assert online_service.requests[0].headers["authorization"] == "Bearer a-key"


@pytest.mark.parametrize(
    "options",
    [{"format": "csv"}, {"priority": "low"}, {"reuse": True}, {"timeout_s": 9}],
)
def test_options_of_jobs_make_predict_table_submit_one(
    client: Client, online_service: Server, table: Path, options: Any
) -> None:
    online_service.queued.clear()
    found = client.predict_table(table, "m1", output="labels", **options)
    assert_frame_equal(found, PREDICTIONS)
    assert [request.path for request in online_service.requests] == BY_JOB
    sent = json.loads(online_service.received("/predict")[0].body)
    assert sent == {"dataset_id": D1, "model_id": "m1", "output": "labels", **options}
    assert client.jobs == [{"id": "r1", "kind": "predict"}]


def test_uploaded_dataset_is_predicted_by_a_job(
    client: Client, service: Server
) -> None:
    found = client.predict_table(D2, "m1")
    assert_frame_equal(found, PREDICTIONS)
    assert [request.path for request in service.requests] == BY_JOB[1:]


@pytest.mark.parametrize("size", [0, 5_000_001])
def test_table_that_is_large_or_empty_is_predicted_by_a_job(
    client: Client, service: Server, size: Any
) -> None:
    found = client.predict_table(b"x" * size, "m1")
    assert_frame_equal(found, PREDICTIONS)
    assert [request.path for request in service.requests] == BY_JOB


@pytest.mark.parametrize("answer", NOT_ONLINE)
def test_table_that_no_online_worker_predicts_is_predicted_by_a_job(
    client: Client, service: Server, table: Path, pauses: list[float], answer: Any
) -> None:
    service.queued["/predict"] = [answer]
    found = client.predict_table(table, "m1", keep=["a"])
    assert_frame_equal(found, PREDICTIONS)
    assert [request.path for request in service.requests] == ["/predict", *BY_JOB]
    asked = json.loads(service.received("/predict")[1].body)
    assert asked == {"dataset_id": D1, "model_id": "m1", "keep": ["a"]}
    # A pause between two polls of the job, and none before it.
    assert pauses == [module.SHORTEST_PAUSE_S]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(422, "invalid_table", errors=["a", "b"]), InvalidRequestError),
        (problem(404, "model_not_found"), NotFoundError),
        (problem(409, "model_failed"), ConflictError),
        (problem(500, "internal_error"), APIError),
    ],
)
def test_error_of_an_online_prediction_does_not_submit_a_job(
    client: Client, service: Server, table: Path, answer: Any, error: Any
) -> None:
    service.queued["/predict"] = [answer]
    with pytest.raises(error) as raised:
        client.predict_table(table, "m1")
    assert raised.value.code == answer.body["code"]
    assert len(service.requests) == 1


@pytest.mark.parametrize("fault", [DROP, Reply(502), problem(503, "store_unavailable")])
def test_online_prediction_is_repeated_after_a_transient_fault(
    client: Client, online_service: Server, table: Path, pauses: list[float], fault: Any
) -> None:
    online_service.queued["/predict"].insert(0, fault)
    found = client.predict_table(table, "m1")
    assert_frame_equal(found, PREDICTIONS)
    assert len(online_service.requests) == 2
    assert len(pauses) == 1


def test_online_answer_of_another_program_is_an_error(
    client: Client, service: Server, table: Path
) -> None:
    service.queued["/predict"] = [
        Reply(200, b"<h1>Welcome</h1>", {"Content-Type": "text/html"})
    ]
    with pytest.raises(APIError, match="not as Rowcast does"):
        client.predict_table(table, "m1")


def test_online_prediction_equals_that_of_a_job(live: Client) -> None:
    frame = numbers(90, 3)
    frame["day"] = pd.Timestamp("2024-02-29")
    frame["y"] = [1.5 * i for i in range(90)]
    model_id = live.fit(frame, None)

    def is_predicted_online() -> bool:
        n_jobs = len(live.jobs)
        live.predict_table(frame, model_id)
        return len(live.jobs) == n_jobs

    # Online workers start slower than their server.
    eventually(is_predicted_online)
    quantiles = {"output": "quantiles", "quantiles": [0.1, 0.9]}
    for options in ({}, {**quantiles, "keep": ["day", "col_0"]}):
        expected = live.predict_table(frame, model_id, priority="normal", **options)
        n_jobs = len(live.jobs)
        found = live.predict_table(frame, model_id, **options)
        assert len(live.jobs) == n_jobs
        assert_frame_equal(found, expected, check_exact=True)


def test_service_without_online_workers_predicts_by_jobs(start_stack: Any) -> None:
    with Client(start_stack(workers=1).url) as connected:
        frame = numbers(50, 2)
        model_id = connected.fit(frame, None)
        assert len(connected.predict_table(frame, model_id)) == 50
        assert [job["kind"] for job in connected.jobs] == ["fit", "predict"]
