"""What a running job writes to the store: its file, its manifest last, and the note of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rowcast.errors import (
    DatasetNotFound,
    JobCanceled,
    ModelNotFound,
    RowcastError,
    WorkerLost,
)
from rowcast.jobs.context import Run
from rowcast.store import ObjectMissing, datasets, documents, publications

_DELETED_HINT = (
    "Deleting a dataset or model ends the jobs that need it; submit the job again with one that "
    "exists."
)


def publish(run: Run, file: Path, manifest: dict[str, Any]) -> None:
    """Write an attempt's file and, last, its manifest.

    Raises:
        ModelNotFound: it was deleted while the job ran, a result with its model.
        JobCanceled: the job was canceled.
        WorkerLost: the attempt was given up for dead.
        StoreUnavailable: the store does not answer.
    Whatever is raised but StoreUnavailable, nothing is left behind.
    """
    store, place = run.publisher, run.job.place
    file_name = f"{run.attempt}/{file.name}"
    manifest_name = f"{run.attempt}/manifest.json"
    store.write(*place, file_name, file)
    store.write(*place, manifest_name, documents.as_json(manifest))

    found = store.names(*place)
    if run.attempt in publications.attempts_in(found):
        return
    store.delete(*place, [file_name, manifest_name])
    raise _why_not_published(run, found, manifest)


def _why_not_published(
    run: Run, found: list[str], manifest: dict[str, Any]
) -> RowcastError:
    if publications.CANCELED in found:
        return JobCanceled(f"Job {run.job.id} was canceled.")
    if publications.TOMBSTONE in found:
        return _deleted_model(manifest.get("model_id", run.job.id))
    return WorkerLost(f"Attempt {run.attempt} was given up before it had published.")


def note_result(run: Run, model_id: str) -> None:
    """Note, right before publishing, that this result is made with a model.

    A deletion of the model finds its results by these notes. They lie in the bucket of results,
    under the model's id, where they do not slow down looks at the model.

    Raises:
        ModelNotFound: the model was deleted while the job ran.
        StoreUnavailable: the store does not answer.
    """
    note = publications.note_of(run.job.id)
    run.publisher.write("results", run.owner, model_id, note, b"")
    try:
        check_model(run, model_id)
    except ModelNotFound:
        run.publisher.delete("results", run.owner, model_id, [note])
        raise


def check_dataset(run: Run, dataset_id: str, sha256: str) -> None:
    """Check, right before publishing, that a job's dataset was not deleted meanwhile.

    The first job of a dataset notes its digest.

    Raises:
        DatasetNotFound: it was.
        DatasetDamaged: another job has read other bytes.
        StoreUnavailable: the store does not answer.
    """
    try:
        upload = datasets.uploaded(run.publisher, run.owner, dataset_id)
    except ObjectMissing:
        detail = f"Dataset {dataset_id} was deleted while the job ran."
        raise DatasetNotFound(detail, hint=_DELETED_HINT) from None
    datasets.check(dataset_id, sha256, upload.sha256)
    if upload.sha256 is None:
        datasets.note(run.publisher, run.owner, dataset_id, sha256)


def check_model(run: Run, model_id: str) -> None:
    """Check, right before publishing, that a job's model was not deleted meanwhile.

    Raises:
        ModelNotFound: it was.
        StoreUnavailable: the store does not answer.
    """
    names = run.publisher.names("models", run.owner, model_id)
    if not publications.attempts_in(names):
        raise _deleted_model(model_id)


def _deleted_model(model_id: str) -> ModelNotFound:
    detail = f"Model {model_id} was deleted while the job ran."
    return ModelNotFound(detail, hint=_DELETED_HINT)
