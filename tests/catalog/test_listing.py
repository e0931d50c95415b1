"""Models and datasets are listed newest first, in pages."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pytest

from rowcast.catalog import listing
from rowcast.errors import StoreUnavailable
from rowcast.ids import new_id
from rowcast.store import publications
from tests.support.catalog import (
    FOREIGN,
    assert_deleted,
    ids_of,
    put_model,
)
from tests.support.http import assert_problem, delete
from tests.support.ids import id_at
from tests.support.stack import Stack
from tests.support.tables import table


@pytest.fixture(scope="module")
def years(keyed: Stack) -> list[str]:
    """Return ids of ann's models, newest first, made over years and within an hour."""
    storage = keyed.storage()
    moments = [
        "2026-03-02T09:59",
        "2026-03-02T09:01",
        "2026-03-02T00:00",
        "2026-03-01T23:59",
        "2025-01-31T10:00",
    ]
    ids = [
        id_at(datetime.fromisoformat(moment).replace(tzinfo=UTC)) for moment in moments
    ]
    for number, model_id in enumerate(ids):
        put_model(storage, "ann", model_id, n_rows=number)
    return ids


def test_models_are_listed_newest_first(
    by_owner: Callable[[str], Stack], years: list[str]
) -> None:
    answer = by_owner("ann").get("/models")
    assert ids_of(answer) == years
    assert answer.json()["next"] is None
    assert [line["n_rows"] for line in answer.json()["models"]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_pages_hold_every_model_once(
    limit: int, by_owner: Callable[[str], Stack], years: list[str]
) -> None:
    pages: list[list[str]] = []
    before: dict[str, str] = {}
    while True:
        answer = by_owner("ann").get("/models", limit=limit, **before)
        pages.append(ids_of(answer))
        if answer.json()["next"] is None:
            break
        before = {"before": answer.json()["next"]}
    assert list(chain.from_iterable(pages)) == years
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)


def test_line_of_a_model_tells_what_it_is(stack: Stack) -> None:
    # A new one, because the first page may not reach back to the one that all tests share.
    model_id = stack.fitted(table(), validation="none")
    line = next(
        line for line in stack.get("/models").json()["models"] if line["id"] == model_id
    )
    shown = {name: line[name] for name in ("target", "task", "learner", "n_rows")}
    assert shown == {
        "target": "y",
        "task": "classification",
        "learner": "boosting",
        "n_rows": 1000,
    }
    assert line["created_at"] == pytest.approx(
        stack.status(model_id)["ended_at"], abs=5
    )
    assert line["dataset_id"] == stack.status(model_id)["dataset_id"]
    assert set(line) == {*shown, "id", "created_at", "dataset_id", "score"}


@pytest.mark.parametrize(
    ("manifest", "score"),
    [
        (
            {"validation": {"scores": {"log_loss": 0.4, "accuracy": 0.9}}},
            {"metric": "accuracy", "value": 0.9},
        ),
        (
            {"validation": {"scores": {"mae": 2, "r2": 1}}},
            {"metric": "r2", "value": 1.0},
        ),
        ({"validation": {"scores": {"mae": 2}}}, None),
        ({"validation": {"scores": {"r2": float("nan")}}}, None),
        ({"validation": {"scores": {"r2": "good"}}}, None),
        ({"validation": {"scores": None}}, None),
        ({"validation": None}, None),
        ({}, None),
    ],
)
def test_score_is_accuracy_or_r2_where_there_is_one(
    manifest: dict[str, Any], score: dict[str, Any]
) -> None:
    assert listing.score_of(manifest) == score


def test_datasets_are_listed_with_size_and_time(
    by_owner: Callable[[str], Stack],
) -> None:
    bob = by_owner("bob")
    first, second = bob.upload(b"12345"), bob.upload(b"1")
    bob.get("/upload")
    page = bob.get("/datasets", limit=1).json()
    assert page["next"] == second
    (line,) = bob.get("/datasets", limit=1, before=second).json()["datasets"]
    assert (line["id"], line["size"]) == (first, 5)
    assert line["uploaded_at"] == pytest.approx(time.time(), abs=60)


