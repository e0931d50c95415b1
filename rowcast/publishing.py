"""What an attempt leaves in the store: its files, then its manifest, then the job's final record.

The manifest is written last and makes the attempt count. Readers take the lowest attempt that has
one, so a late write by an attempt that was given up changes nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rowcast.errors import ModelUntrusted
from rowcast.run import Run
from rowcast.storage import Bucket, ObjectMissing, Storage

Kind = Literal["fit", "predict"]
BUCKETS: dict[Kind, Bucket] = {"fit": "models", "predict": "results"}
# The store is not trusted: names that are none of ours are passed over.
_MANIFEST = re.compile(r"([0-9]{1,9})/manifest\.json")
_RECORD = re.compile(r"record/([0-9]{1,9})\.json")
MODEL_FILE = "model.joblib"
RESULT_FILES = {name: f"result.{name}" for name in ("parquet", "csv", "jsonl")}


@dataclass(frozen=True)
class Publication:
    """A finished attempt: its number and its manifest."""

    attempt: int
    manifest: dict[str, Any]


def publish(job: Run, kind: Kind, identifier: str, file: Path, manifest: dict[str, Any]) -> None:
    """Write an attempt's file and, last, its manifest. Raises StoreUnavailable."""
    bucket = BUCKETS[kind]
    job.storage.write(bucket, job.owner, identifier, f"{job.attempt}/{file.name}", file)
    job.storage.write(bucket, job.owner, identifier, f"{job.attempt}/manifest.json", _json(manifest))


def find(storage: Storage, kind: Kind, owner: str, identifier: str) -> Publication | None:
    """Return the attempt that counts, None as long as there is none.

    Raises:
        ModelUntrusted: its manifest is damaged.
        StoreUnavailable: the store does not answer.
    """
    names = storage.names(BUCKETS[kind], owner, identifier)
    attempts = [int(found[1]) for name in names if (found := _MANIFEST.fullmatch(name))]
    if not attempts or "canceled" in names:
        return None
    content = storage.read(BUCKETS[kind], owner, identifier, f"{min(attempts)}/manifest.json")
    try:
        manifest = json.loads(content)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise ModelUntrusted(f"The manifest of {identifier} is damaged.")
    return Publication(min(attempts), manifest)


def result_file(manifest: dict[str, Any]) -> str:
    """Return the name of a result's file."""
    return RESULT_FILES.get(str(manifest.get("format")), RESULT_FILES["parquet"])


def write_record(storage: Storage, kind: Kind, owner: str, identifier: str, record: dict[str, Any]) -> None:
    """Write the final record of a job's attempt. Raises StoreUnavailable."""
    storage.write(BUCKETS[kind], owner, identifier, f"record/{record['attempts']}.json", _json(record))


def read_record(storage: Storage, owner: str, identifier: str) -> dict[str, Any] | None:
    """Return a job's final record, whichever its kind: of a finished attempt if there is one, else the last.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    for bucket in BUCKETS.values():
        names = storage.names(bucket, owner, identifier)
        records = sorted((n for n in names if _RECORD.fullmatch(n)), key=_attempt_of)
        finished = [n for n in records if f"{_attempt_of(n)}/manifest.json" in names]
        if records:
            return _read_json(storage, bucket, owner, identifier, (finished or records[-1:])[0])
    return None


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


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode()
