"""Remove uploads that no job was ever submitted for.

The queue notes each dataset that an accepted job names, and maintenance marks it in the store with
an empty object `used`. What was uploaded before marks were written is never removed here.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

import redis

from rowcast.catalog import deletion, expiry
from rowcast.config import Settings
from rowcast.jobs import JobQueue
from rowcast.store import Storage, publications

log = logging.getLogger("rowcast.retention")

USED = "used"
# `<owner>/<dataset>` of datasets that have no mark yet.
_UNMARKED = "rowcast:used"
# The Unix seconds since which the queue notes datasets; lost with its notes.
_SINCE = "rowcast:used_since"
# Servers of an earlier version may run for a while, and note nothing.
_MARGIN_S = expiry.DAY_S
_BATCH = 500


def mark_used(storage: Storage, connection: redis.Redis) -> int:
    """Mark the datasets that accepted jobs have named; return how many were marked.

    Raises:
        RedisError, StoreUnavailable: a part does not answer.
    """
    _marked_since(connection)
    noted: Any = connection.srandmember(_UNMARKED, _BATCH)
    n_marked = 0
    for entry in noted:
        owner, _, dataset_id = entry.decode().partition("/")
        n_marked += _mark(storage, owner, dataset_id)
        connection.srem(_UNMARKED, entry)
    return n_marked


def _mark(storage: Storage, owner: str, dataset_id: str) -> bool:
    names = storage.names("datasets", owner, dataset_id)
    if "data" not in names or {USED, publications.TOMBSTONE} & set(names):
        return False
    storage.write("datasets", owner, dataset_id, USED, b"")
    if publications.TOMBSTONE in storage.names("datasets", owner, dataset_id):
        storage.delete("datasets", owner, dataset_id, [USED])
    return True


def _marked_since(connection: redis.Redis) -> float:
    connection.set(_SINCE, time.time(), nx=True)
    found: Any = connection.get(_SINCE)
    return float(found)


def sweep(
    storage: Storage,
    queue: JobQueue,
    settings: Settings,
    *,
    now: float,
    limit_s: float,
) -> int:
    """Remove unused uploads, for about `limit_s` seconds; return how many were removed.

    Those over MAX_UPLOAD_BYTES, which no job can use, go a day after their upload.

    Raises:
        RedisError, StoreUnavailable: a part does not answer.
    """
    if not settings.remove_unused_uploads_days:
        return 0
    deadline = time.monotonic() + limit_s
    since = _marked_since(queue.connection) + _MARGIN_S
    n_removed = 0
    for owner in storage.owners("datasets"):
        for day in storage.days("datasets", owner):
            if not _may_hold(day, since) or time.monotonic() >= deadline:
                continue
            sizes = storage.sizes_on_day("datasets", owner, day)
            due = [
                identifier
                for identifier, names in sizes.items()
                if expiry.made_at(identifier) >= since
                and _is_due(settings, identifier, names, now)
            ]
            n_removed += _remove(storage, queue, owner, due)
    if n_removed:
        log.info("removed %d uploads that no job was submitted for", n_removed)
    return n_removed


def _may_hold(day: str, since: float) -> bool:
    return day >= datetime.fromtimestamp(since, UTC).date().isoformat()


def _is_due(
    settings: Settings, identifier: str, sizes: dict[str, int], now: float
) -> bool:
    if "data" not in sizes or {USED, publications.TOMBSTONE} & set(sizes):
        return False
    is_too_large = sizes["data"] > settings.max_upload_bytes
    kept_days = settings.remove_unused_uploads_days
    days = min(1.0, kept_days) if is_too_large else kept_days
    # An upload may begin until its URL ends.
    made_at = expiry.made_at(identifier) + settings.upload_url_ttl_s
    return now >= made_at + days * expiry.DAY_S


def _remove(storage: Storage, queue: JobQueue, owner: str, due: list[str]) -> int:
    needed = queue.needed(owner) if due else set()
    n_removed = 0
    for identifier in due:
        is_noted = queue.connection.sismember(_UNMARKED, f"{owner}/{identifier}")
        if identifier in needed or is_noted:
            continue
        deletion.remove(storage, "datasets", owner, identifier)
        n_removed += 1
    return n_removed
