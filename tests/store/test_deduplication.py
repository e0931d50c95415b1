"""Bytes need not be sent again that a worker has hashed and that still lie there, and no others."""

from __future__ import annotations

import hashlib
import socket
from typing import Any
from uuid import uuid4

import pytest
import redis
import requests

from rowcast.config import Settings
from rowcast.ids import new_id, time_of
from rowcast.redis_clients import connect_for_requests
from rowcast.store import deduplication
from rowcast.store.answers import Version
from rowcast.store.object_store import Storage
from tests.support.http import assert_problem
from tests.support.stack import Stack
from tests.support.tables import parquet, table


@pytest.fixture(scope="module")
def connection(stack: Stack) -> redis.Redis:
    return stack.redis()


@pytest.fixture(scope="module")
def storage(stack: Stack) -> Storage:
    return stack.storage()


@pytest.fixture
def data() -> bytes:
    """Return bytes that nobody else has uploaded."""
    return uuid4().bytes


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def uploaded(storage: Storage, data: bytes, owner: str = "acme") -> tuple[str, Version]:
    dataset_id = new_id()
    storage.write("datasets", owner, dataset_id, "data", data)
    return dataset_id, storage.version("datasets", owner, dataset_id, "data")


def noted(connection: redis.Redis, storage: Storage, data: bytes) -> str:
    """Return a dataset of acme's whose digest a worker has noted."""
    dataset_id, version = uploaded(storage, data)
    deduplication.note(connection, "acme", dataset_id, version, sha256(data))
    return dataset_id


