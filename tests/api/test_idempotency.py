"""The same request with the same Idempotency-Key makes one thing and has one answer, whatever
dies."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis
import requests

from rowcast.api import idempotency
from rowcast.api.idempotency import Answer, digest_of, once, reserve
from rowcast.errors import (
    DatasetNotFound,
    IdempotencyConflict,
    InvalidRequest,
    StoreUnavailable,
)
from server import create_app
from tests.support.http import UNKNOWN, assert_problem
from tests.support.stack import Stack, submitted
from tests.support.tables import table
from tests.support.waiting import eventually

A, B = digest_of("POST", "/fit", {"seed": 1}), digest_of("POST", "/fit", {"seed": 2})


@pytest.fixture(scope="module")
def connection(stack: Stack) -> redis.Redis:
    return stack.redis()


@pytest.fixture
def key() -> str:
    return f"order {uuid4()}"


def made(identifier: str) -> Answer:
    return Answer(202, json.dumps({"id": identifier}).encode())


def fails(error: Exception) -> Any:
    def work(_: str) -> Answer:
        raise error

    return work


def fit(stack: Stack, key: str, **params: Any) -> requests.Response:
    return requests.post(
        stack.url + "/fit", params=params, headers={"Idempotency-Key": key}, timeout=40
    )


# The key, its reservation and its answer


def test_work_is_done_once_and_answered_twice(
    connection: redis.Redis, key: str
) -> None:
    first, is_first_replayed = once(connection, "acme", key, A, made)
    second, is_second_replayed = once(
        connection, "acme", key, A, fails(AssertionError("done again"))
    )
    assert (first, is_first_replayed) == (second, False)
    assert is_second_replayed


def test_body_comes_back_byte_for_byte(connection: redis.Redis, key: str) -> None:
    body = '{"expires_at": 1795425001.4000001, "name": "größe"}\n\0'.encode()
    once(connection, "acme", key, A, lambda _: Answer(200, body))
    assert once(connection, "acme", key, A, made) == (Answer(200, body), True)


def test_another_request_with_the_same_key_conflicts(
    connection: redis.Redis, key: str
) -> None:
    once(connection, "acme", key, A, made)
    with pytest.raises(IdempotencyConflict):
        once(connection, "acme", key, B, made)


def test_keys_belong_to_their_owner(connection: redis.Redis, key: str) -> None:
    acme, _ = once(connection, "acme", key, A, made)
    other, is_replayed = once(connection, "other", key, B, made)
    assert not is_replayed
    assert other != acme


def test_refused_request_frees_its_key(connection: redis.Redis, key: str) -> None:
    with pytest.raises(DatasetNotFound):
        once(connection, "acme", key, A, fails(DatasetNotFound()))
    assert once(connection, "acme", key, B, made)[1] is False


@pytest.mark.parametrize(
    "error", [StoreUnavailable(), OSError("the process is going down")]
)
def test_after_a_failure_the_same_request_works_with_the_same_id(
    connection: redis.Redis, key: str, error: Exception
) -> None:
    ids = []

    def work(identifier: str) -> Answer:
        ids.append(identifier)
        raise error

    with pytest.raises(type(error)):
        once(connection, "acme", key, A, work)
    assert once(connection, "acme", key, A, made) == (made(ids[0]), False)


def test_request_whose_server_died_is_done_again_with_the_same_id(
    connection: redis.Redis, key: str
) -> None:
    dead = reserve(connection, "acme", key, A)
    assert once(connection, "acme", key, A, made) == (made(dead.id), False)


def test_refusal_of_one_try_keeps_the_id_that_another_may_have_worked_with(
    connection: redis.Redis, key: str
) -> None:
    one, two = reserve(connection, "acme", key, A), reserve(connection, "acme", key, A)
    for refused in (one, two):
        idempotency.free(connection, refused)
        assert reserve(connection, "acme", key, A).id == one.id


def test_refusal_of_one_try_leaves_the_answer_of_the_other(
    connection: redis.Redis, key: str
) -> None:
    one, two = reserve(connection, "acme", key, A), reserve(connection, "acme", key, A)
    idempotency.finish(connection, one, made(one.id))
    idempotency.free(connection, two)
    assert reserve(connection, "acme", key, A).answer == made(one.id)


def test_requests_at_once_work_with_one_id_and_have_one_answer(
    connection: redis.Redis, key: str
) -> None:
    together, ids = threading.Barrier(8), []

    def work(identifier: str) -> Answer:
        together.wait(10)
        ids.append(identifier)
        return Answer(200, uuid4().bytes)

    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: once(connection, "acme", key, A, work), range(8))
        )
    assert len(set(ids)) == 1
    assert len({answer for answer, _ in answers}) == 1
    assert sum(not is_replayed for _, is_replayed in answers) == 1


def test_key_that_redis_lost_meanwhile_gets_the_answer_all_the_same(
    connection: redis.Redis, key: str
) -> None:
    place = reserve(connection, "acme", key, A)
    connection.delete(place.name)
    idempotency.finish(connection, place, made(place.id))
    assert reserve(connection, "acme", key, A).answer == made(place.id)


def test_late_answer_leaves_the_key_of_another_request_alone(
    connection: redis.Redis, key: str
) -> None:
    late = reserve(connection, "acme", key, A)
    idempotency.free(connection, late)
    other = reserve(connection, "acme", key, B)
    assert idempotency.finish(connection, late, made(late.id)) == made(late.id)
    assert reserve(connection, "acme", key, B).answer is None
    assert idempotency.finish(connection, other, made(other.id)) == made(other.id)


def test_key_lives_for_a_day_from_the_first_request_on(
    connection: redis.Redis, key: str
) -> None:
    place = reserve(connection, "acme", key, A)
    assert 0 < connection.ttl(place.name) <= 24 * 3600
    connection.expire(place.name, 100)
    idempotency.finish(connection, place, made(place.id))
    assert 0 < connection.ttl(place.name) <= 100


@pytest.mark.parametrize("malformed", ["", "x" * 256, "größe", "a\tb", "a\nb", "\x7f"])
def test_malformed_key_is_refused(connection: redis.Redis, malformed: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        once(connection, "acme", malformed, A, made)
    assert "255 printable ASCII" in refusal.value.hint


def test_key_itself_is_not_kept(connection: redis.Redis) -> None:
    place = reserve(connection, "acme", "customer 4711", A)
    assert "4711" not in place.name
    assert b"4711" not in b"".join(connection.hvals(place.name))  # type: ignore[arg-type]


# On the wire


def test_second_post_with_a_key_makes_no_second_job(stack: Stack, key: str) -> None:
    dataset = stack.upload(table(60, 3))
    first, second = (fit(stack, key, id=dataset) for _ in range(2))
    assert submitted(first) == submitted(second)
    assert first.content == second.content
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Content-Type"] == "application/json"
    model = submitted(first)
    assert stack.finished(model)["attempts"] == 1
    listed = [
        m
        for m in stack.get("/models", limit=100).json()["models"]
        if m["dataset_id"] == dataset
    ]
    assert [m["id"] for m in listed] == [model]


def test_prediction_is_made_once(stack: Stack, model_id: str, key: str) -> None:
    params = {"dataset_id": stack.upload(table(20)), "model_id": model_id}
    headers = {"Idempotency-Key": key}
    answers = [
        requests.post(stack.url + "/predict", params=params, headers=headers)
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    stack.finished(submitted(answers[1]))


def test_parameters_count_wherever_they_stand_and_whatever_their_order(
    stack: Stack, key: str
) -> None:
    dataset = stack.upload(table(60, 3))
    first = fit(stack, key, id=dataset, seed=7, validation="none")
    body = {
        "validation": "none",
        "seed": 7,
        "id": dataset.upper(),
        "learner": "auto",
        "target": None,
    }
    second = requests.post(
        stack.url + "/fit", json=body, headers={"Idempotency-Key": key}
    )
    assert second.headers["Idempotency-Replayed"] == "true"
    assert submitted(first) == submitted(second)


def test_another_body_with_the_same_key_is_409_with_what_to_do(
    stack: Stack, key: str
) -> None:
    dataset = stack.upload(table(60, 3))
    submitted(fit(stack, key, id=dataset))
    problem = assert_problem(
        fit(stack, key, id=dataset, seed=1), 409, "idempotency_conflict"
    )
    assert "new key" in str(problem["hint"])
    upload = requests.post(stack.url + "/upload", headers={"Idempotency-Key": key})
    assert_problem(upload, 409, "idempotency_conflict")


def test_refused_fit_may_be_corrected_under_the_same_key(
    stack: Stack, key: str
) -> None:
    assert_problem(fit(stack, key, id=UNKNOWN), 404, "dataset_not_found")
    submitted(fit(stack, key, id=stack.upload(table(60, 3))))


def test_uploads_at_once_get_one_id_and_one_url(stack: Stack, key: str) -> None:
    def upload(_: int) -> requests.Response:
        return requests.post(
            stack.url + "/upload", headers={"Idempotency-Key": key}, timeout=40
        )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(upload, range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


def test_fits_at_once_get_one_id(stack: Stack, key: str) -> None:
    dataset = stack.upload(table(60, 3))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: fit(stack, key, id=dataset), range(8)))
    (model,) = {submitted(answer) for answer in answers}
    stack.finished(model)


def test_retry_after_the_death_of_the_server_gets_the_id_that_was_reserved(
    stack: Stack, connection: redis.Redis, key: str
) -> None:
    dataset = stack.upload(table(60, 3))
    dead = reserve(
        connection,
        "default",
        key,
        digest_of("POST", "/fit", {"query": {"id": dataset}}),
    )
    answer = fit(stack, key, id=dataset)
    assert submitted(answer) == dead.id
    assert "Idempotency-Replayed" not in answer.headers
    stack.finished(dead.id)


@pytest.mark.parametrize("is_canceled", [False, True], ids=["finished", "canceled"])
def test_retry_of_a_job_that_redis_has_forgotten_does_not_run_it_again(
    stack: Stack, connection: redis.Redis, key: str, is_canceled: bool
) -> None:
    client = create_app(stack.settings(job_ttl_s=1)).test_client()
    request = {
        "query_string": {"id": stack.upload(table(60, 3))},
        "headers": {"Idempotency-Key": key},
    }
    job_id = str(client.post("/fit", **request).get_json()["id"])
    if is_canceled:
        client.post("/cancel", query_string={"id": job_id})
    ended = eventually(
        lambda: (s := stack.get("/status", id=job_id).json())["ended_at"] and s
    )
    # The server died before it had noted its answer.
    connection.hdel(reserved_name(connection, job_id), "status", "answer")
    eventually(lambda: not connection.exists(f"rq:job:{job_id}"))
    again = client.post("/fit", **request)
    assert (again.status_code, again.get_json()["id"]) == (202, job_id)
    assert "Idempotency-Replayed" not in again.headers
    assert stack.get("/status", id=job_id).json() == ended


def reserved_name(connection: redis.Redis, job_id: str) -> bytes:
    names: Any = connection.keys("rowcast:idempotency:default:*")
    ids = {connection.hget(name, "id"): name for name in names}
    return bytes(ids[job_id.encode()])


def test_after_redis_lost_its_keys_the_request_is_a_new_one(
    stack: Stack, connection: redis.Redis, key: str
) -> None:
    dataset = stack.upload(table(60, 3))
    first = submitted(fit(stack, key, id=dataset))
    connection.delete(*connection.keys("rowcast:idempotency:default:*"))
    again = fit(stack, key, id=dataset)
    assert submitted(again) != first
    assert "Idempotency-Replayed" not in again.headers


def test_key_of_a_get_says_nothing(stack: Stack, key: str) -> None:
    headers = {"Idempotency-Key": key}
    answers = [
        requests.get(stack.url + "/upload", headers=headers).json() for _ in range(2)
    ]
    assert answers[0]["id"] != answers[1]["id"]


@pytest.mark.parametrize("malformed", ["", "x" * 256])
def test_every_post_takes_the_header_and_refuses_a_malformed_one(
    stack: Stack, malformed: str
) -> None:
    paths = stack.get("/openapi.json").json()["paths"]
    posts = {
        path: methods["post"] for path, methods in paths.items() if "post" in methods
    }
    # Its answer has a key, which must not be kept to be given again.
    del posts["/keys"]
    assert posts
    for path, described in posts.items():
        assert "Idempotency-Key" in {
            parameter["name"] for parameter in described["parameters"]
        }
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        # The body of /predict may be a table instead, to be predicted online: that makes nothing.
        named = schema.get("oneOf", [schema])[0]["properties"]
        params = {
            name: UNKNOWN for name in ("id", "dataset_id", "model_id") if name in named
        }
        headers = {"Idempotency-Key": malformed}
        answer = requests.post(stack.url + path, params=params, headers=headers)
        assert "Idempotency-Key" in str(
            assert_problem(answer, 400, "invalid_request")["detail"]
        )


def test_parameters_nested_too_deeply_are_400_with_a_key_too(
    stack: Stack, key: str
) -> None:
    answer = fit(stack, key, id=UNKNOWN, params='{"a":' + "[" * 400 + "]" * 400 + "}")
    assert_problem(answer, 400, "invalid_request")


def test_without_redis_a_key_is_503_and_no_key_is_no_matter(
    stack: Stack, key: str
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings = stack.settings(
            redis_url=f"redis://127.0.0.1:{closed.getsockname()[1]}/0"
        )
        client = create_app(settings).test_client()
        answer = client.post("/upload", headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json["code"]) == (503, "queue_unavailable")  # type: ignore[index]
        assert answer.headers["Retry-After"] == "1"
        assert client.post("/upload").status_code == 200


def test_only_the_newest_keys_of_an_owner_are_kept(connection: redis.Redis) -> None:
    owner, now = f"owner-{uuid4()}", time.time()
    first = reserve(connection, owner, "first", A)
    kept = f"rowcast:idempotency_keys:{owner}"
    others = {f"key {number}": now for number in range(idempotency.MAX_KEYS)}
    connection.zadd(kept, {first.name: now - 60, **others})

    reserve(connection, owner, "last", A)
    assert connection.zcard(kept) == idempotency.MAX_KEYS
    assert not connection.exists(first.name)
    # The key is free again, and others' keys are not touched.
    assert reserve(connection, owner, "first", B).id != first.id


def test_a_key_that_is_freed_counts_no_more(connection: redis.Redis) -> None:
    owner = f"owner-{uuid4()}"
    with pytest.raises(DatasetNotFound):
        once(connection, owner, "order", A, fails(DatasetNotFound("None.")))
    assert connection.zcard(f"rowcast:idempotency_keys:{owner}") == 0
