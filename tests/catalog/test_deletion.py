"""What is deleted is gone, even if a job is running beside the deletion."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from rowcast.catalog import deletion, late_uploads, listing
from rowcast.errors import DatasetNotFound, JobNotFound, ModelNotFound, StoreUnavailable
from rowcast.ids import folder_of, new_id
from rowcast.jobs import publishing
from rowcast.jobs.context import Run
from rowcast.jobs.service import Jobs
from rowcast.store import publications, records
from rowcast.store.object_store import Bucket, Storage
from rowcast.store.publications import JobRef
from tests.support.catalog import (
    FOREIGN,
    MANIFEST,
    assert_deleted,
    ids_of,
    job_on,
    keys_of,
    predicted,
    put_model,
    remains,
)
from tests.support.http import UNKNOWN, assert_problem, delete
from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import parquet, slow_table, table
from tests.support.waiting import eventually


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
    assert_problem(stack.get(f"/models/{model_id}"), 500, "object_damaged")
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
    publishing.check_dataset(job, dataset_id, "0" * 64)
    publishing.check_model(job, model_id)
    deletion.dataset(storage, "default", dataset_id)
    with pytest.raises(
        DatasetNotFound, match=f"Dataset {dataset_id} was deleted while the job ran"
    ):
        publishing.check_dataset(job, dataset_id, "0" * 64)
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


def test_dataset_stays_deleted_although_its_upload_url_lives(
    stack: Stack, storage: Storage
) -> None:
    answer = stack.get("/upload").json()
    dataset_id = answer["id"]
    content = parquet(table(50))
    requests.put(answer["url"], data=content, timeout=40).raise_for_status()
    model_id = submitted(stack.post("/fit", id=dataset_id, target="y"))
    stack.finished(model_id)
    assert_deleted(delete(stack, f"/datasets/{dataset_id}"))

    requests.put(answer["url"], data=content, timeout=40).raise_for_status()
    refused = stack.post("/fit", id=dataset_id, target="y")
    assert_problem(refused, 404, "dataset_not_found")
    again = stack.post("/predict", dataset_id=dataset_id, model_id=model_id)
    assert_problem(again, 404, "dataset_not_found")
    assert dataset_id not in ids_of(stack.get("/datasets", limit=100), "datasets")
    same = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    assert stack.post("/upload", **same).json()["id"] != dataset_id

    assert remains(storage, "default", dataset_id) != set()
    assert late_uploads.sweep(storage, stack.settings(), now=time.time()) >= 1
    assert remains(storage, "default", dataset_id) == set()
    assert late_uploads.sweep(storage, stack.settings(), now=time.time()) == 0


def test_job_ends_if_its_deleted_dataset_was_uploaded_again(
    stack: Stack, storage: Storage
) -> None:
    with stack.frozen():
        fit = stack.fit(table(50))
        dataset_id = stack.status(fit)["dataset_id"]
        storage.write("datasets", "default", dataset_id, publications.TOMBSTONE, b"")
    status = stack.wait(fit)
    assert status["error"]["code"] == "dataset_not_found", status
