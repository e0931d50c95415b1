"""Save everything to a folder, and restore it.

Jobs may run while a backup is made. Redis is read first, in one moment; then the store, each bucket
before those that its objects refer to. So whatever a saved object refers to is saved too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import redis

from rowcast.backup import folder as folders
from rowcast.backup import redis_keys
from rowcast.backup.folder import BackupError, Entry, Index
from rowcast.store import Bucket, ObjectMissing, Storage

# Results refer to models, and both refer to datasets.
BUCKETS: tuple[Bucket, ...] = ("results", "models", "datasets")
N_THREADS = 16


def save(
    folder: Path,
    storage: Storage,
    connection: redis.Redis,
    include: Sequence[Path] = (),
) -> Index:
    """Copy everything to a new or empty folder, and return its index.

    Raises:
        BackupError: the folder is not empty.
        StoreUnavailable, redis.RedisError: the store or Redis does not answer.
        OSError: the folder cannot be written.
    """
    folders.prepare(folder)
    n_keys = redis_keys.save(connection, folder / folders.REDIS)
    objects: list[Entry] = []
    for bucket in BUCKETS:
        objects += _save_bucket(storage, bucket, folder)
    for path in include:
        folders.include(folder, path)
    return folders.finish(folder, n_keys, objects)


def restore(
    folder: Path, storage: Storage, connection: redis.Redis, *, merge: bool = False
) -> Index:
    """Restore a backup after checking all of it, and return its index.

    The store and Redis must be empty. With `merge` they need not be: what has the same name is
    replaced.

    Raises:
        BackupError: the backup is damaged or was not finished, Redis is too old for it, or the
            store or Redis is not empty; nothing is changed.
        StoreUnavailable, redis.RedisError: the store or Redis does not answer.
    """
    index = folders.verified(folder)
    keys = redis_keys.read(folder / folders.REDIS)
    if not merge:
        _check_empty(storage, connection)
    redis_keys.check_version(connection, keys)

    storage.ensure_buckets()
    objects = index["objects"]
    for is_next in (_is_content, _is_manifest, _is_record):
        chosen = [entry for entry in objects if is_next(entry["key"])]
        _in_parallel(partial(_restore_object, folder, storage), chosen)

    jobs = [key for key in keys if key.is_job]
    redis_keys.restore(connection, jobs)
    redis_keys.renew_versions(connection, storage, objects, jobs)
    # The queue comes last: a worker may start a job as soon as the job is in it.
    redis_keys.restore(connection, (key for key in keys if not key.is_job))
    return index


def _check_empty(storage: Storage, connection: redis.Redis) -> None:
    used = [
        f"the bucket of {bucket}" for bucket in BUCKETS if not storage.is_empty(bucket)
    ]
    if redis_keys.holds_any(connection):
        used.append("Redis")
    if used:
        raise BackupError(
            f"There is already data in {', '.join(used)}. Restore into an empty store and Redis, "
            "or add --merge to replace what has the same name and keep the rest."
        )


def _save_bucket(storage: Storage, bucket: Bucket, folder: Path) -> list[Entry]:
    """Copy the objects of a bucket, and return their entries in the index.

    A job publishes content, then a manifest of it, then a record of that. Listing them in the
    reverse order finds, for each, what it refers to. A deletion removes a manifest before its
    content, so copying content first means that a manifest that is still there has its content.
    """
    records = sorted(filter(_is_record, storage.keys(bucket)))
    manifests = sorted(filter(_is_manifest, storage.keys(bucket)))
    contents = sorted(filter(_is_content, storage.keys(bucket)))

    saved: list[Entry] = []
    for keys in (contents, manifests, records):
        copied = _in_parallel(partial(_save_object, storage, bucket, folder), keys)
        saved += [entry for entry in copied if entry]
    return saved


def _save_object(
    storage: Storage, bucket: Bucket, folder: Path, key: str
) -> Entry | None:
    """Copy an object, and return its entry; None if it was deleted in the meantime."""
    parts = folder / folders.OBJECTS
    with tempfile.NamedTemporaryFile(dir=parts, prefix="part-", delete=False) as file:
        part = Path(file.name)
    try:
        sha256, version = storage.copy_out(bucket, key, part)
    except ObjectMissing:
        part.unlink()
        return None
    path = folder / folders.place_of(sha256)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    part.replace(path)
    return {"bucket": bucket, "key": key, "sha256": sha256, **vars(version)}


def _restore_object(folder: Path, storage: Storage, entry: Entry) -> None:
    path = folder / folders.place_of(entry["sha256"])
    storage.copy_in(entry["bucket"], entry["key"], path)


def _in_parallel(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(work, items))


def _is_record(key: str) -> bool:
    return "/record/" in key


def _is_manifest(key: str) -> bool:
    return key.endswith("/manifest.json")


def _is_content(key: str) -> bool:
    return not _is_record(key) and not _is_manifest(key)
