"""Status, cancellation, logs and lists of jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from client import (
    Client,
    ConflictError,
    JobCanceledError,
    JobFailedError,
    Model,
    NotFoundError,
)
from tests.support.fake_service import D1, Reply, Server, job, problem
from tests.support.tables import slow_table
from tests.support.tables import table as numbers
from tests.support.waiting import eventually


def test_cancel_returns_the_status(client: Client, service: Server) -> None:
    assert client.cancel("j1")["status"] == "canceled"
    (request,) = service.requests
    assert (request.method, request.path) == ("POST", "/cancel")
    assert json.loads(request.body) == {"id": "j1"}


def test_cancel_of_a_job_that_has_ended_is_a_conflict(
    client: Client, service: Server
) -> None:
    ended = problem(409, "job_ended")
    service.queued["/cancel"] = [ended, problem(404, "job_not_found")]
    with pytest.raises(ConflictError):
        client.cancel("j1")
    with pytest.raises(NotFoundError):
        client.cancel("j1")


def test_jobs_are_listed_by_pages_and_filters(
    client: Client, service: Server, known: Model
) -> None:
    first = Reply(200, {"jobs": [job("queued"), job()], "next": "j1"})
    last = Reply(200, {"jobs": [job()], "next": None})
    service.queued["/jobs"] = [first, last, last]
    listed = client.list_jobs(
        status="queued", kind="fit", model_id=known, dataset_id=D1
    )
    assert [each["status"] for each in listed] == ["queued", "finished", "finished"]
    filters = {
        "limit": "100",
        "status": "queued",
        "kind": "fit",
        "model_id": "m1",
        "dataset_id": D1,
    }
    asked = [request.query for request in service.received("/jobs")]
    assert asked == [filters, {**filters, "before": "j1"}]
    assert len(list(client.list_jobs(1))) == 1
    assert service.requests[-1].query == {"limit": "1"}


def test_log_is_the_lines_of_the_job(client: Client, service: Server) -> None:
    log = {"id": "j1", "lines": ["Reading took 1 s.", ""]}
    service.queued["/jobs/j1/log"] = [Reply(200, log)]
    assert client.log("j1") == ["Reading took 1 s.", ""]


def test_status_of_a_failed_job_is_not_an_error(
    client: Client, service: Server
) -> None:
    service.queued["/status"] = [Reply(200, job("failed"))]
    assert client.status("j1")["status"] == "failed"


def test_canceled_job_stays_canceled(live: Client) -> None:
    model_id = live.fit(slow_table())
    result_id = live.predict(numbers(20), model_id)
    eventually(lambda: live.status(model_id)["status"] == "started")
    assert live.cancel(model_id)["status"] == "canceled"
    with pytest.raises(JobCanceledError):
        live.wait(model_id)
    with pytest.raises(JobFailedError) as raised:
        live.wait(result_id)
    assert raised.value.code == "dependency_failed"


def test_job_that_has_finished_cannot_be_canceled(live: Client, model_id: Any) -> None:
    with pytest.raises(ConflictError):
        live.cancel(model_id)
    assert live.status(model_id)["status"] == "finished"


def test_jobs_of_a_real_service_are_listed_and_have_logs(live: Client) -> None:
    dataset_id = live.upload(numbers(60, 2))
    model_id = live.fit(dataset_id, None, validation="none")
    result_id = live.predict(dataset_id, model_id, None)
    newest = live.list_jobs(2)
    fits = live.list_jobs(dataset_id=dataset_id, kind="fit")
    of_model = live.list_jobs(model_id=model_id, status="finished")
    assert [each["id"] for each in newest] == [result_id, model_id]
    assert [each["id"] for each in fits] == [model_id]
    assert [each["id"] for each in of_model][-1] == model_id
    assert live.log(model_id)
