"""Small models, results and checks that the tests of the catalog share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from rowcast.ids import folder_of, new_id
from rowcast.jobs import publishing
from rowcast.jobs.context import Run
from rowcast.store.object_store import Bucket, Storage
from rowcast.store.publications import JobRef
from tests.support.http import UNKNOWN
from tests.support.signing import sign_with
from tests.support.stack import Stack
from tests.support.tables import table

FOREIGN = "7bd7ef3e-2bb0-4b3e-8a0e-7d4a43a9b1b0"
MANIFEST = {
    "created_at": 1.5,
    "dataset_id": UNKNOWN,
    "target": "y",
    "task": "regression",
    "learner": "boosting",
    "n_rows": 10,
    "file": {"sha256": "0" * 64, "size": 1},
}


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
    sign = sign_with(stack.private_key(), job, attempt)
    return Run(
        job, attempt, stack.settings(), storage, folder, lambda: False, storage, sign
    )


def predicted(stack: Stack, folder: Path, model_id: str, owner: str = "default") -> str:
    """Return a finished result that is noted with its model."""
    result_id = stack.predict(table(50), model_id)
    stack.finished(result_id)
    job = JobRef(owner, "predict", result_id)
    run = job_on(stack, stack.storage(), folder, job=job)
    publishing.note_result(run, model_id)
    return result_id


def ids_of(answer: requests.Response, what: str = "models") -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()[what]]


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


def assert_deleted(answer: requests.Response) -> None:
    assert (answer.status_code, answer.content) == (204, b""), answer.text
