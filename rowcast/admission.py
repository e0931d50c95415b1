"""What is checked before a job is queued or a result handed out, so that errors come early and say why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rowcast import formats, publishing
from rowcast.columns import Feature
from rowcast.config import Settings
from rowcast.errors import (
    DatasetNotFound,
    DatasetTooLarge,
    InvalidRequest,
    JobCanceled,
    JobFailure,
    JobNotFound,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    ModelUntrusted,
    NotAPrediction,
    NotFinished,
)
from rowcast.jobs import FINAL, Jobs
from rowcast.predictions import extra_names
from rowcast.publishing import Kind, Publication
from rowcast.storage import ObjectMissing, Storage, Version
from rowcast.wire import PredictRequest


def dataset(
    storage: Storage, settings: Settings, owner: str, dataset_id: str
) -> tuple[Version, formats.Sample]:
    """Return a dataset's version, and what its footer or first megabyte shows.

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
        return version, formats.peek(
            version.size,
            lambda offset, length: storage.read(
                "datasets", owner, dataset_id, "data", offset=offset, length=length
            ),
            formats.Limits.of(settings),
        )
    except ObjectMissing:
        raise DatasetNotFound(f"Nothing was uploaded to dataset {dataset_id}.") from None


def model(storage: Storage, jobs: Jobs, owner: str, model_id: str) -> Publication:
    """Return a published model.

    Raises:
        ModelNotFound, ModelNotReady, ModelFailed: there is no model, not yet, or there will be none.
        ModelUntrusted: its manifest is damaged.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    found, job = _look(storage, jobs, "fit", owner, model_id)
    if found:
        return found
    if job is None or job["kind"] != "fit":
        raise ModelNotFound(f"There is no model {model_id}.")
    if job["status"] in FINAL:
        reason = [job["error"]["detail"]] if job["error"] else []
        raise ModelFailed(f"The fit of model {model_id} is {job['status']}.", errors=reason)
    raise ModelNotReady(f"Model {model_id} is {job['status']}.")


def features(found: Publication, wanted: PredictRequest) -> list[Feature]:
    """Return the features of a model that can give what is wanted of it.

    Raises:
        InvalidRequest: with everything wanted that the model cannot give.
        ModelUntrusted: its manifest is damaged.
    """
    try:
        features = [Feature(**feature) for feature in found.manifest["features"]]
        problems = list(_ungivable(found.manifest, wanted))
    except (KeyError, TypeError):
        raise ModelUntrusted(f"The manifest of model {wanted.model_id} is damaged.") from None
    if problems:
        raise InvalidRequest(" ".join(problems), errors=problems)
    return features


def _ungivable(manifest: dict[str, Any], wanted: PredictRequest) -> Iterator[str]:
    is_regression = manifest["task"] == "regression"
    if wanted.output == "probabilities" and is_regression:
        yield "output=probabilities needs classes, and the model is a regression; use labels or quantiles."
    if wanted.output == "quantiles" and not is_regression:
        yield "output=quantiles needs a quantity, and the model is a classification; use probabilities."
    if wanted.output == "quantiles" and is_regression and not manifest["intervals"]:
        yield "output=quantiles needs a model that was validated; fit it with another validation than none."
    if len(set(wanted.keep)) < len(wanted.keep) or len(set(wanted.quantiles)) < len(wanted.quantiles):
        yield "keep and quantiles must not name anything twice."
    written = extra_names(wanted.output, wanted.quantiles, manifest["classes"])
    if manifest["target"] in written:
        yield f"output={wanted.output} makes a column {manifest['target']!r}, which is the target's name."
    written.append(manifest["target"])
    for name in wanted.keep:
        if name in written:
            yield f"keep names {name!r}, which is a column of the predictions."


def file_of(found: Publication, model_id: str) -> tuple[str, int]:
    """Return the SHA-256, in hexadecimal, and the bytes of a model's file.

    Raises:
        ModelUntrusted: its manifest is damaged.
    """
    try:
        return str(found.manifest["file"]["sha256"]), int(found.manifest["file"]["size"])
    except (KeyError, TypeError, ValueError):
        raise ModelUntrusted(f"The manifest of model {model_id} is damaged.") from None


def result(storage: Storage, jobs: Jobs, owner: str, job_id: str) -> Publication:
    """Return the published result of a predict job.

    Raises:
        JobNotFound, NotAPrediction, NotFinished, JobCanceled: what the names say.
        JobFailure: the job failed; the code is that of its cause.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    found, job = _look(storage, jobs, "predict", owner, job_id)
    if found:
        return found
    if job is None:
        raise JobNotFound(f"There is no job {job_id}.")
    if job["kind"] == "fit":
        raise NotAPrediction(f"Job {job_id} is a fit.")
    if job["status"] == "canceled":
        raise JobCanceled(f"Job {job_id} was canceled.")
    if job["status"] == "failed":
        raise JobFailure.of(job["error"])
    raise NotFinished(f"Job {job_id} is {job['status']}.")


def _look(
    storage: Storage, jobs: Jobs, kind: Kind, owner: str, identifier: str
) -> tuple[Publication | None, dict[str, Any] | None]:
    """Return what a job has published or, where it has not, its status; neither of what was deleted."""
    found = publishing.find(storage, kind, owner, identifier)
    if found:
        return found, None
    job = jobs.status(owner, identifier)
    if job and job["kind"] == kind and job["status"] == "finished":
        # It ended between the two looks; else what it made is gone, and Redis has yet to forget it.
        return publishing.find(storage, kind, owner, identifier), None
    if job and publishing.is_deleted(storage, kind, owner, identifier):
        return None, None
    return None, job
