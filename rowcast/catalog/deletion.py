"""Deleting: first a tombstone, which hides a thing at once, then everything that lies under its id.

A deletion that failed in the middle is finished by asking again.
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
from rowcast.store import Bucket, Kind, Storage, publications

# Results of a model that are deleted at once.
N_THREADS = 16


def dataset(storage: Storage, owner: str, dataset_id: str) -> None:
    """Delete a dataset.

    Raises:
        DatasetNotFound: nothing lies under the id.
        StoreUnavailable: the store does not answer.
    """
    if not _left(storage, "datasets", owner, dataset_id):
        raise DatasetNotFound(f"Nothing was uploaded to dataset {dataset_id}.")
    # Nobody looks for this tombstone. It keeps the folder: some stores remove one that becomes
    # empty, and fail who uploads to its neighbour at that moment.
    _write_tombstone(storage, "datasets", owner, dataset_id)
    _empty(storage, "datasets", owner, dataset_id)


def model(storage: Storage, jobs: Jobs, owner: str, model_id: str) -> None:
    """Delete a model, or what a failed fit left, and all results that were made with it.

    Raises:
        ModelNotFound: nothing lies under the id.
        ModelNotReady: the fit has not ended.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    if status := _running(storage, jobs, "fit", owner, model_id):
        raise ModelNotReady(
            f"Model {model_id} is {status}.",
            hint="Cancel the fit, POST /cancel?id=<model>, or wait for its end; then delete it.",
        )
    if not (
        _left(storage, "models", owner, model_id)
        or publications.results_of(storage, owner, model_id)
    ):
        raise ModelNotFound(f"There is no model {model_id}.")
    _write_tombstone(storage, "models", owner, model_id)
    # Before anything is removed, so that asking again comes here again if it fails.
    jobs.note_deletion()
    # Those that are noted later find the tombstone.
    results = publications.results_of(storage, owner, model_id)
    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(partial(_remove_result, storage, owner, model_id), results))
    _empty(storage, "models", owner, model_id)


def result(storage: Storage, jobs: Jobs, owner: str, result_id: str) -> None:
    """Delete a result, or what a failed prediction left.

    Raises:
        JobNotFound: nothing lies under the id.
        NotFinished: the prediction has not ended.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    if status := _running(storage, jobs, "predict", owner, result_id):
        raise NotFinished(f"Job {result_id} is {status}.")
    # Under the id of a model lie the notes of its results, which are no result.
    if not _left(storage, "results", owner, result_id) or publications.results_of(
        storage, owner, result_id
    ):
        raise JobNotFound(f"There is no result {result_id}.")
    _write_tombstone(storage, "results", owner, result_id)
    if model_id := publications.model_of(storage, owner, result_id):
        storage.delete("results", owner, model_id, [publications.note_of(result_id)])
    _empty(storage, "results", owner, result_id)


def _running(
    storage: Storage, jobs: Jobs, kind: Kind, owner: str, identifier: str
) -> str | None:
    """Return the status of a job that has not ended, and has neither published nor been deleted."""
    names = storage.names(publications.BUCKETS[kind], owner, identifier)
    if publications.TOMBSTONE in names or publications.attempts_in(names):
        return None
    job = jobs.status(owner, identifier)
    return (
        job["status"]
        if job and job["kind"] == kind and job["status"] not in FINAL
        else None
    )


def _remove_result(storage: Storage, owner: str, model_id: str, result_id: str) -> None:
    _write_tombstone(storage, "results", owner, result_id)
    _empty(storage, "results", owner, result_id)
    # Last, so that a deletion that failed before finds the result again.
    storage.delete("results", owner, model_id, [publications.note_of(result_id)])


def _write_tombstone(
    storage: Storage, bucket: Bucket, owner: str, identifier: str
) -> None:
    storage.write(bucket, owner, identifier, publications.TOMBSTONE, b"")


def _empty(storage: Storage, bucket: Bucket, owner: str, identifier: str) -> None:
    storage.delete(bucket, owner, identifier, _left(storage, bucket, owner, identifier))


def _left(storage: Storage, bucket: Bucket, owner: str, identifier: str) -> list[str]:
    """Return the names of all that lies under an id besides its tombstone."""
    return [
        name
        for name in storage.names(bucket, owner, identifier)
        if name != publications.TOMBSTONE
    ]
