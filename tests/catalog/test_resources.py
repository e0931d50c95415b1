"""What was made can be listed, looked at and deleted, and what is deleted is gone."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from rowcast.catalog import deletion, listing
from rowcast.errors import DatasetNotFound, JobNotFound, ModelNotFound, StoreUnavailable
from rowcast.ids import folder_of, new_id
from rowcast.jobs import publishing
from rowcast.jobs.context import Run
from rowcast.jobs.service import Jobs
from rowcast.store import publications, records
from rowcast.store.object_store import Bucket, Storage
from rowcast.store.publications import JobRef
from server import create_app
from tests.support.http import UNKNOWN, assert_problem, delete
from tests.support.ids import id_at
from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import slow_table, table
from tests.support.waiting import eventually

FOREIGN = "7bd7ef3e-2bb0-4b3e-8a0e-7d4a43a9b1b0"
OWNERS = ("ann", "bob", "cleo", "dora", "emil", "finn")
MANIFEST = {
    "created_at": 1.5,
    "dataset_id": UNKNOWN,
    "target": "y",
    "task": "regression",
    "learner": "boosting",
    "n_rows": 10,
    "file": {"sha256": "0" * 64, "size": 1},
}


@pytest.fixture(scope="module")
def keyed(start_stack: StartStack) -> Stack:
    return start_stack(
        workers=1, API_KEYS=",".join(f"{name}:{name}-secret-key" for name in OWNERS)
    )


@pytest.fixture(scope="module")
def by_owner(keyed: Stack) -> Callable[[str], Stack]:
    def act_as(owner: str) -> Stack:
        return Stack(
            keyed.process,
            keyed.url,
            keyed.data,
            {"Authorization": f"Bearer {owner}-secret-key"},
        )

    return act_as


@pytest.fixture(scope="module")
def storage(stack: Stack) -> Storage:
    return stack.storage()


@pytest.fixture(scope="module")
def jobs(stack: Stack, storage: Storage) -> Jobs:
    return Jobs(stack.redis(), stack.settings(), storage)


def assert_deleted(answer: requests.Response) -> None:
    assert (answer.status_code, answer.content) == (204, b""), answer.text


def keys_of(storage: Storage, bucket: Bucket, owner: str, identifier: str) -> list[str]:
    """Return all keys of a bucket that name an id, wherever they lie."""
    return [
        key
        for key in storage._list(bucket, f"{owner}/", recursive=True)
        if identifier in key
    ]


def remains(storage: Storage, owner: str, *ids: str) -> set[str]:
    """Return what is left of ids in all buckets, without the tombstones, which are empty."""
    buckets: tuple[Bucket, ...] = ("datasets", "models", "results")
    found = {
        key
        for bucket in buckets
        for id_ in ids
        for key in keys_of(storage, bucket, owner, id_)
    }
    return found - {f"{folder_of(owner, id_)}/deleted" for id_ in ids}


def put_model(storage: Storage, owner: str, model_id: str, **manifest: Any) -> str:
    storage.write("models", owner, model_id, "1/model.joblib", b"x")
    content = json.dumps({**MANIFEST, "id": model_id, **manifest}).encode()
    storage.write("models", owner, model_id, "1/manifest.json", content)
    return model_id


def job_on(
    stack: Stack,
    storage: Storage,
    folder: Path,
    attempt: int = 1,
    job: JobRef | None = None,
) -> Run:
    job = job or JobRef("default", "fit", new_id())
    return Run(job, attempt, stack.settings(), storage, folder, lambda: False, storage)


def predicted(stack: Stack, folder: Path, model_id: str, owner: str = "default") -> str:
    """Return a finished result that is noted with its model."""
    result_id = stack.predict(table(50), model_id)
    stack.finished(result_id)
    job = JobRef(owner, "predict", result_id)
    run = job_on(stack, stack.storage(), folder, job=job)
    publishing.note_result(run, model_id)
    return result_id


# Listings


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


def ids_of(answer: requests.Response, what: str = "models") -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()[what]]


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


# What is told of one


def test_manifest_of_a_model_is_told_without_its_signature(
    stack: Stack, model_id: str
) -> None:
    about = stack.get(f"/models/{model_id.upper()}").json()
    found = publications.find(stack.storage(), JobRef("default", "fit", model_id))
    assert found is not None
    assert "signature" in found.manifest
    shown = {
        name: value for name, value in found.manifest.items() if name != "signature"
    }
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


@pytest.mark.parametrize(
    ("host", "is_inside"), [("server:8080", True), ("example.org", False)]
)
def test_url_of_a_file_names_the_endpoint_that_the_caller_can_reach(
    host: str, is_inside: bool, stack: Stack, model_id: str
) -> None:
    settings = stack.settings(
        s3_public_endpoint="https://tables.example.org", internal_hosts="server"
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
    assert_problem(stack.get(f"/models/{model_id}/file"), 409, "model_untrusted")
    assert_deleted(delete(stack, f"/models/{model_id}"))


# Deleting


def test_deleted_model_is_gone_with_its_results(
    stack: Stack, storage: Storage, tmp_path: Path
) -> None:
    model_id, other = stack.fitted(table()), stack.fitted(table())
    results = [predicted(stack, tmp_path, model_id) for _ in range(3)]
    kept = predicted(stack, tmp_path, other)
    url = stack.get(f"/models/{model_id}/file").json()["url"]
    storage.write(
        "models",
        "default",
        model_id,
        "7/model.joblib",
        b"of an attempt that was given up",
    )
    assert_deleted(delete(stack, f"/models/{model_id}"))
    assert remains(storage, "default", model_id, *results) == set()
    assert requests.get(url, timeout=40).status_code == 404
    assert_problem(stack.get(f"/models/{model_id}"), 404, "model_not_found")
    assert_problem(stack.get(f"/models/{model_id}/file"), 404, "model_not_found")
    answer = stack.post("/predict", dataset_id=stack.upload(table()), model_id=model_id)
    assert_problem(answer, 404, "model_not_found")
    for result_id in results:
        assert_problem(stack.get("/result", id=result_id), 404, "job_not_found")
        assert_problem(stack.get(f"/results/{result_id}"), 404, "job_not_found")
        assert stack.status(result_id)["status"] == "finished"
    assert model_id not in ids_of(stack.get("/models", limit=100))
    assert_problem(delete(stack, f"/models/{model_id}"), 404, "model_not_found")
    assert len(stack.result(kept)) == 50
    assert stack.get(f"/models/{other}").status_code == 200


def test_deleted_result_is_gone_and_its_model_stays(
    stack: Stack, storage: Storage, tmp_path: Path
) -> None:
    model_id = stack.fitted(table())
    result_id, kept = (predicted(stack, tmp_path, model_id) for _ in range(2))
    assert_deleted(delete(stack, f"/results/{result_id}"))
    assert remains(storage, "default", result_id) == set()
    assert_problem(stack.get("/result", id=result_id), 404, "job_not_found")
    assert_problem(delete(stack, f"/results/{result_id}"), 404, "job_not_found")
    assert publications.results_of(storage, "default", model_id) == [kept]
    assert len(stack.result(kept)) == 50


def test_deleted_dataset_is_gone_and_what_was_made_of_it_stays(
    stack: Stack, storage: Storage
) -> None:
    model_id = stack.fitted(table())
    dataset_id = stack.status(model_id)["dataset_id"]
    assert_deleted(delete(stack, f"/datasets/{dataset_id}"))
    assert remains(storage, "default", dataset_id) == set()
    assert dataset_id not in ids_of(stack.get("/datasets", limit=100), "datasets")
    assert_problem(stack.post("/fit", id=dataset_id), 404, "dataset_not_found")
    assert_problem(delete(stack, f"/datasets/{dataset_id}"), 404, "dataset_not_found")
    assert stack.get(f"/models/{model_id}").json()["dataset_id"] == dataset_id
    assert len(stack.result(stack.predict(table(), model_id))) == 1000


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("models", "model_not_found"),
        ("datasets", "dataset_not_found"),
        ("results", "job_not_found"),
    ],
)
@pytest.mark.parametrize("identifier", [UNKNOWN, FOREIGN])
def test_deleting_what_is_not_there_is_404_and_leaves_nothing(
    path: Bucket, code: str, identifier: str, stack: Stack, storage: Storage
) -> None:
    assert_problem(delete(stack, f"/{path}/{identifier}"), 404, code)
    assert keys_of(storage, path, "default", identifier) == []


def test_deleting_needs_an_id_and_takes_no_parameters(stack: Stack) -> None:
    assert_problem(delete(stack, "/models/x"), 400, "invalid_request")
    assert_problem(
        delete(stack, f"/models/{UNKNOWN}?results=keep"), 400, "invalid_request"
    )


def test_model_cannot_be_deleted_as_a_result(
    stack: Stack, storage: Storage, tmp_path: Path
) -> None:
    model_id = stack.fitted(table())
    result_id = predicted(stack, tmp_path, model_id)
    assert_problem(delete(stack, f"/results/{model_id}"), 404, "job_not_found")
    assert publications.results_of(storage, "default", model_id) == [result_id]
    assert_problem(delete(stack, f"/models/{result_id}"), 404, "model_not_found")
    assert len(stack.result(result_id)) == 50


def test_fit_that_has_not_ended_cannot_be_deleted(stack: Stack) -> None:
    with stack.frozen():
        queued = stack.fit(table())
        body = assert_problem(
            delete(stack, f"/models/{queued}"), 409, "model_not_ready"
        )
        assert "then delete the model" in str(body["hint"])
    running = stack.fit(slow_table(), validation="none")
    eventually(lambda: stack.status(running)["status"] == "started")
    assert_problem(delete(stack, f"/models/{running}"), 409, "model_not_ready")
    for model_id in (queued, running):
        stack.finished(model_id)
        assert_deleted(delete(stack, f"/models/{model_id}"))


def test_prediction_that_has_not_ended_cannot_be_deleted(
    stack: Stack, model_id: str
) -> None:
    with stack.frozen():
        queued = stack.predict(table(), model_id)
        assert_problem(delete(stack, f"/results/{queued}"), 409, "not_finished")
    stack.finished(queued)
    assert_deleted(delete(stack, f"/results/{queued}"))


def test_what_a_failed_job_left_can_be_deleted(
    stack: Stack, storage: Storage, model_id: str
) -> None:
    failed_fit = stack.fit(table().assign(y=1))
    with stack.frozen():
        dataset_id = stack.upload(table())
        failed_predict = submitted(
            stack.post("/predict", dataset_id=dataset_id, model_id=model_id)
        )
        assert_deleted(delete(stack, f"/datasets/{dataset_id}"))
    assert stack.wait(failed_fit)["status"] == "failed"
    assert stack.wait(failed_predict)["error"]["code"] == "dataset_not_found"
    assert_deleted(delete(stack, f"/models/{failed_fit}"))
    assert_deleted(delete(stack, f"/results/{failed_predict}"))
    assert remains(storage, "default", failed_fit, failed_predict) == set()
    answer = stack.post(
        "/predict", dataset_id=stack.upload(table()), model_id=failed_fit
    )
    assert_problem(answer, 404, "model_not_found")
    assert_problem(stack.get("/result", id=failed_predict), 404, "job_not_found")


def test_half_written_leftovers_can_be_deleted(stack: Stack, storage: Storage) -> None:
    model_id = new_id()
    storage.write("models", "default", model_id, "1/model.joblib", b"half")
    assert_deleted(delete(stack, f"/models/{model_id}"))
    assert remains(storage, "default", model_id) == set()


def test_damaged_model_can_be_deleted(stack: Stack, storage: Storage) -> None:
    model_id = put_model(storage, "default", new_id())
    storage.write("models", "default", model_id, "1/manifest.json", b"{damaged")
    assert_problem(stack.get(f"/models/{model_id}"), 409, "model_untrusted")
    assert_deleted(delete(stack, f"/models/{model_id}"))
    assert remains(storage, "default", model_id) == set()


def test_status_of_what_was_deleted_ends_when_redis_forgets_it(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1, JOB_TTL_S="1")
    model_id = stack.fitted(table())
    assert_deleted(delete(stack, f"/models/{model_id}"))
    eventually(lambda: not stack.redis().keys("rq:job:*"))
    assert_problem(stack.get("/status", id=model_id), 404, "job_not_found")
    stack.stop()


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


# Deleting beside running jobs


class Interrupted(Storage):
    """A store in which something happens before the n-th request that changes it."""

    n = -1

    def during(self, n: int, happening: Callable[[], None]) -> Interrupted:
        self.n, self.happening = n, happening
        return self

    def write(self, *arguments: Any) -> None:
        self._count()
        super().write(*arguments)

    def names(self, *arguments: Any) -> list[str]:
        self._count()
        return super().names(*arguments)

    def delete(self, bucket: Bucket, owner: str, identifier: str, names: Any) -> None:
        for name in names:
            self._count()
            super().delete(bucket, owner, identifier, [name])

    def _count(self) -> None:
        self.n -= 1
        if self.n == -1:
            self.happening()


def predict_late(job: Run, model_id: str, result_id: str) -> str | None:
    """Do what a prediction does at its end; return the code of its failure."""
    (job.folder / "file").write_bytes(b"predictions")
    run = replace(job, job=JobRef(job.owner, "predict", result_id))
    error = None
    try:
        publishing.note_result(run, model_id)
        manifest = {"id": result_id, "model_id": model_id}
        publishing.publish(run, run.folder / "file", manifest)
    except ModelNotFound as caught:
        error = caught.code
    record = {
        "id": result_id,
        "kind": "predict",
        "attempts": job.attempt,
        "model_id": model_id,
    }
    records.write_record(job.storage, run.job, record)
    return error


@pytest.mark.parametrize("n", range(8))
def test_model_deleted_at_any_point_of_a_prediction_leaves_nothing(
    n: int, stack: Stack, storage: Storage, jobs: Jobs, tmp_path: Path
) -> None:
    model_id, result_id, happened = (
        put_model(storage, "default", new_id()),
        new_id(),
        [],
    )

    def happen() -> None:
        deletion.model(storage, jobs, "default", model_id)
        happened.append(n)

    job = job_on(stack, Interrupted(stack.settings()).during(n, happen), tmp_path)
    error = predict_late(job, model_id, result_id)
    if not happened:
        happen()
    # Once all is published the deletion comes too late for a cause.
    assert error == ("model_not_found" if n < 5 else None)
    left = remains(storage, "default", model_id, result_id)
    # A prediction that failed before anything was noted keeps its record, which says why.
    assert left <= {f"{folder_of('default', result_id)}/record/1.json"}
    assert not left or n == 0


@pytest.mark.parametrize("n", range(10))
def test_prediction_that_ends_at_any_point_of_a_deletion_leaves_nothing(
    n: int, stack: Stack, storage: Storage, jobs: Jobs, tmp_path: Path
) -> None:
    model_id, result_id = put_model(storage, "default", new_id()), new_id()
    job, codes = job_on(stack, storage, tmp_path), list[str | None]()

    def happen() -> None:
        codes.append(predict_late(job, model_id, result_id))

    deleting = Interrupted(stack.settings()).during(n, happen)
    deletion.model(deleting, jobs, "default", model_id)
    if not codes:
        happen()
    left = remains(storage, "default", model_id, result_id)
    assert left <= {f"{folder_of('default', result_id)}/record/1.json"}
    assert not left or codes == ["model_not_found"]
    assert publications.find(storage, JobRef("default", "predict", result_id)) is None


def test_late_attempt_of_a_deleted_model_leaves_nothing(
    stack: Stack, storage: Storage, jobs: Jobs, tmp_path: Path
) -> None:
    model_id = put_model(storage, "default", new_id())
    deletion.model(storage, jobs, "default", model_id)
    (tmp_path / "file").write_bytes(b"model")
    run = job_on(stack, storage, tmp_path, 2, JobRef("default", "fit", model_id))
    with pytest.raises(ModelNotFound, match="deleted while the job ran"):
        publishing.publish(run, tmp_path / "file", MANIFEST)
    records.write_record(storage, JobRef("default", "fit", model_id), {"attempts": 2})
    assert remains(storage, "default", model_id) == set()
    assert records.read_record(storage, "default", model_id) is None


def test_job_learns_before_publishing_that_what_it_needs_was_deleted(
    stack: Stack, storage: Storage, jobs: Jobs, tmp_path: Path
) -> None:
    job, dataset_id = job_on(stack, storage, tmp_path), stack.upload(table(50))
    model_id = put_model(storage, "default", new_id())
    publishing.check_dataset(job, dataset_id)
    publishing.check_model(job, model_id)
    deletion.dataset(storage, "default", dataset_id)
    with pytest.raises(
        DatasetNotFound, match=f"Dataset {dataset_id} was deleted while the job ran"
    ):
        publishing.check_dataset(job, dataset_id)
    deletion.model(storage, jobs, "default", model_id)
    with pytest.raises(
        ModelNotFound, match=f"Model {model_id} was deleted while the job ran"
    ):
        publishing.check_model(job, model_id)


@pytest.mark.parametrize("n", range(1, 9))
def test_deletion_that_broke_off_hides_the_model_and_can_be_finished(
    n: int, stack: Stack, storage: Storage, jobs: Jobs, tmp_path: Path
) -> None:
    model_id, result_id = put_model(storage, "default", new_id()), new_id()
    assert predict_late(job_on(stack, storage, tmp_path), model_id, result_id) is None

    def happen() -> None:
        raise StoreUnavailable

    # The first requests look; what changes comes from the fourth on.
    with pytest.raises(StoreUnavailable):
        deletion.model(
            Interrupted(stack.settings()).during(n + 3, happen),
            jobs,
            "default",
            model_id,
        )
    assert publications.find(storage, JobRef("default", "fit", model_id)) is None
    deletion.model(storage, jobs, "default", model_id)
    assert remains(storage, "default", model_id, result_id) == set()
    with pytest.raises(ModelNotFound):
        deletion.model(storage, jobs, "default", model_id)


@pytest.mark.parametrize("n", range(3, 9))
def test_deletion_of_a_result_that_broke_off_can_be_finished(
    n: int, stack: Stack, storage: Storage, jobs: Jobs, tmp_path: Path
) -> None:
    model_id, result_id = put_model(storage, "default", new_id()), new_id()
    assert predict_late(job_on(stack, storage, tmp_path), model_id, result_id) is None

    def happen() -> None:
        raise StoreUnavailable

    with pytest.raises(StoreUnavailable):
        deletion.result(
            Interrupted(stack.settings()).during(n + 1, happen),
            jobs,
            "default",
            result_id,
        )
    assert publications.find(storage, JobRef("default", "predict", result_id)) is None
    deletion.result(storage, jobs, "default", result_id)
    assert remains(storage, "default", result_id) == set()
    with pytest.raises(JobNotFound):
        deletion.result(storage, jobs, "default", result_id)


def test_tables_can_be_uploaded_while_all_beside_them_are_deleted(
    storage: Storage,
) -> None:
    # Some stores remove folders that have become empty, and fail who writes there at that moment.
    def upload_and_delete(_: int) -> str:
        dataset_id = new_id()
        storage.write("datasets", "busy", dataset_id, "data", b"x")
        deletion.dataset(storage, "busy", dataset_id)
        return dataset_id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(upload_and_delete, range(200)))
    assert len(set(ids)) == 200
    assert remains(storage, "busy", *ids) == set()
    assert listing.datasets(storage, "busy", None, 100).items == []


def test_model_with_many_results_is_deleted_with_all_of_them(
    stack: Stack, storage: Storage, jobs: Jobs, tmp_path: Path
) -> None:
    model_id = put_model(storage, "busy", new_id())
    results = [new_id() for _ in range(100)]
    for result_id in results:
        assert (
            predict_late(
                job_on(
                    stack, storage, tmp_path, job=JobRef("busy", "predict", result_id)
                ),
                model_id,
                result_id,
            )
            is None
        )
    deletion.model(storage, jobs, "busy", model_id)
    assert remains(storage, "busy", model_id, *results) == set()


# Outages


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
