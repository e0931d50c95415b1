"""Delete things: write a tombstone, which hides a thing immediately, then remove its objects.

To finish a deletion that failed halfway, the caller repeats it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rowcast.errors import (
    DatasetNotFound,
    JobNotFound,
    ModelNotFound,
    ModelNotReady,
    NotFinished,
)
from rowcast.jobs import FINAL, Jobs
from rowcast.store import Bucket, JobRef, Storage, publications, records

# Results of a model that are deleted in parallel.
N_THREADS = 16


def dataset(storage: Storage, owner: str, dataset_id: str) -> None:
    """Delete a dataset.

    Raises:
        DatasetNotFound: the id has no objects.
        StoreUnavailable: the store does not answer.
    """
    if not left_under(storage, "datasets", owner, dataset_id):
        raise DatasetNotFound(f"Nothing was uploaded to dataset {dataset_id}.")
    # The tombstone also keeps the folder: some stores remove a folder that becomes empty, and then
    # fail uploads to its neighbors.
    remove(storage, "datasets", owner, dataset_id)


def model(storage: Storage, jobs: Jobs, owner: str, model_id: str) -> None:
    """Delete a model, or what a failed fit left, and all results that were made with it.

    Raises:
        ModelNotFound: the id has no objects.
        ModelNotReady: the fit has not ended.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    if status := _unfinished(storage, jobs, JobRef(owner, "fit", model_id)):
        raise ModelNotReady(
            f"Model {model_id} is {status}.",
            hint="Cancel the fit, POST /cancel?id=<model>, or wait for its end; "
            "then delete the model.",
        )
    left = left_under(storage, "models", owner, model_id)
    if not left and not publications.results_of(storage, owner, model_id):
        raise ModelNotFound(f"Model {model_id} does not exist.")

    _write_tombstone(storage, "models", owner, model_id)
    # Before anything is removed: if this fails, a repeated deletion comes here again.
    jobs.note_deletion()
    # A result that is noted later finds the tombstone.
    results = publications.results_of(storage, owner, model_id)
    remove_one = partial(_remove_result_of, storage, owner, model_id)
    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(remove_one, results))
    _empty(storage, "models", owner, model_id)


def result(storage: Storage, jobs: Jobs, owner: str, result_id: str) -> None:
    """Delete a result, or what a failed prediction left.

    Raises:
        JobNotFound: the id has no objects.
        NotFinished: the prediction has not ended.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    if status := _unfinished(storage, jobs, JobRef(owner, "predict", result_id)):
        raise NotFinished(f"Job {result_id} is {status}.")
    left = left_under(storage, "results", owner, result_id)
    # The id of a model has the notes of its results, which are not a result.
    if not left or publications.results_of(storage, owner, result_id):
        raise JobNotFound(f"Result {result_id} does not exist.")

    remove_result(storage, owner, result_id)


def remove_result(storage: Storage, owner: str, result_id: str) -> None:
    """Remove a result with the note under its model's id. Raises StoreUnavailable."""
    _write_tombstone(storage, "results", owner, result_id)
    if model_id := records.model_of(storage, owner, result_id):
        note = publications.note_of(result_id)
        storage.delete("results", owner, model_id, [note])
    _empty(storage, "results", owner, result_id)


def remove(storage: Storage, bucket: Bucket, owner: str, identifier: str) -> None:
    """Write a tombstone and remove all objects beside it. Raises StoreUnavailable."""
    _write_tombstone(storage, bucket, owner, identifier)
    _empty(storage, bucket, owner, identifier)


def left_under(
    storage: Storage, bucket: Bucket, owner: str, identifier: str
) -> list[str]:
    """Return the names of all objects of an id beside its tombstone."""
    names = storage.names(bucket, owner, identifier)
    return [name for name in names if name != publications.TOMBSTONE]


def _unfinished(storage: Storage, jobs: Jobs, job: JobRef) -> str | None:
    """Return the status of a job that has not ended, published or been deleted; else None."""
    names = storage.names(*job.place)
    if publications.TOMBSTONE in names or publications.attempts_in(names):
        return None
    status = jobs.status(job.owner, job.id)
    if status is None or status["kind"] != job.kind or status["status"] in FINAL:
        return None
    return str(status["status"])


def _remove_result_of(
    storage: Storage, owner: str, model_id: str, result_id: str
) -> None:
    remove(storage, "results", owner, result_id)
    # Last, so that a deletion that failed before finds the result again.
    storage.delete("results", owner, model_id, [publications.note_of(result_id)])


def _write_tombstone(
    storage: Storage, bucket: Bucket, owner: str, identifier: str
) -> None:
    storage.write(bucket, owner, identifier, publications.TOMBSTONE, b"")


def _empty(storage: Storage, bucket: Bucket, owner: str, identifier: str) -> None:
    left = left_under(storage, bucket, owner, identifier)
    storage.delete(bucket, owner, identifier, left)
