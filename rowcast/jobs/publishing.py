"""What a running job writes to the store: its file, its manifest last, and the note of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rowcast.errors import DatasetNotFound, JobCanceled, ModelNotFound, WorkerLost
from rowcast.jobs.context import Run
from rowcast.store import ObjectMissing, publications


def publish(
    job: Run,
    kind: publications.Kind,
    identifier: str,
    file: Path,
    manifest: dict[str, Any],
) -> None:
    """Write an attempt's file and, last, its manifest.

    Raises:
        ModelNotFound: it was deleted while the job ran, a result with its model; nothing is left
            behind.
        JobCanceled: the job was canceled; nothing is left behind.
        WorkerLost: the attempt was given up for dead; nothing is left behind.
        StoreUnavailable: the store does not answer.
    """
    bucket, names = (
        publications.BUCKETS[kind],
        [f"{job.attempt}/{file.name}", f"{job.attempt}/manifest.json"],
    )
    job.publisher.write(bucket, job.owner, identifier, names[0], file)
    job.publisher.write(
        bucket, job.owner, identifier, names[1], publications.as_json(manifest)
    )
    found = job.publisher.names(bucket, job.owner, identifier)
    if job.attempt in publications.attempts_in(found):
        return
    job.publisher.delete(bucket, job.owner, identifier, names)
    if publications.CANCELED in found:
        raise JobCanceled(f"Job {identifier} was canceled.")
    if publications.TOMBSTONE in found:
        raise _deleted_model(manifest.get("model_id", identifier))
    raise WorkerLost(f"Attempt {job.attempt} was given up before it had published.")


def note_result(job: Run, model_id: str, result_id: str) -> None:
    """Note that a result is made with a model, right before publishing it: who deletes the model
    finds it so.

    The notes lie in the results' bucket, under the model's id, where they slow down no look at the
    model.

    Raises:
        ModelNotFound: the model was deleted while the job ran.
        StoreUnavailable: the store does not answer.
    """
    job.publisher.write(
        "results", job.owner, model_id, publications.note_of(result_id), b""
    )
    try:
        check_needed(job, model_id=model_id)
    except ModelNotFound:
        job.publisher.delete(
            "results", job.owner, model_id, [publications.note_of(result_id)]
        )
        raise


def check_needed(
    job: Run, *, dataset_id: str | None = None, model_id: str | None = None
) -> None:
    """Make sure, right before publishing, that what a job works on has not been deleted in the
    meantime.

    Raises:
        DatasetNotFound, ModelNotFound: it has.
        StoreUnavailable: the store does not answer.
    """
    try:
        if dataset_id:
            job.publisher.version("datasets", job.owner, dataset_id, "data")
    except ObjectMissing:
        detail = f"Dataset {dataset_id} was deleted while the job ran."
        raise DatasetNotFound(detail, hint=_DELETED_HINT) from None
    if model_id and not publications.attempts_in(
        job.publisher.names("models", job.owner, model_id)
    ):
        raise _deleted_model(model_id)


_DELETED_HINT = (
    "Deleting ends the jobs that need it; submit again with one that is there."
)


def _deleted_model(model_id: str) -> ModelNotFound:
    return ModelNotFound(
        f"Model {model_id} was deleted while the job ran.", hint=_DELETED_HINT
    )
