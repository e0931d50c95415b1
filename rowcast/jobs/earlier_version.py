"""What earlier versions have written to Redis, so that jobs they queued still run.

Everything that reads an older form is here; remove it in version 0.3, after one version in between.
Two forms are known: that of 0.1, which kept our fields in RQ's meta data, and that of the last
version, whose fields had other names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import redis
from rq.exceptions import DeserializationError
from rq.job import Job

# The fields of a job's hash that were renamed, new to old. Workers of both versions may run at the
# same time, so this version writes both names and reads the old one first.
RENAMED = {
    "queue_score": "rank",
    "attempt_errors": "causes",
    "confirmed_attempt": "begun",
    "crashes": "deaths",
    "closing_attempts": "burials",
}
# The same table for the scripts in Redis.
_LUA_ENTRIES = ", ".join(f"{new} = {old!r}" for new, old in RENAMED.items())
RENAMED_LUA = f"local RENAMED = {{{_LUA_ENTRIES}}}\n"


def in_new_form(
    job_id: str, raw: Mapping[bytes, bytes], fields: dict[str, str]
) -> dict[str, str]:
    """Return a job's fields, given raw and as text, under the names of this version."""
    if "enqueued" not in fields:
        return {**_fields_in_meta(job_id, raw), **fields}
    renamed = {new: fields[old] for new, old in RENAMED.items() if old in fields}
    # A worker of the last version may have written later, under the old names alone.
    return {**fields, **renamed}


def _fields_in_meta(job_id: str, raw: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return our fields of a job that version 0.1 has queued; none of a job that is nobody's."""
    job = Job(job_id, connection=redis.Redis(), serializer="json")
    try:
        job.restore(dict(raw))
        known = {
            "owner": job.meta["owner"],
            "kind": job.meta["kind"],
            "request_id": job.meta.get("request_id"),
            "attempt": job.meta.get("attempts"),
            "record": json.dumps(job.meta["record"]) if "record" in job.meta else None,
            "enqueued": job.enqueued_at.timestamp() if job.enqueued_at else None,
            "dataset_id": job.kwargs.get("dataset_id"),
            "model_id": job.kwargs.get("model_id"),
        }
    except (DeserializationError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    return {name: str(value) for name, value in known.items() if value is not None}


def work_of(kept: Any) -> Any:
    """Return the description of a job's work by name; it was a list."""
    if not isinstance(kept, list):
        return kept
    names = ("kind", "learner", "n_rows", "n_columns", "effort")
    return dict(zip(names, kept, strict=False))
