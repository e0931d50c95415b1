"""Lists of models and datasets, and deletion."""

from __future__ import annotations

from typing import Any

import pytest

import client as module
from client import Client, ConflictError, NotFoundError
from tests.support.fake_service import Reply, Request, Server, problem
from tests.support.tables import table as numbers


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_listings_ask_for_pages_as_they_are_needed(
    client: Client, service: Server, kind: Any
) -> None:
    pages = [
        {kind: [{"id": "a"}, {"id": "b"}], "next": "b"},
        {kind: [], "next": "c"},
        {kind: [{"id": "d"}], "next": None},
    ]
    service.queued[f"/{kind}"] = [Reply(200, page) for page in pages]
    things = getattr(client, kind)()
    assert service.requests == []
    assert [next(things)["id"], next(things)["id"]] == ["a", "b"]
    assert len(service.requests) == 1
    assert [thing["id"] for thing in things] == ["d"]
    assert [request.query for request in service.requests] == [
        {"limit": "100"},
        {"limit": "100", "before": "b"},
        {"limit": "100", "before": "c"},
    ]


@pytest.mark.parametrize(("limit", "asked"), [(1, "1"), (3, "3"), (250, "100")])
def test_limit_of_a_listing_bounds_its_pages_too(
    client: Client, service: Server, limit: Any, asked: Any
) -> None:
    page = {"models": [{"id": "a"}] * int(asked), "next": "a"}
    service.answer = lambda _request: Reply(200, page)
    assert len(list(client.models(limit))) == limit
    assert service.requests[0].query["limit"] == asked


@pytest.mark.parametrize("kind", ["models", "datasets", "results"])
def test_delete_finds_the_kind_of_an_id(
    client: Client, service: Server, kind: Any
) -> None:
    def answer(request: Request) -> Reply:
        if request.path == f"/{kind}/x1":
            return Reply(204)
        return problem(404, "not_found")

    service.answer = answer
    client.delete("x1")
    assert {request.method for request in service.requests} == {"DELETE"}
    assert service.requests[-1].path == f"/{kind}/x1"


def test_delete_of_nothing_is_a_not_found_error(
    client: Client, service: Server
) -> None:
    service.answer = lambda _request: problem(404, "not_found")
    with pytest.raises(NotFoundError, match="No model, dataset or result x1 exists"):
        client.delete("x1")


def test_delete_of_a_model_that_is_being_fitted_is_a_conflict(
    client: Client, service: Server
) -> None:
    service.queued["/models/x1"] = [problem(409, "model_not_ready")]
    with pytest.raises(ConflictError):
        client.delete("x1")
    assert len(service.requests) == 1


def test_deleting_a_model_deletes_its_results(
    live: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    frame = numbers(50, 2)
    dataset_id = live.upload(frame)
    model_ids = [live.fit(dataset_id, None, validation="none") for _ in range(3)]
    result_id = live.predict(dataset_id, model_ids[0], None)
    assert [each["id"] for each in live.models(limit=3)] == model_ids[::-1]
    listed = [each["id"] for each in live.models()]
    assert listed == sorted(set(listed), reverse=True)
    assert next(live.datasets())["id"] == dataset_id
    live.delete(model_ids[0])
    with pytest.raises(NotFoundError):
        live.result(result_id)
    other = live.predict(dataset_id, model_ids[1], None)
    live.delete(other)
    with pytest.raises(NotFoundError):
        live.download(other)
    live.delete(dataset_id)
    assert dataset_id not in [each["id"] for each in live.datasets(limit=2)]
    with pytest.raises(NotFoundError):
        live.fit(dataset_id)
