"""What an attempt leaves in the store: its files, then its manifest, which makes it count.

An attempt that follows another first writes `<attempt>/started`. From then on no lower attempt
counts: what an attempt that was given up for dead still writes when it wakes up changes nothing.

Deleting writes an empty tombstone, `deleted`, which hides everything beside it, before it
removes anything. Every writer looks for the tombstone after writing and takes its own objects
back. So one of the two removes each object, whichever comes first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from rowcast.learning import RESULT_FORMATS
from rowcast.store import documents
from rowcast.store.answers import ObjectMissing
from rowcast.store.object_store import Bucket, Storage

Kind = Literal["fit", "predict"]
BUCKETS: dict[Kind, Bucket] = {"fit": "models", "predict": "results"}
TOMBSTONE, CANCELED = "deleted", "canceled"
MODEL_FILE = "model.joblib"
RESULT_FILES = {
    name: f"result.{found.suffix}"
    for name, found in RESULT_FORMATS.items()
    if found.suffix
}

# The store is not trusted: names of another form are passed over.
MANIFEST_NAME = re.compile(r"([0-9]{1,9})/manifest\.json")
_STARTED_NAME = re.compile(r"([0-9]{1,9})/started")
_NOTE_NAME = re.compile(r"made/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


@dataclass(frozen=True)
class JobRef:
    """A job, which is also the model or the result that it makes."""

    owner: str
    kind: Kind
    id: str

    @property
    def bucket(self) -> Bucket:
        """The bucket of what the job makes."""
        return BUCKETS[self.kind]

    @property
    def place(self) -> tuple[Bucket, str, str]:
        """Where all objects of the job are: bucket, owner and id, as `Storage` takes them."""
        return self.bucket, self.owner, self.id

    @property
    def manifest_name(self) -> str:
        """What errors call the manifest of what the job makes."""
        return f"manifest of {self.bucket[:-1]} {self.id}"


@dataclass(frozen=True)
class Publication:
    """A finished attempt: its number and its manifest."""

    attempt: int
    manifest: dict[str, Any]


def start_again(storage: Storage, job: JobRef, attempt: int) -> bool:
    """Take the place of earlier attempts; return True if one of them has published.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    if has_published(storage, job):
        return True
    storage.write(*job.place, f"{attempt}/started", b"")
    return False


def has_published(storage: Storage, job: JobRef) -> bool:
    """Return whether an attempt that counts has published. Raises StoreUnavailable."""
    return bool(attempts_in(storage.names(*job.place)))


def find(storage: Storage, job: JobRef) -> Publication | None:
    """Return the attempt that counts, None while no attempt counts.

    Raises:
        ObjectDamaged: its manifest is damaged.
        StoreUnavailable: the store does not answer.
    """
    attempts = attempts_in(storage.names(*job.place))
    if not attempts:
        return None
    attempt = min(attempts)
    try:
        content = storage.read(*job.place, f"{attempt}/manifest.json")
    except ObjectMissing:
        # It was deleted between the two requests.
        return None
    return Publication(attempt, documents.parsed(content, job.manifest_name))


def attempts_in(names: list[str]) -> list[int]:
    """Return the published attempts among all names under an id; none if something hides them."""
    if CANCELED in names or TOMBSTONE in names:
        return []
    first = max(_numbers_in(names, _STARTED_NAME), default=0)
    published = _numbers_in(names, MANIFEST_NAME)
    return [attempt for attempt in published if attempt >= first]


def _numbers_in(names: list[str], pattern: re.Pattern[str]) -> list[int]:
    matches = map(pattern.fullmatch, names)
    return [int(match[1]) for match in matches if match]


def is_deleted(storage: Storage, job: JobRef) -> bool:
    """Return whether a model or result was deleted. Raises StoreUnavailable."""
    try:
        storage.version(*job.place, TOMBSTONE)
    except ObjectMissing:
        return False
    return True


def result_file(manifest: dict[str, Any]) -> str:
    """Return the name of a result's file."""
    return RESULT_FILES.get(str(manifest.get("format")), RESULT_FILES["parquet"])


def note_of(result_id: str) -> str:
    """Return the name of a result's note, which is in `results` under the id of its model."""
    return f"made/{result_id}"


def results_of(storage: Storage, owner: str, model_id: str) -> list[str]:
    """Return the ids of the results made, or being made, with a model. Raises StoreUnavailable."""
    return notes_in(storage.names("results", owner, model_id))


def notes_in(names: list[str]) -> list[str]:
    """Return the ids of the noted results among all names in `results` under a model's id."""
    notes = map(_NOTE_NAME.fullmatch, names)
    return [note[1] for note in notes if note]


def read_json(storage: Storage, job: JobRef, name: str) -> dict[str, Any] | None:
    """Return a manifest or record of a job; None where it is missing.

    Raises:
        ObjectDamaged: it is not what was written.
        StoreUnavailable: the store does not answer.
    """
    try:
        content = storage.read(*job.place, name)
    except ObjectMissing:
        return None
    return documents.parsed(content, f"object {name} of job {job.id}")
