"""A job whose inputs, options and code are those of an earlier one has that one's outcome, if asked
for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
import redis
import requests

from rowcast.api.schemas import FitRequest, PredictRequest
from rowcast.ids import new_id, time_of
from rowcast.jobs import reuse
from rowcast.store import publications, versions
from rowcast.store.object_store import Storage
from tests.support.http import delete
from tests.support.stack import Stack, submitted
from tests.support.tables import table

DIGEST = "0" * 64
BESIDE = {
    "reuse": True,
    "priority": "high",
    "timeout_s": 5,
    "callback_url": "https://example.org",
}
FIT = FitRequest(id=new_id()).work()
IDS = {"dataset_id": new_id(), "model_id": new_id()}
PREDICT = PredictRequest(**IDS).work()


@pytest.fixture(scope="module")
def connection(stack: Stack) -> redis.Redis:
    return stack.redis()


@pytest.fixture(scope="module")
def storage(stack: Stack) -> Storage:
    return stack.storage()


@pytest.fixture
def key() -> str:
    return uuid4().hex * 2


def key_of(
    kind: publications.Kind = "fit",
    digest: str = DIGEST,
    model: Any = None,
    **options: Any,
) -> str:
    given = FIT if kind == "fit" else PREDICT
    return reuse.key_of(kind, digest, {**given, **options}, versions.current(), model)


# What makes two jobs the same


@pytest.mark.parametrize("option", sorted(FIT))
def test_every_option_of_a_fit_counts(option: str) -> None:
    other: dict[str, Any] = {option: "other"}
    assert key_of(**other) != key_of()


@pytest.mark.parametrize("option", sorted(PREDICT))
def test_every_option_of_a_prediction_counts(option: str) -> None:
    assert key_of("predict", **{option: "other"}) != key_of("predict")


@pytest.mark.parametrize(("name", "value"), BESIDE.items())
def test_how_a_job_is_run_does_not_count(name: str, value: Any) -> None:
    assert key_of(**FitRequest(id=new_id(), **{name: value}).work()) == key_of()


def test_version_of_the_dataset_does_not_count() -> None:
    assert key_of(dataset={"size": 7, "tag": "x"}) == key_of()


def test_inputs_kind_and_code_count() -> None:
    keys = [
        key_of(),
        key_of(digest="1" * 64),
        key_of("predict"),
        key_of("predict", model=("a", DIGEST)),
        key_of("predict", model=("b", DIGEST)),
        key_of("predict", model=("a", "1" * 64)),
        reuse.key_of("fit", DIGEST, FIT, {**versions.current(), "code": "other"}),
        reuse.key_of("fit", DIGEST, FIT, {**versions.current(), "scikit-learn": "1.0"}),
    ]
    assert len(set(keys)) == len(keys)


def test_key_is_the_same_before_and_after_the_queue_and_in_any_order() -> None:
    params = {"learning_rate": 0.1, "max_iter": 10}
    backwards = dict(reversed(params.items()))
    options = json.loads(json.dumps({**FIT, "params": backwards}))
    assert reuse.key_of("fit", DIGEST, options, versions.current()) == key_of(
        params=params
    )


# What is noted and found


def publish(
    storage: Storage, kind: publications.Kind, job_id: str, manifest: bytes = b"{}"
) -> None:
    storage.write(
        publications.BUCKETS[kind], "acme", job_id, "1/manifest.json", manifest
    )


@pytest.fixture
def noted(connection: redis.Redis, storage: Storage, key: str) -> str:
    """Return a fit of acme's that was noted under `key`."""
    job_id = new_id()
    publish(storage, "fit", job_id)
    reuse.note(connection, "acme", key, job_id)
    return job_id


def test_noted_job_is_found_by_its_owner_for_a_month_from_the_last_use(
    connection: redis.Redis, storage: Storage, key: str, noted: str
) -> None:
    name = f"rowcast:reuse:acme:{key}"
    connection.expire(name, 100)
    assert reuse.find(connection, storage, "acme", key, "fit") == noted
    assert connection.ttl(name) > 29 * 24 * 3600
    assert reuse.find(connection, storage, "other", key, "fit") is None
    assert reuse.find(connection, storage, "acme", key[::-1], "fit") is None


