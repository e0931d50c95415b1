"""The final records of jobs: `record/<attempt>.json`, or `canceled`, which hides all else."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import Any

from rowcast.errors import ObjectDamaged
from rowcast.store import documents, publications
from rowcast.store.object_store import Storage
from rowcast.store.publications import BUCKETS, CANCELED, TOMBSTONE, JobRef

log = logging.getLogger("rowcast.storage")

_RECORD_NAME = re.compile(r"record/([0-9]{1,9})\.json")


def write_record(storage: Storage, job: JobRef, record: dict[str, Any]) -> None:
    """Write the final record of a job, unless the job was deleted. Raises StoreUnavailable.

    It is filed under its `number`, which is that of the attempt that ended the job.
    """
    number = record.get("number", record["attempts"])
    name = f"record/{number}.json"
    storage.write(*job.place, name, documents.as_json(record))
    if publications.is_deleted(storage, job):
        storage.delete(*job.place, [name])


def hide_canceled(storage: Storage, job: JobRef, record: dict[str, Any]) -> None:
    """Write the final record of a canceled job, and remove what the job has left so far.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    storage.write(*job.place, CANCELED, documents.as_json(record))
    names = storage.names(*job.place)
    # A tombstone hides the marker as well, which then goes with all else.
    kept = {TOMBSTONE} if TOMBSTONE in names else {CANCELED}
    storage.delete(*job.place, [name for name in names if name not in kept])


def read_record(storage: Storage, owner: str, job_id: str) -> dict[str, Any] | None:
    """Return a job's final record with its log, whichever its kind; None where there is none.

    The marker of a canceled job is its record; else the last record counts, which is that of the
    attempt that ended the job. Where an attempt has published, a later failure does not count, and
    its manifest answers if no record can be read.

    Raises:
        ObjectDamaged: the record cannot be read, and nothing else says how the job ended.
        StoreUnavailable: the store does not answer.
    """
    for kind in BUCKETS:
        job = JobRef(owner, kind, job_id)
        names = storage.names(*job.place)
        if TOMBSTONE in names:
            continue
        has_published = bool(publications.attempts_in(names))
        if record := _the_one_that_counts(storage, job, names, has_published):
            return record
    return None


def _the_one_that_counts(
    storage: Storage, job: JobRef, names: list[str], has_published: bool
) -> dict[str, Any] | None:
    last = None
    damage = None
    for name in _record_names(names):
        try:
            record = publications.read_json(storage, job, name)
        except ObjectDamaged as error:
            log.error("%s", error.detail)
            damage = damage or error
            continue
        if record and (not has_published or record.get("status") == "finished"):
            return record
        last = last or record
    if has_published and (found := publications.find(storage, job)):
        return _of_manifest(job, found)
    if damage:
        raise damage
    return last


def _of_manifest(job: JobRef, found: publications.Publication) -> dict[str, Any]:
    """Return what a manifest says of the end of a job, in place of its record."""
    manifest = found.manifest
    model_id = job.id if job.kind == "fit" else manifest.get("model_id")
    return {
        "id": job.id,
        "kind": job.kind,
        "status": "finished",
        "enqueued_at": None,
        "started_at": None,
        "ended_at": manifest.get("created_at"),
        "attempts": found.attempt,
        "position": None,
        "dataset_id": manifest.get("dataset_id"),
        "model_id": model_id,
        "error": None,
    }


def _record_names(names: list[str]) -> list[str]:
    if CANCELED in names:
        return [CANCELED]
    matches = [match for match in map(_RECORD_NAME.fullmatch, names) if match]
    matches.sort(key=lambda match: int(match[1]), reverse=True)
    return [match[0] for match in matches]


def model_of(storage: Storage, owner: str, result_id: str) -> str | None:
    """Return the model of a result, even of one that is half deleted; None where nothing says.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    result = JobRef(owner, "predict", result_id)
    for name in storage.names(*result.place):
        content: dict[str, Any] = {}
        is_manifest = publications.MANIFEST_NAME.fullmatch(name)
        if not is_manifest and not _RECORD_NAME.fullmatch(name):
            continue
        with suppress(ObjectDamaged):
            content = publications.read_json(storage, result, name) or {}
        if isinstance(content.get("model_id"), str):
            return str(content["model_id"])
    return None
