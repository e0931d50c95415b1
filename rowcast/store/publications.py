"""What an attempt leaves in the store: its files, then its manifest, then the job's final record.

The manifest is written last and makes the attempt count. Before an attempt that follows another
does anything else, it writes `<attempt>/started`, from when on no lower attempt counts any more:
what an attempt writes that was given up for dead, and wakes up again, changes nothing.

A canceled job keeps its final record as `canceled`, which hides whatever else lies beside it.

What is deleted keeps an empty tombstone, `deleted`, which hides whatever else lies beside it. It is
written before anything is removed, and every writer looks for it after writing and takes its own
back: so one of the two removes the object, whoever comes first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from rowcast.errors import ModelUntrusted
from rowcast.store.object_store import Bucket, ObjectMissing, Storage

Kind = Literal["fit", "predict"]
BUCKETS: dict[Kind, Bucket] = {"fit": "models", "predict": "results"}
# The store is not trusted: names that are none of ours are passed over.
_MANIFEST = re.compile(r"([0-9]{1,9})/manifest\.json")
_RECORD = re.compile(r"record/([0-9]{1,9})\.json")
_STARTED = re.compile(r"([0-9]{1,9})/started")
_NOTE = re.compile(r"made/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
TOMBSTONE, CANCELED = "deleted", "canceled"
MODEL_FILE = "model.joblib"
RESULT_FILES = {name: f"result.{name}" for name in ("parquet", "csv", "jsonl")}


@dataclass(frozen=True)
class Publication:
    """A finished attempt: its number and its manifest."""

    attempt: int
    manifest: dict[str, Any]


def start_again(
    storage: Storage, kind: Kind, owner: str, identifier: str, attempt: int
) -> bool:
    """Take the place of earlier attempts, unless one of them has published; tell whether it has.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    if has_published(storage, kind, owner, identifier):
        return True
    storage.write(BUCKETS[kind], owner, identifier, f"{attempt}/started", b"")
    return False


def has_published(storage: Storage, kind: Kind, owner: str, identifier: str) -> bool:
    """Tell whether an attempt that counts has published. Raises StoreUnavailable."""
    return bool(attempts_in(storage.names(BUCKETS[kind], owner, identifier)))


def find(
    storage: Storage, kind: Kind, owner: str, identifier: str
) -> Publication | None:
    """Return the attempt that counts, None as long as there is none.

    Raises:
        ModelUntrusted: its manifest is damaged.
        StoreUnavailable: the store does not answer.
    """
    attempts = attempts_in(storage.names(BUCKETS[kind], owner, identifier))
    if not attempts:
        return None
    try:
        manifest = json.loads(
            storage.read(
                BUCKETS[kind], owner, identifier, f"{min(attempts)}/manifest.json"
            )
        )
    except ObjectMissing:
        # It was deleted between the two requests.
        return None
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise ModelUntrusted(f"The manifest of {identifier} is damaged.")
    return Publication(min(attempts), manifest)


def result_file(manifest: dict[str, Any]) -> str:
    """Return the name of a result's file."""
    return RESULT_FILES.get(str(manifest.get("format")), RESULT_FILES["parquet"])


def attempts_in(names: list[str]) -> list[int]:
    """Return the attempts that have published, of all names under an id; none where it does not
    count."""
    if CANCELED in names or TOMBSTONE in names:
        return []
    first = max(
        (int(found[1]) for name in names if (found := _STARTED.fullmatch(name))),
        default=0,
    )
    published = [
        int(found[1]) for name in names if (found := _MANIFEST.fullmatch(name))
    ]
    return [attempt for attempt in published if attempt >= first]


def is_deleted(storage: Storage, kind: Kind, owner: str, identifier: str) -> bool:
    """Tell whether a model or result was deleted. Raises StoreUnavailable."""
    try:
        storage.version(BUCKETS[kind], owner, identifier, TOMBSTONE)
    except ObjectMissing:
        return False
    return True


def note_of(result_id: str) -> str:
    """Return the name of the note of a result, under the id of its model, in the bucket of
    results."""
    return f"made/{result_id}"


def results_of(storage: Storage, owner: str, model_id: str) -> list[str]:
    """Return the ids of all results that were made with a model, of those being made as well."""
    return notes_in(storage.names("results", owner, model_id))


def notes_in(names: list[str]) -> list[str]:
    """Return the ids of the noted results, of all names under a model's id in the bucket of
    results."""
    return [note[1] for note in map(_NOTE.fullmatch, names) if note]


def model_of(storage: Storage, owner: str, result_id: str) -> str | None:
    """Return the model that a result, even one half deleted, was made with; None where nothing
    says."""
    for name in storage.names("results", owner, result_id):
        if _MANIFEST.fullmatch(name) or _RECORD.fullmatch(name):
            said = _read_json(storage, "results", owner, result_id, name) or {}
            if isinstance(said.get("model_id"), str):
                return str(said["model_id"])
    return None


def write_record(
    storage: Storage, kind: Kind, owner: str, identifier: str, record: dict[str, Any]
) -> None:
    """Write the final record of a job's attempt, unless it was deleted. Raises StoreUnavailable.

    `number` in it is that of who ended the job, where that was none of the attempts to run it.
    """
    name = f"record/{record.get('number', record['attempts'])}.json"
    storage.write(BUCKETS[kind], owner, identifier, name, as_json(record))
    if is_deleted(storage, kind, owner, identifier):
        storage.delete(BUCKETS[kind], owner, identifier, [name])


def hide_canceled(
    storage: Storage, kind: Kind, owner: str, identifier: str, record: dict[str, Any]
) -> None:
    """Write the final record of a canceled job, and remove what it has left so far.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    bucket = BUCKETS[kind]
    storage.write(bucket, owner, identifier, CANCELED, as_json(record))
    names = storage.names(bucket, owner, identifier)
    left = [
        name
        for name in names
        if name != TOMBSTONE and (TOMBSTONE in names or name != CANCELED)
    ]
    storage.delete(bucket, owner, identifier, left)


def read_record(storage: Storage, owner: str, identifier: str) -> dict[str, Any] | None:
    """Return a job's final record, whichever its kind, with its log.

    That of a canceled job is the marker itself; else it is the last one, which is that of who ended
    the job. Where an attempt has published, a failure that followed does not count.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    for bucket in BUCKETS.values():
        names = storage.names(bucket, owner, identifier)
        if TOMBSTONE in names:
            continue
        has_published = bool(attempts_in(names))
        read = (
            _read_json(storage, bucket, owner, identifier, name)
            for name in _records_in(names)
        )
        last = None
        for record in filter(None, read):
            if not has_published or record.get("status") == "finished":
                return record
            last = last or record
        if last:
            return last
    return None


def _records_in(names: list[str]) -> list[str]:
    """Return the names of the records that may count, of all names under an id, the last one
    first."""
    if CANCELED in names:
        return [CANCELED]
    return sorted(
        (name for name in names if _RECORD.fullmatch(name)),
        key=_attempt_of,
        reverse=True,
    )


def _attempt_of(record_name: str) -> int:
    return int(record_name.removeprefix("record/").removesuffix(".json"))


def _read_json(
    storage: Storage, bucket: Bucket, owner: str, identifier: str, name: str
) -> dict[str, Any] | None:
    try:
        content = json.loads(storage.read(bucket, owner, identifier, name))
    except (ObjectMissing, ValueError):
        return None
    return content if isinstance(content, dict) else None


def as_json(value: dict[str, Any]) -> bytes:
    """Return a manifest or record as it is written to the store."""
    return json.dumps(value, indent=1).encode()
