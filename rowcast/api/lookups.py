"""What requests name by an id: datasets, models and results of the owner, or why there is none."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flask

from rowcast.api.state import parts
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
    ObjectDamaged,
)
from rowcast.inspection import Check, Findings, Question
from rowcast.jobs import FINAL
from rowcast.store import (
    Bucket,
    JobRef,
    Kind,
    ObjectMissing,
    Publication,
    Version,
    datasets,
    documents,
    publications,
)
from rowcast.tables import Limits, ReadingOptions

Status = dict[str, Any]


class Dataset(NamedTuple):
    """A dataset's version in the store, what its footer or first megabyte shows, and the SHA-256
    that its first job has noted."""

    version: Version
    shown: Findings
    sha256: str | None

    def as_noted(self) -> dict[str, Any]:
        """Return what a job compares the dataset with that it reads."""
        return {"dataset": vars(self.version), "dataset_sha256": self.sha256}


def dataset(dataset_id: str, check: Check, reading: ReadingOptions) -> Dataset:
    """Have an inspector look at a dataset; this process never parses a table.

    Raises:
        InvalidRequest: an option of reading does not apply to it.
        DatasetNotFound: nothing was uploaded under the id, or it was deleted.
        DatasetTooLarge: it is over MAX_UPLOAD_BYTES.
        InvalidTable: it is not a table, or does not pass the check.
        TableTooComplex: the look takes too much time or memory.
        NoInspector: none was free in time.
        StoreUnavailable: the store does not answer.
    """
    storage, settings = parts.storage, parts.settings
    bucket: Bucket = "datasets"
    place = (bucket, flask.g.owner, dataset_id, datasets.DATA)

    def read(offset: int, length: int) -> bytes:
        return storage.read(*place, offset=offset, length=length)

    try:
        upload = datasets.uploaded(storage, flask.g.owner, dataset_id)
        version = storage.version(*place)
        if version.size > settings.max_upload_bytes:
            raise DatasetTooLarge(
                f"Dataset {dataset_id} has {version.size} bytes; "
                f"the limit is {settings.max_upload_bytes}."
            )
        limits = vars(Limits.of(settings))
        question = Question(
            version.size, limits, check, flask.g.request_id, vars(reading)
        )
        shown = parts.inspectors.inspect(flask.g.owner, question, read)
    except ObjectMissing:
        raise DatasetNotFound(
            f"Nothing was uploaded to dataset {dataset_id}."
        ) from None
    return Dataset(version, shown, upload.sha256)


def status(job_id: str) -> Status:
    """Return the status of a job.

    Raises:
        JobNotFound: there is none of this id.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    flask.g.job_id = job_id
    found = parts.jobs.status(flask.g.owner, job_id)
    return dict(existing(found, job_id))


def existing(found: Any, job_id: str) -> Any:
    """Return what was found of a job. Raises JobNotFound if that is None."""
    if found is None:
        raise JobNotFound(f"Job {job_id} does not exist.")
    return found


def model(model_id: str) -> Publication:
    """Return a published model.

    Raises:
        ModelNotFound, ModelNotReady, ModelFailed: the model does not exist, does not exist yet,
            or never will.
        ObjectDamaged: its manifest is damaged.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    found, job = _published_or_status("fit", model_id)
    if found:
        return found
    if job is None or job["kind"] != "fit":
        raise ModelNotFound(f"Model {model_id} does not exist.")
    if job["status"] in FINAL:
        reason = [job["error"]["detail"]] if job["error"] else []
        raise ModelFailed(
            f"The fit of model {model_id} is {job['status']}.", errors=reason
        )
    raise ModelNotReady(f"Model {model_id} is {job['status']}.")


def model_or_fit(model_id: str) -> Publication | None:
    """Return a published model, None while its fit goes on. Raises as `model`."""
    try:
        return model(model_id)
    except ModelNotReady:
        return None


class PublishedFile(NamedTuple):
    """The file of a model or result: its SHA-256 in hexadecimal, and its bytes."""

    sha256: str
    size: int


def file_of(found: Publication, identifier: str) -> PublishedFile:
    """Return what a manifest says of the file of a model or result.

    Raises:
        ObjectDamaged: the manifest is damaged.
    """
    try:
        file = found.manifest["file"]
        return PublishedFile(str(file["sha256"]), int(file["size"]))
    except (KeyError, TypeError, ValueError):
        raise damaged(identifier) from None


def damaged(identifier: str) -> ObjectDamaged:
    """Return the error for a model or result whose manifest is damaged."""
    return documents.damaged(f"manifest of {identifier}")


def result(job_id: str) -> Publication:
    """Return the published result of a predict job.

    Raises:
        JobNotFound, NotAPrediction, NotFinished, JobCanceled: what the names say.
        JobFailure: the job failed; the code is that of its cause.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    flask.g.job_id = job_id
    found, job = _published_or_status("predict", job_id)
    if found:
        return found
    if job is None:
        raise JobNotFound(f"Job {job_id} does not exist.")
    if job["kind"] == "fit":
        raise NotAPrediction(f"Job {job_id} is a fit.")
    if job["status"] == "canceled":
        raise JobCanceled(f"Job {job_id} was canceled.")
    if job["status"] == "failed":
        raise JobFailure.of(job["error"])
    raise NotFinished(f"Job {job_id} is {job['status']}.")


def _published_or_status(
    kind: Kind, identifier: str
) -> tuple[Publication | None, Status | None]:
    """Return what a job has published or, if it has not, its status; nothing of a deleted one."""
    job = JobRef(flask.g.owner, kind, identifier)
    find = partial(publications.find, parts.storage, job)
    if found := find():
        return found, None
    status = parts.jobs.status(job.owner, job.id)
    if status and status["kind"] == kind and status["status"] == "finished":
        # It ended between the two looks; else what it made is gone, and Redis forgets it later.
        return find(), None
    if status and publications.is_deleted(parts.storage, job):
        return None, None
    return None, status