Spoil = Callable[[Storage, str], None]
SPOILED: dict[str, Spoil] = {
    "deleted": lambda storage, job_id: storage.write(
        "models", "acme", job_id, "deleted", b""
    ),
    "canceled": lambda storage, job_id: storage.write(
        "models", "acme", job_id, "canceled", b""
    ),
    "damaged": lambda storage, job_id: publish(storage, "fit", job_id, b"{"),
    "gone": lambda storage, job_id: storage.delete(
        "models", "acme", job_id, ["1/manifest.json"]
    ),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_job_whose_outcome_is_gone_is_not_found(
    connection: redis.Redis, storage: Storage, key: str, noted: str, spoil: Spoil
) -> None:
    spoil(storage, noted)
    assert reuse.find(connection, storage, "acme", key, "fit") is None


def test_job_that_is_about_to_be_removed_is_not_found(
    connection: redis.Redis, storage: Storage, key: str, noted: str
) -> None:
    minted_at = time_of(noted)
    assert minted_at is not None
    moment = minted_at.timestamp()
    assert (
        reuse.find(connection, storage, "acme", key, "fit", oldest=moment + 1) is None
    )
    assert (
        reuse.find(connection, storage, "acme", key, "fit", oldest=moment - 1) == noted
    )


# On the wire


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table(321, 3, seed=4711)


@pytest.fixture(scope="module")
def fitted(stack: Stack, frame: pd.DataFrame) -> str:
    """Return a model of `frame`."""
    return stack.fitted(frame, reuse="true")


def assert_reused(answer: requests.Response, job_id: str) -> None:
    assert (answer.status_code, answer.json()) == (200, {"id": job_id, "reused": True})


def test_first_job_on_new_bytes_just_runs(stack: Stack) -> None:
    answer = stack.post("/fit", id=stack.upload(table(322, 3, seed=4711)), reuse="true")
    assert (answer.status_code, answer.json()["reused"]) == (202, False)
    stack.finished(answer.json()["id"])


def test_fit_of_the_same_bytes_is_answered_with_the_model_that_is_there(
    stack: Stack, frame: pd.DataFrame, fitted: str
) -> None:
    dataset = stack.status(fitted)["dataset_id"]
    assert_reused(stack.post("/fit", id=dataset, reuse="true"), fitted)
    assert_reused(
        stack.post("/fit", id=dataset, reuse="true", target="y", seed=0), fitted
    )
    assert stack.status(fitted)["status"] == "finished"


def test_bytes_are_known_under_another_id_once_a_job_has_read_them(
    stack: Stack, frame: pd.DataFrame, fitted: str
) -> None:
    dataset = stack.upload(frame)
    stack.finished(submitted(stack.post("/fit", id=dataset, validation="none")))
    assert_reused(stack.post("/fit", id=dataset, reuse="true"), fitted)


@pytest.mark.parametrize(
    "options", [{"seed": 1}, {"validation": "holdout"}, {"params": '{"max_iter": 3}'}]
)
def test_fit_with_other_options_is_a_new_one(
    stack: Stack, fitted: str, options: dict[str, Any]
) -> None:
    dataset = stack.status(fitted)["dataset_id"]
    answer = stack.post("/fit", id=dataset, reuse="true", **options)
    assert submitted(answer) != fitted
    stack.finished(submitted(answer))


def test_nothing_is_reused_unasked(stack: Stack, fitted: str) -> None:
    answer = stack.post("/fit", id=stack.status(fitted)["dataset_id"], importance_s=0)
    again = stack.post("/fit", id=stack.status(fitted)["dataset_id"], importance_s=0)
    stack.finished(submitted(answer))
    assert submitted(again) != submitted(answer)


def test_prediction_of_the_same_bytes_is_the_one_that_is_there_and_equals_a_new_one(
    stack: Stack, frame: pd.DataFrame, fitted: str
) -> None:
    params = {"dataset_id": stack.upload(frame.drop(columns="y")), "model_id": fitted}
    first = submitted(stack.post("/predict", **params))
    stack.finished(first)
    assert_reused(stack.post("/predict", **params, reuse="true"), first)
    new = submitted(
        stack.post("/predict", **params, reuse="true", output="probabilities")
    )
    assert stack.result(new)["y"].equals(stack.result(first)["y"])
    assert stack.result(submitted(stack.post("/predict", **params))).equals(
        stack.result(first)
    )


def test_deleted_model_is_fitted_again(stack: Stack) -> None:
    model = stack.fitted(table(323, 3, seed=4711))
    dataset = stack.status(model)["dataset_id"]
    assert_reused(stack.post("/fit", id=dataset, reuse="true"), model)
    assert delete(stack, f"/models/{model}").status_code == 204
    assert submitted(stack.post("/fit", id=dataset, reuse="true")) != model


def test_overwritten_dataset_is_neither_reused_nor_fitted(stack: Stack) -> None:
    upload = stack.get("/upload").json()
    for seed, code in ((4711, None), (4712, "dataset_damaged")):
        requests.put(
            upload["url"], data=table(324, 3, seed=seed).to_csv(index=False)
        ).raise_for_status()
        answer = stack.post("/fit", id=upload["id"], reuse="true")
        assert answer.json()["reused"] is False
        error = stack.wait(answer.json()["id"])["error"] or {}
        assert error.get("code") == code