def test_what_is_no_finished_model_is_not_listed(
    by_owner: Callable[[str], Stack], keyed: Stack
) -> None:
    cleo, storage = by_owner("cleo"), keyed.storage()
    model_id = cleo.fitted(table())
    assert cleo.wait(cleo.fit(table().assign(y=1)))["status"] == "failed"
    storage.write("models", "cleo", new_id(), "1/model.joblib", b"half")
    storage.write("models", "cleo", new_id(), "1/manifest.json", b"{damaged")
    storage.write("models", "cleo", new_id(), "1/manifest.json", b"{}")
    storage._client.put_object(
        "models", f"cleo/{datetime.now(UTC):%Y-%m-%d}/note", io.BytesIO(b""), 0
    )
    deleted = put_model(storage, "cleo", new_id())
    assert_deleted(delete(cleo, f"/models/{deleted}"))
    assert ids_of(cleo.get("/models")) == [model_id]
    # A page of other things may be empty, and says where the models go on.
    page = cleo.get("/models", limit=1).json()
    while not page["models"]:
        page = cleo.get("/models", limit=1, before=page["next"]).json()
    assert [line["id"] for line in page["models"]] == [model_id]


@pytest.mark.parametrize("path", ["/models", "/datasets"])
@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"limit": 0}, "'limit'"),
        ({"limit": 101}, "'limit'"),
        ({"limit": "many"}, "'limit'"),
        ({"before": "x"}, "'before'"),
        ({"before": FOREIGN}, "'before'"),
        ({"before": "ffffffff-ffff-7fff-bfff-ffffffffffff"}, "'before'"),
        ({"owner": "bob"}, "'owner'"),
    ],
)
def test_parameters_of_listings_are_checked(
    path: str, params: dict[str, Any], reason: str, stack: Stack
) -> None:
    assert reason in str(
        assert_problem(stack.get(path, **params), 400, "invalid_request")["detail"]
    )


def test_page_of_100_models_takes_no_time(
    by_owner: Callable[[str], Stack], keyed: Stack
) -> None:
    storage, dora = keyed.storage(), by_owner("dora")
    for _ in range(120):
        put_model(storage, "dora", new_id())
    took_s = []
    for _ in range(3):
        started_s = time.monotonic()
        assert len(ids_of(dora.get("/models", limit=100))) == 100
        took_s.append(time.monotonic() - started_s)
    assert min(took_s) < 1


def test_store_that_hangs_in_the_midst_of_a_page_is_a_503_in_time(
    by_owner: Callable[[str], Stack], keyed: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = keyed.storage()
    ids = [put_model(storage, "bob", new_id()) for _ in range(40)]
    looked = iter(range(1000))
    find = publications.find

    def find_until_paused(*arguments: Any) -> Any:
        if next(looked) == 20:
            keyed.part("store").suspend()
        return find(*arguments)

    monkeypatch.setattr(publications, "find", find_until_paused)
    started_s = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable):
            listing.models(storage, "bob", None, len(ids))
    finally:
        keyed.part("store").resume()
    assert time.monotonic() - started_s < 4


@pytest.mark.parametrize(
    ("size", "n_items"), [(1_000, 100), (300_000, 3), (5_000_000, 1)]
)
def test_a_page_is_bounded_in_bytes_and_says_where_to_go_on(
    size: int, n_items: int
) -> None:
    ids = [f"{number:03}" for number in range(200)]

    def describe(batch: list[str]) -> list[dict[str, Any] | None]:
        return [{"id": identifier, "text": "x" * size} for identifier in batch]

    page = listing._page(iter(ids), 100, describe, batch_size=16)
    assert [item["id"] for item in page.items] == ids[:n_items]
    assert page.next == ids[n_items - 1]
