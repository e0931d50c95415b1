"""What is checked before a job is queued or a result handed out, so that errors come early and say why."""

from __future__ import annotations

from typing import Any

from rowcast import publishing, tables
from rowcast.config import Settings
from rowcast.errors import (
    DatasetNotFound,
    DatasetTooLarge,
    JobCanceled,
    JobFailure,
    JobNotFound,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    NotAPrediction,
    NotFinished,
)
from rowcast.jobs import FINAL, Jobs
from rowcast.publishing import Publication
from rowcast.storage import ObjectMissing, Storage, Version


def dataset(storage: Storage, settings: Settings, owner: str, dataset_id: str) -> tuple[Version, Any]:
    """Return a dataset's version and its Arrow schema, reading no more than its footer.

    Raises:
        DatasetNotFound: nothing was uploaded under the id.
        DatasetTooLarge: it is over `max_upload_bytes`.
        InvalidTable: it is not a table.
        StoreUnavailable: the store does not answer.
    """
    try:
        version = storage.version("datasets", owner, dataset_id, "data")
        if version.size > settings.max_upload_bytes:
            raise DatasetTooLarge(
                f"Dataset {dataset_id} has {version.size} bytes; the limit is {settings.max_upload_bytes}."
            )
        return version, tables.read_schema(
            version.size,
            lambda offset, length: storage.read(
                "datasets", owner, dataset_id, "data", offset=offset, length=length
            ),
        )
    except ObjectMissing:
        raise DatasetNotFound(f"Nothing was uploaded to dataset {dataset_id}.") from None


def features(storage: Storage, jobs: Jobs, owner: str, model_id: str) -> list[tables.Feature]:
    """Return the features of a model.

    Raises:
        ModelNotFound, ModelNotReady, ModelFailed: there is no model, not yet, or there will be none.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    found = publishing.find(storage, "fit", owner, model_id)
    if found:
        return [tables.Feature(**feature) for feature in found.manifest["features"]]
    job = jobs.status(owner, model_id)
    if job is None or job["kind"] != "fit":
        raise ModelNotFound(f"There is no model {model_id}.")
    if job["status"] in FINAL:
        reason = [job["error"]["detail"]] if job["error"] else []
        raise ModelFailed(f"The fit of model {model_id} is {job['status']}.", errors=reason)
    raise ModelNotReady(f"Model {model_id} is {job['status']}.")


def result(storage: Storage, jobs: Jobs, owner: str, job_id: str) -> Publication:
    """Return the published result of a predict job.

    Raises:
        JobNotFound, NotAPrediction, NotFinished, JobCanceled: what the names say.
        JobFailure: the job failed; the code is that of its cause.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    found = publishing.find(storage, "predict", owner, job_id)
    if found:
        return found
    job = jobs.status(owner, job_id)
    if job is None:
        raise JobNotFound(f"There is no job {job_id}.")
    if job["kind"] == "fit":
        raise NotAPrediction(f"Job {job_id} is a fit.")
    if job["status"] == "canceled":
        raise JobCanceled(f"Job {job_id} was canceled.")
    if job["status"] == "failed":
        raise JobFailure.of(job["error"])
    raise NotFinished(f"Job {job_id} is {job['status']}.")