def test_noted_bytes_are_found(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    dataset_id = noted(connection, storage, data)
    assert (
        deduplication.find(connection, storage, "acme", sha256(data), len(data))
        == dataset_id
    )


def test_bytes_that_nobody_has_hashed_are_not_found(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    uploaded(storage, data)
    assert (
        deduplication.find(connection, storage, "acme", sha256(data), len(data)) is None
    )


def test_right_digest_with_another_size_is_not_found(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    noted(connection, storage, data)
    assert (
        deduplication.find(connection, storage, "acme", sha256(data), len(data) + 1)
        is None
    )


def test_bytes_of_another_owner_are_not_found(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    noted(connection, storage, data)
    uploaded(storage, data, owner="other")
    assert (
        deduplication.find(connection, storage, "other", sha256(data), len(data))
        is None
    )


def test_deleted_dataset_is_not_found(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    dataset_id = noted(connection, storage, data)
    storage.delete("datasets", "acme", dataset_id, ["data"])
    assert (
        deduplication.find(connection, storage, "acme", sha256(data), len(data)) is None
    )


def test_overwritten_dataset_is_not_found_nor_has_it_a_digest(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    dataset_id = noted(connection, storage, data)
    storage.write("datasets", "acme", dataset_id, "data", data[::-1])
    changed = storage.version("datasets", "acme", dataset_id, "data")
    assert (
        deduplication.find(connection, storage, "acme", sha256(data), len(data)) is None
    )
    assert deduplication.digest_of(connection, "acme", dataset_id, changed) is None


def test_dataset_that_holds_other_bytes_by_now_is_found_by_those_alone(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    dataset_id, other = noted(connection, storage, data), data[::-1]
    storage.write("datasets", "acme", dataset_id, "data", other)
    version = storage.version("datasets", "acme", dataset_id, "data")
    deduplication.note(connection, "acme", dataset_id, version, sha256(other))
    assert (
        deduplication.find(connection, storage, "acme", sha256(data), len(data)) is None
    )
    assert (
        deduplication.find(connection, storage, "acme", sha256(other), len(other))
        == dataset_id
    )


def test_newest_dataset_of_the_same_bytes_is_found_then_the_one_before(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    (old, old_version), (new, new_version) = (
        uploaded(storage, data),
        uploaded(storage, data),
    )
    # The order of the jobs is not that of the uploads.
    deduplication.note(connection, "acme", new, new_version, sha256(data))
    deduplication.note(connection, "acme", old, old_version, sha256(data))
    assert (
        deduplication.find(connection, storage, "acme", sha256(data), len(data)) == new
    )
    storage.delete("datasets", "acme", new, ["data"])
    assert (
        deduplication.find(connection, storage, "acme", sha256(data), len(data)) == old
    )


def test_dataset_that_is_about_to_be_removed_is_not_found(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    dataset_id = noted(connection, storage, data)
    minted_at = time_of(dataset_id)
    assert minted_at is not None
    moment = minted_at.timestamp()
    find = [connection, storage, "acme", sha256(data), len(data)]
    assert deduplication.find(*find, oldest=moment + 1) is None  # type: ignore[arg-type]
    assert deduplication.find(*find, oldest=moment - 1) == dataset_id  # type: ignore[arg-type]


def test_only_the_newest_datasets_of_the_same_bytes_are_remembered(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    ids = [
        noted(connection, storage, data) for _ in range(deduplication.N_REMEMBERED + 2)
    ]
    storage.delete("datasets", "acme", ids.pop(), ["data"])
    assert (
        deduplication.find(connection, storage, "acme", sha256(data), len(data))
        == ids[-1]
    )
    (name,) = connection.keys(f"rowcast:content:acme:{sha256(data)}:*")
    assert connection.zcard(name) == deduplication.N_REMEMBERED - 1


def test_digest_is_that_of_the_very_version(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    dataset_id, version = uploaded(storage, data)
    assert deduplication.digest_of(connection, "acme", dataset_id, version) is None
    deduplication.note(connection, "acme", dataset_id, version, sha256(data))
    assert deduplication.digest_of(connection, "acme", dataset_id, version) == sha256(
        data
    )
    assert (
        deduplication.digest_of(
            connection, "acme", dataset_id, Version(version.size, "other")
        )
        is None
    )
    assert deduplication.digest_of(connection, "other", dataset_id, version) is None


def test_memory_lasts_for_a_month_from_the_last_use(
    connection: redis.Redis, storage: Storage, data: bytes
) -> None:
    dataset_id = noted(connection, storage, data)
    names = [
        f"rowcast:digest:acme:{dataset_id}",
        f"rowcast:content:acme:{sha256(data)}:{len(data)}",
    ]
    for name in names:
        assert connection.ttl(name) > 29 * 24 * 3600
        connection.expire(name, 100)
    deduplication.find(connection, storage, "acme", sha256(data), len(data))
    assert all(connection.ttl(name) > 29 * 24 * 3600 for name in names)


def test_without_redis_nothing_is_found_and_noting_is_no_failure(
    storage: Storage, data: bytes
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}/0"
        dead = connect_for_requests(Settings(redis_url=url))
        dataset_id = noted(dead, storage, data)
        assert (
            deduplication.find(dead, storage, "acme", sha256(data), len(data)) is None
        )
    assert storage.names("datasets", "acme", dataset_id) == ["data"]


# On the wire


def claim(stack: Stack, data: bytes) -> dict[str, Any]:
    answer = stack.post("/upload", sha256=sha256(data), size=len(data))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_bytes_are_offered_once_a_job_has_read_them(stack: Stack) -> None:
    data = parquet(table(317, 3, seed=4711))
    before = claim(stack, data)
    assert before["exists"] is False
    requests.put(before["url"], data=data).raise_for_status()
    # Uploaded, and claimed by the uploader; nobody has looked at the bytes yet.
    assert claim(stack, data)["exists"] is False
    stack.finished(stack.post("/fit", id=before["id"], validation="none").json()["id"])
    assert claim(stack, data) == {
        "id": before["id"],
        "exists": True,
        "url": None,
        "expires_at": None,
    }
    stack.finished(
        stack.post("/fit", id=claim(stack, data)["id"], validation="none").json()["id"]
    )


def test_claimed_digest_of_other_bytes_is_never_believed(stack: Stack) -> None:
    data, claimed = parquet(table(318, 3, seed=4711)), parquet(table(319, 3, seed=4711))
    answer = claim(stack, claimed)
    requests.put(answer["url"], data=data).raise_for_status()
    stack.finished(stack.post("/fit", id=answer["id"], validation="none").json()["id"])
    assert claim(stack, claimed)["exists"] is False
    assert claim(stack, data)["id"] == answer["id"]


def test_bytes_of_a_table_that_was_refused_by_its_job_are_offered_too(
    stack: Stack,
) -> None:
    frame = table(320, 3, seed=4711)
    frame.loc[3, "col_1"] = float("inf")
    model = stack.fit(frame)
    assert stack.wait(model)["status"] == "failed"
    assert claim(stack, parquet(frame))["id"] == stack.status(model)["dataset_id"]


@pytest.mark.parametrize(
    "params",
    [
        {"sha256": "0" * 64},
        {"size": 1},
        {"sha256": "0" * 63, "size": 1},
        {"sha256": "A" * 64, "size": 1},
        {"sha256": "0" * 64, "size": -1},
        {"sha256": "0" * 64, "size": "many"},
    ],
)
def test_malformed_claims_are_refused_by_name(
    stack: Stack, params: dict[str, Any]
) -> None:
    problem = assert_problem(stack.post("/upload", **params), 400, "invalid_request")
    assert any(name in str(problem["errors"]) for name in params)


def test_claim_may_come_by_get_and_in_a_body(stack: Stack) -> None:
    params = {"sha256": "0" * 64, "size": 1}
    assert stack.get("/upload", **params).json()["exists"] is False
    assert requests.post(stack.url + "/upload", json=params).json()["exists"] is False
