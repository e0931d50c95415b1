"""A copy of the store and of Redis in a folder, and back.

    python -m rowcast.backup save FOLDER [--include FILE]
    python -m rowcast.backup restore FOLDER [--merge]

Where store and Redis are, the settings say. Jobs may go on running while a copy is made: Redis is
read first and in one moment, then the store, each bucket before those that it refers to. The
folder's index.json names every object and the SHA-256 of every file; it is written last, and what
has none is no backup.

    index.json          what there is, with checksums and, of datasets, the versions that jobs
    expect redis.jsonl         a key a line, as Redis' DUMP writes it, with the time at which it
    ends objects/ab/abcd...  the bytes of objects, named by their SHA-256 included/...        files
    that were given with --include
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import redis
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job

from rowcast.config import ConfigurationError, Settings
from rowcast.errors import StoreUnavailable
from rowcast.ids import folder_of
from rowcast.redis_clients import connect_for_work
from rowcast.store import Bucket, ObjectMissing, Storage, object_store

FORMAT = 1
INDEX, REDIS, OBJECTS, INCLUDED = "index.json", "redis.jsonl", "objects", "included"
# A result refers to its model and both to datasets, so whatever a bucket refers to is looked at
# after it.
BUCKETS: tuple[Bucket, ...] = ("results", "models", "datasets")
N_THREADS = 16
# Redis is asked for both of ours and RQ's; who works at the moment is for the next workers to say.
PATTERNS = ("rq:*", "rowcast:*")
_OF_WORKERS = re.compile(rb"rq:workers?(:.*)?", re.DOTALL)
_PROBE = "rowcast:restoring"
_JOB = "rq:job:"
_IS_JOB = re.compile(rb"rq:job:[0-9a-f-]{36}")

# All keys in one moment: read in turn, they would not show a job on its way from one list to
# another.
_DUMP = """
local found = {}
for _, pattern in ipairs(ARGV) do
  local cursor = '0'
  repeat
    local page = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000)
    cursor = page[1]
    for _, key in ipairs(page[2]) do
      found[#found + 1] = {key, redis.call('DUMP', key), redis.call('PTTL', key)}
    end
  until cursor == '0'
end
return found
"""

Index = dict[str, Any]
Entry = dict[str, Any]
# Its name, its value as dumped, and its end in Unix milliseconds; 0: none.
Key = tuple[bytes, bytes, int]


class BackupError(Exception):
    """A folder cannot be backed up to or restored from; the message says why and what to do."""


def save(
    folder: Path,
    storage: Storage,
    connection: redis.Redis,
    include: Sequence[Path] = (),
) -> Index:
    """Copy everything to a new or empty folder, and return its index.

    Raises:
        BackupError: the folder is in use.
        StoreUnavailable, redis.RedisError: a part does not answer.
        OSError: the folder cannot be written.
    """
    _begin(folder)
    n_keys = _save_keys(connection, folder / REDIS)
    objects = [
        entry for bucket in BUCKETS for entry in _save_bucket(storage, bucket, folder)
    ]
    for path in include:
        shutil.copyfile(path, folder / INCLUDED / path.name)
        (folder / INCLUDED / path.name).chmod(0o600)
    files = [folder / REDIS, *(folder / INCLUDED).iterdir()]
    index = {
        "format": FORMAT,
        "created_at": time.time(),
        "n_keys": n_keys,
        "files": {str(path.relative_to(folder)): _digest(path) for path in files},
        "objects": objects,
    }
    _write_index(folder, index)
    return index


def restore(
    folder: Path, storage: Storage, connection: redis.Redis, *, merge: bool = False
) -> Index:
    """Bring a backup back, once all of it has been checked, and return its index.

    Into a store and a Redis that hold nothing, or with `merge` into any: what has the same name is
    replaced.

    Raises:
        BackupError: the backup is damaged or unfinished, or there is something already; nothing is
            changed. StoreUnavailable, redis.RedisError: a part does not answer.
    """
    index = verified(folder)
    keys = _keys_in(folder / REDIS)
    if not merge:
        _refuse_used(storage, connection)
    _refuse_other_redis(connection, keys)
    storage.ensure_buckets()
    for rank in (_is_content, _is_manifest, _is_record):
        wanted = [entry for entry in index["objects"] if rank(entry["key"])]
        _in_parallel(partial(_restore_object, folder, storage), wanted)
    jobs = [key for key in keys if _IS_JOB.fullmatch(key[0])]
    _restore_keys(connection, jobs)
    _renew_versions(storage, connection, index, jobs)
    # Last what names them: as soon as a job stands in a list a worker may take it.
    _restore_keys(connection, [key for key in keys if not _IS_JOB.fullmatch(key[0])])
    return index


def verified(folder: Path) -> Index:
    """Return the index of a backup whose files are all there and unchanged.

    Raises:
        BackupError: they are not, or it was not finished; names what is wrong.
    """
    index = _read_index(folder)
    expected = {
        **index["files"],
        **{_place(entry["sha256"]): entry["sha256"] for entry in index["objects"]},
    }
    for name, sha256 in expected.items():
        if not (folder / name).is_file():
            raise BackupError(f"The backup {folder} is damaged: {name} is missing.")
        if _digest(folder / name) != sha256:
            raise BackupError(
                f"The backup {folder} is damaged: {name} is not what was saved."
            )
    return index


def _begin(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BackupError(f"{folder} holds something already; name a new folder.")
    for name in (OBJECTS, INCLUDED):
        (folder / name).mkdir(mode=0o700)


def _save_keys(connection: redis.Redis, path: Path) -> int:
    """Write all keys that belong to jobs to a file, and return how many."""
    # A scan may name a key twice.
    found = cast(
        list[tuple[bytes, bytes | None, int]], connection.eval(_DUMP, 0, *PATTERNS)
    )
    now_ms, values = (
        int(time.time() * 1000),
        {key: (value, ttl_ms) for key, value, ttl_ms in found},
    )
    lines = [
        {
            "key": base64.b64encode(key).decode(),
            "value": base64.b64encode(value).decode(),
            "expires_at_ms": now_ms + ttl_ms if ttl_ms > 0 else None,
        }
        for key, (value, ttl_ms) in values.items()
        if value and not _OF_WORKERS.fullmatch(key)
    ]
    with _private(path) as file:
        file.writelines(json.dumps(line).encode() + b"\n" for line in lines)
    return len(lines)


def _save_bucket(storage: Storage, bucket: Bucket, folder: Path) -> list[Entry]:
    """Copy the objects of a bucket, and return what the index says of them."""
    # A record stands for a manifest, and a manifest for its file: who saw the first sees the second
    # later.
    records, manifests, contents = (
        sorted(filter(rank, storage.keys(bucket)))
        for rank in (_is_record, _is_manifest, _is_content)
    )
    # A deletion removes a manifest before its file, so a manifest that is there still follows a
    # whole file.
    copy = partial(_save_object, storage, bucket, folder)
    found = [
        entry
        for keys in (contents, manifests, records)
        for entry in _in_parallel(copy, keys)
    ]
    return [entry for entry in found if entry]


def _save_object(
    storage: Storage, bucket: Bucket, folder: Path, key: str
) -> Entry | None:
    with tempfile.NamedTemporaryFile(
        dir=folder / OBJECTS, prefix="part-", delete=False
    ) as file:
        part = Path(file.name)
    try:
        sha256, version = storage.copy_out(bucket, key, part)
    except ObjectMissing:
        # It was deleted in the meantime.
        part.unlink()
        return None
    path = folder / _place(sha256)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    part.replace(path)
    return {"bucket": bucket, "key": key, "sha256": sha256, **vars(version)}


def _restore_object(folder: Path, storage: Storage, entry: Entry) -> None:
    storage.copy_in(entry["bucket"], entry["key"], folder / _place(entry["sha256"]))


def _in_parallel(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(work, items))


def _is_record(key: str) -> bool:
    return "/record/" in key


def _is_manifest(key: str) -> bool:
    return key.endswith("/manifest.json")


def _is_content(key: str) -> bool:
    return not (_is_record(key) or _is_manifest(key))


def _keys_in(path: Path) -> list[Key]:
    """Return all keys that have not ended."""
    now_ms, found = time.time() * 1000, []
    for line in path.read_text().splitlines():
        saved = json.loads(line)
        end_ms = saved["expires_at_ms"] or 0
        if not end_ms or end_ms > now_ms:
            found.append(
                (
                    base64.b64decode(saved["key"]),
                    base64.b64decode(saved["value"]),
                    end_ms,
                )
            )
    return found


def _refuse_used(storage: Storage, connection: redis.Redis) -> None:
    used = [
        f"the bucket of {bucket}" for bucket in BUCKETS if not storage.is_empty(bucket)
    ]
    found = [
        key for pattern in PATTERNS for key in connection.scan_iter(pattern, count=1000)
    ]
    used += ["Redis"] if any(not _OF_WORKERS.fullmatch(key) for key in found) else []
    if used:
        raise BackupError(
            f"There is something already in {', '.join(used)}. Restore into an empty store and "
            "Redis, "
            "or say --merge to replace what has the same name and keep the rest."
        )


def _refuse_other_redis(connection: redis.Redis, keys: list[Key]) -> None:
    """Try the first key, because a Redis does not take what a newer one has dumped."""
    try:
        for _, value, _ in keys[:1]:
            connection.restore(_PROBE, 1000, value, replace=True)
            connection.delete(_PROBE)
    except redis.ResponseError as error:
        raise BackupError(
            f"This Redis does not take the keys of the backup ({error}). "
            "Restore into the version that it was made with, or a newer one."
        ) from None


def _restore_keys(connection: redis.Redis, keys: list[Key]) -> None:
    with connection.pipeline(transaction=True) as pipe:
        for key, value, end_ms in keys:
            pipe.restore(key, end_ms, value, replace=True, absttl=bool(end_ms))
        pipe.execute()


def _renew_versions(
    storage: Storage, connection: redis.Redis, index: Index, keys: list[Key]
) -> None:
    """Let restored jobs expect the datasets as they are now: written anew, they have other tags and
    times."""
    saved = {
        entry["key"]: entry
        for entry in index["objects"]
        if entry["bucket"] == "datasets"
    }
    for key, _, _ in keys:
        try:
            job = Job.fetch(
                key.decode().removeprefix(_JOB),
                connection=connection,
                serializer="json",
            )
            owner, dataset_id = job.meta["owner"], job.kwargs["dataset_id"]
            options, entry = (
                job.kwargs["options"],
                saved[f"{folder_of(owner, dataset_id)}/data"],
            )
            is_same = options["dataset"] == {"size": entry["size"], "tag": entry["tag"]}
        except (NoSuchJobError, DeserializationError, KeyError, TypeError, ValueError):
            # It has ended just now, its dataset is gone, or it is no job of ours.
            continue
        if is_same:
            version = storage.version("datasets", owner, dataset_id, "data")
            job.kwargs = {
                **job.kwargs,
                "options": {**options, "dataset": vars(version)},
            }
            connection.hset(job.key, "data", zlib.compress(job.data))


def _write_index(folder: Path, index: Index) -> None:
    text = json.dumps(index)
    part = folder / f"{INDEX}.part"
    with _private(part) as file:
        file.write(json.dumps({"sha256": _text_digest(text), "index": index}).encode())
    part.replace(folder / INDEX)


def _read_index(folder: Path) -> Index:
    if not folder.is_dir():
        raise BackupError(f"There is no folder {folder}.")
    if not (folder / INDEX).is_file():
        raise BackupError(
            f"The backup {folder} was not finished: it has no {INDEX}. Take another one."
        )
    try:
        saved = json.loads((folder / INDEX).read_bytes())
        index, sha256 = saved["index"], saved["sha256"]
    except (ValueError, TypeError, KeyError):
        index, sha256 = None, ""
    if not isinstance(index, dict) or _text_digest(json.dumps(index)) != sha256:
        raise BackupError(
            f"The backup {folder} is damaged: {INDEX} is not what was saved."
        )
    if index.get("format") != FORMAT:
        raise BackupError(
            f"The backup {folder} is of another version of Rowcast (format {index['format']})."
        )
    return index


def _place(sha256: str) -> str:
    return f"{OBJECTS}/{sha256[:2]}/{sha256}"


def _private(path: Path) -> Any:
    path.touch(mode=0o600)
    return path.open("wb")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Save or restore as the command line says; return the exit code."""
    options = _parse(arguments)
    try:
        settings = Settings.from_environment()
        storage = Storage(settings, object_store.WORKER, connections=N_THREADS)
        with closing(connect_for_work(settings)) as connection:
            if options.command == "save":
                done, index = (
                    "Saved",
                    save(options.folder, storage, connection, options.include),
                )
            else:
                index = restore(
                    options.folder, storage, connection, merge=options.merge
                )
                done = "Restored"
    except (BackupError, ConfigurationError, OSError, redis.RedisError) as error:
        return _refused(str(error))
    except StoreUnavailable as error:
        return _refused(error.detail)
    counted = f"{len(index['objects'])} objects and {index['n_keys']} keys of Redis"
    sys.stdout.write(f"{done} {counted}: {options.folder}\n")
    return 0


def _refused(message: str) -> int:
    sys.stderr.write(f"rowcast.backup: {message}\n")
    return 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rowcast.backup", description="Copy store and Redis."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    saving = commands.add_parser("save", help="copy to a new folder")
    saving.add_argument(
        "--include", type=Path, action="append", default=[], help="also copy this file"
    )
    restoring = commands.add_parser(
        "restore", help="bring a copy back, once all of it has been checked"
    )
    restoring.add_argument(
        "--merge",
        action="store_true",
        help="into a store and Redis that hold something",
    )
    for command in (saving, restoring):
        command.add_argument("folder", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
