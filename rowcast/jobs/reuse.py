"""Which finished job had the same inputs, options and code, so that `reuse` answers with it.

Redis holds this as a cache: a lost entry only means that a job is fitted or predicted again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import redis

from rowcast.errors import ObjectDamaged
from rowcast.ids import time_of
from rowcast.jobs.service import Submission
from rowcast.store import (
    JobRef,
    Kind,
    Storage,
    Version,
    deduplication,
    publications,
    versions,
)

KEPT_S = 30 * 24 * 3600
# The dataset counts by its bytes, not by its version in the store. Every other option of a job
# counts.
_NOT_COUNTED = frozenset({"dataset", "dataset_sha256"})


def key_of(
    kind: Kind,
    dataset_sha256: str,
    options: Mapping[str, Any],
    made_by: Mapping[str, str],
    model: tuple[str, str] | None = None,
) -> str:
    """Return what two jobs share that have the same outcome, 64 hexadecimal digits.

    `options`: those of the job, with the target's name; `made_by`: `versions.current()`. `model`:
    the id and the file's SHA-256. The id counts because a result belongs to its model, and is
    deleted with it.
    """
    counted = {
        name: value for name, value in options.items() if name not in _NOT_COUNTED
    }
    decisive = [kind, dataset_sha256, model, counted, dict(made_by)]
    text = json.dumps(decisive, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def note(connection: redis.Redis, owner: str, key: str, job_id: str) -> None:
    """Note the job that has published what belongs to a key."""
    with suppress(redis.RedisError):
        connection.set(_name(owner, key), job_id, ex=KEPT_S)


def find(
    connection: redis.Redis,
    storage: Storage,
    owner: str,
    key: str,
    kind: Kind,
    *,
    oldest: float | None = None,
) -> str | None:
    """Return the job that was noted with a key; None if what it published does not exist any more.

    A job that was minted before `oldest`, in Unix seconds, is about to be removed and does not
    count.

    Raises:
        RedisError, StoreUnavailable: the part does not answer.
    """
    noted = cast(bytes | None, connection.getex(_name(owner, key), ex=KEPT_S))
    if noted is None:
        return None
    job_id = noted.decode()
    minted_at = time_of(job_id)
    if minted_at is None or (oldest is not None and minted_at.timestamp() < oldest):
        return None
    try:
        found = publications.find(storage, JobRef(owner, kind, job_id))
    except ObjectDamaged:
        # A damaged manifest counts as missing.
        return None
    return job_id if found else None


def earlier(
    connection: redis.Redis,
    storage: Storage,
    submission: Submission,
    model_sha256: str | None = None,
    *,
    oldest: float | None = None,
) -> str | None:
    """Return the finished job that a submission would only repeat.

    None where there is none, or where no worker has seen the dataset's bytes yet. Raises as `find`.
    """
    owner, kind = submission.ref.owner, submission.ref.kind
    arguments = submission.arguments
    options = arguments["options"]
    version = Version(**options["dataset"])
    digest = deduplication.digest_of(
        connection, owner, arguments["dataset_id"], version
    )
    if digest is None:
        return None
    model = (arguments["model_id"], model_sha256) if model_sha256 else None
    key = key_of(kind, digest, options, versions.current(), model)
    return find(connection, storage, owner, key, kind, oldest=oldest)


def _name(owner: str, key: str) -> str:
    return f"rowcast:reuse:{owner}:{key}"
