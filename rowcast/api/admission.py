"""What is checked before a job is queued or a result handed out, so that errors come early and say
why."""

from __future__ import annotations

from typing import Any

from rowcast.api.schemas import JobRequest, PredictRequest
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
from rowcast.learning import prediction
from rowcast.store import (
    JobRef,
    Kind,
    ObjectMissing,
    Publication,
    Storage,
    Version,
    publications,
)
from rowcast.tables import Feature, checks, formats
from rowcast.webhooks import urls


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
                f"Dataset {dataset_id} has {version.size} bytes; the limit is "
                f"{settings.max_upload_bytes}."
            )
        return version, formats.peek(
            version.size,
            lambda offset, length: storage.read(
                "datasets", owner, dataset_id, "data", offset=offset, length=length
            ),
            formats.Limits.of(settings),
        )
    except ObjectMissing:
        raise DatasetNotFound(
            f"Nothing was uploaded to dataset {dataset_id}."
        ) from None


def terms(settings: Settings, owner: str, query: JobRequest) -> None:
    """Refuse what is asked of how a job is to run.

    Raises:
        InvalidRequest: it may not run so long, or its end cannot be told there.
    """
    if query.timeout_s and query.timeout_s > settings.job_timeout_s:
        raise InvalidRequest(
            f"The parameter 'timeout_s' is over {settings.job_timeout_s}, the most that a job "
            "may run."
        )
    if query.callback_url:
        urls.check(query.callback_url, settings, owner)


def model(storage: Storage, jobs: Jobs, owner: str, model_id: str) -> Publication:
    """Return a published model.

    Raises:
        ModelNotFound, ModelNotReady, ModelFailed: there is no model, not yet, or there will be
            none.
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
        raise ModelFailed(
            f"The fit of model {model_id} is {job['status']}.", errors=reason
        )
    raise ModelNotReady(f"Model {model_id} is {job['status']}.")


def model_or_fit(
    storage: Storage, jobs: Jobs, owner: str, model_id: str
) -> Publication | None:
    """Return a published model, None while its fit goes on. Raises as `model`."""
    try:
        return model(storage, jobs, owner, model_id)
    except ModelNotReady:
        return None


def check_predict(
    found: Publication, wanted: PredictRequest, sample: formats.Sample
) -> None:
    """Refuse what a model cannot predict, as far as it shows before the job.

    Raises:
        InvalidRequest: with everything wanted that the model cannot give.
        InvalidTable: the table lacks columns, or has them in other types.
        ModelUntrusted: the model's manifest is damaged.
    """
    try:
        features = [Feature(**feature) for feature in found.manifest["features"]]
        plan = prediction.Plan(
            wanted.output, wanted.quantiles, wanted.keep, wanted.format
        )
        prediction.check_givable(found.manifest, plan)
    except (KeyError, TypeError):
        raise ModelUntrusted(
            f"The manifest of model {wanted.model_id} is damaged."
        ) from None
    checks.check_predict(sample, features, wanted.keep)


def file_of(found: Publication, model_id: str) -> tuple[str, int]:
    """Return the SHA-256, in hexadecimal, and the bytes of a model's file.

    Raises:
        ModelUntrusted: its manifest is damaged.
    """
    try:
        return str(found.manifest["file"]["sha256"]), int(
            found.manifest["file"]["size"]
        )
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
    """Return what a job has published or, where it has not, its status; neither of what was
    deleted."""
    found = publications.find(storage, JobRef(owner, kind, identifier))
    if found:
        return found, None
    job = jobs.status(owner, identifier)
    if job and job["kind"] == kind and job["status"] == "finished":
        # It ended between the two looks; else what it made is gone, and Redis has yet to forget it.
        return publications.find(storage, JobRef(owner, kind, identifier)), None
    if job and publications.is_deleted(storage, JobRef(owner, kind, identifier)):
        return None, None
    return None, job
