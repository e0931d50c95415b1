"""Models and results by their ids: manifests, files, owners and outages."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from Crypto.Signature import eddsa

from rowcast.ids import new_id
from rowcast.store import documents, publications, signing
from rowcast.store.object_store import Bucket, Storage
from rowcast.store.publications import JobRef
from server import create_app
from tests.support.catalog import (
    FOREIGN,
    assert_deleted,
    ids_of,
    predicted,
    put_model,
    remains,
)
from tests.support.http import UNKNOWN, assert_problem, delete
from tests.support.stack import Stack
from tests.support.tables import table
from tests.support.waiting import eventually


def test_manifest_of_a_model_is_told_without_its_signature(
    stack: Stack, model_id: str
) -> None:
    about = stack.get(f"/models/{model_id.upper()}").json()
    found = publications.find(stack.storage(), JobRef("default", "fit", model_id))
    assert found is not None
    assert "signature" in found.manifest
    shown = signing.members(found.manifest)
    # When it goes follows from the settings, which may change after it was made.
    assert about == {**shown, "expires_at": None}
    assert about["id"] == model_id


def test_manifest_of_a_result_is_told(stack: Stack, model_id: str) -> None:
    result_id = stack.predict(table(50), model_id)
    stack.finished(result_id)
    about = stack.get(f"/results/{result_id}").json()
    assert (about["id"], about["model_id"], about["n_rows"]) == (
        result_id,
        model_id,
        50,
    )


def test_file_of_a_model_has_the_size_and_digest_told(
    stack: Stack, model_id: str
) -> None:
    answer = stack.get(f"/models/{model_id}/file").json()
    content = requests.get(answer["url"], timeout=40).content
    assert (len(content), hashlib.sha256(content).hexdigest()) == (
        answer["size"],
        answer["sha256"],
    )
    assert answer["expires_at"] == pytest.approx(time.time() + 3600, abs=60)


def test_signature_of_a_model_can_be_verified_as_documented(
    stack: Stack, model_id: str
) -> None:
    answer = stack.get(f"/models/{model_id}/file").json()
    keys = stack.get("/signing_keys").json()["keys"]
    digest = hashlib.sha256(answer["manifest"].encode()).hexdigest()
    owner, attempt = answer["owner"], answer["attempt"]
    message = f'["rowcast model","{owner}","{model_id}",{attempt},"{digest}"]'
    (key,) = [key for key in keys if key["key_id"] == answer["key_id"]]
    encoded = key["public_key"].removeprefix("ed25519-public-")
    public_key = eddsa.import_public_key(base64.urlsafe_b64decode(f"{encoded}="))
    signature = base64.b64decode(answer["signature"])
    eddsa.new(public_key, "rfc8032").verify(message.encode(), signature)
    manifest = json.loads(answer["manifest"])
    assert manifest["file"] == {"sha256": answer["sha256"], "size": answer["size"]}
    assert stack.get(f"/models/{model_id}").json() == {**manifest, "expires_at": None}


def test_server_gives_out_no_model_that_the_workers_did_not_sign(
    stack: Stack, storage: Storage
) -> None:
    model_id = stack.fitted(table())
    place = JobRef("default", "fit", model_id).place
    content = storage.read(*place, "1/manifest.json")
    manifest = documents.parsed(content, "manifest") | {"target": "z"}
    storage.write(*place, "1/manifest.json", documents.as_json(manifest))
    assert_problem(stack.get(f"/models/{model_id}/file"), 409, "model_untrusted")


@pytest.mark.parametrize(
    ("host", "is_inside"), [("server:8080", True), ("example.org", False)]
)
def test_url_of_a_file_names_the_endpoint_that_the_caller_can_reach(
    host: str, is_inside: bool, stack: Stack, model_id: str
) -> None:
    settings = stack.settings(
        s3_public_endpoint="https://tables.example.org",
        internal_hosts="server",
        trusted_hosts="example.org",
    )
    answer = (
        create_app(settings)
        .test_client()
        .get(f"/models/{model_id}/file", headers={"Host": host})
    )
    origin = settings.s3_endpoint if is_inside else "https://tables.example.org"
    assert answer.get_json()["url"].startswith(f"{origin}/models/default/")


@pytest.mark.parametrize("path", ["/models/{}", "/models/{}/file"])
def test_model_that_is_not_there_says_why(
    path: str, stack: Stack, model_id: str
) -> None:
    with stack.frozen():
        queued = stack.fit(table())
        assert_problem(stack.get(path.format(queued)), 409, "model_not_ready")
    stack.finished(queued)
    failed = stack.fit(table().assign(y=1))
    stack.wait(failed)
    assert_problem(stack.get(path.format(failed)), 409, "model_failed")
    for identifier in (UNKNOWN, FOREIGN, stack.predict(table(), model_id)):
        assert_problem(stack.get(path.format(identifier)), 404, "model_not_found")
    assert_problem(stack.get(path.format("x")), 400, "invalid_request")


def test_result_that_is_not_there_says_why(stack: Stack, model_id: str) -> None:
    with stack.frozen():
        queued = stack.predict(table(), model_id)
        assert_problem(stack.get(f"/results/{queued}"), 409, "not_finished")
    stack.finished(queued)
    assert_problem(stack.get(f"/results/{model_id}"), 400, "not_a_prediction")
    assert_problem(stack.get(f"/results/{UNKNOWN}"), 404, "job_not_found")
    assert_problem(stack.get("/results/x"), 400, "invalid_request")


def test_model_whose_manifest_says_nothing_of_its_file_is_untrusted(
    stack: Stack, storage: Storage
) -> None:
    model_id = put_model(storage, "default", new_id(), file="here")
    assert_problem(stack.get(f"/models/{model_id}/file"), 500, "object_damaged")
    assert_deleted(delete(stack, f"/models/{model_id}"))


def test_finished_job_whose_objects_vanished_does_not_exist(
    stack: Stack, storage: Storage, tmp_path: Path
) -> None:
    model_id = stack.fitted(table())
    result_id = predicted(stack, tmp_path, model_id)
    buckets: dict[Bucket, str] = {"models": model_id, "results": result_id}
    for bucket, identifier in buckets.items():
        names = storage.names(bucket, "default", identifier)
        storage.delete(bucket, "default", identifier, names)
    assert_problem(stack.get("/result", id=result_id), 404, "job_not_found")
    answer = stack.post("/predict", dataset_id=stack.upload(table()), model_id=model_id)
    assert_problem(answer, 404, "model_not_found")


def test_each_owner_lists_and_deletes_its_own(
    by_owner: Callable[[str], Stack], keyed: Stack, tmp_path: Path
) -> None:
    emil, finn = by_owner("emil"), by_owner("finn")
    model_id = emil.fitted(table())
    result_id = predicted(emil, tmp_path, model_id, owner="emil")
    datasets = ids_of(emil.get("/datasets"), "datasets")
    assert len(datasets) == 2
    assert (
        ids_of(finn.get("/models")) == ids_of(finn.get("/datasets"), "datasets") == []
    )
    for path in (f"/models/{model_id}", f"/models/{model_id}/file"):
        assert_problem(finn.get(path), 404, "model_not_found")
    assert_problem(finn.get(f"/results/{result_id}"), 404, "job_not_found")
    assert_problem(delete(finn, f"/models/{model_id}"), 404, "model_not_found")
    assert_problem(delete(finn, f"/results/{result_id}"), 404, "job_not_found")
    assert_problem(delete(finn, f"/datasets/{datasets[0]}"), 404, "dataset_not_found")
    assert len(emil.result(result_id)) == 50
    assert_deleted(delete(emil, f"/models/{model_id}"))
    assert remains(keyed.storage(), "emil", model_id, result_id) == set()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/models"),
        ("GET", f"/models/{UNKNOWN}"),
        ("GET", f"/models/{UNKNOWN}/file"),
        ("DELETE", f"/models/{UNKNOWN}"),
        ("GET", "/datasets"),
        ("DELETE", f"/datasets/{UNKNOWN}"),
        ("GET", f"/results/{UNKNOWN}"),
        ("DELETE", f"/results/{UNKNOWN}"),
    ],
)
def test_resources_want_a_key(method: str, path: str, keyed: Stack) -> None:
    assert_problem(
        requests.request(method, keyed.url + path, timeout=40), 401, "unauthorized"
    )


@contextmanager
def paused(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/models"),
        ("GET", "/models/{}"),
        ("GET", "/models/{}/file"),
        ("DELETE", "/models/{}"),
        ("GET", "/datasets"),
        ("DELETE", "/datasets/{}"),
        ("GET", "/results/{}"),
        ("DELETE", "/results/{}"),
    ],
)
def test_store_that_hangs_is_a_503_in_time(
    method: str, path: str, keyed: Stack
) -> None:
    headers = {"Authorization": "Bearer ann-secret-key"}
    with paused(keyed.part("store")):
        started_s = time.monotonic()
        answer = requests.request(
            method, keyed.url + path.format(new_id()), headers=headers, timeout=20
        )
        took_s = time.monotonic() - started_s
    assert_problem(answer, 503, "store_unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert took_s < 4
    eventually(lambda: keyed.get("/readyz").status_code == 200)
