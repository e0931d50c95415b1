"""The keys of Redis in a backup: those of jobs, ours and RQ's."""

from __future__ import annotations

import base64
import json
import re
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job

from rowcast.backup.folder import BackupError, Entry, open_private
from rowcast.ids import folder_of
from rowcast.store import Storage

PATTERNS = ("rq:*", "rowcast:*")
# The workers that run now; after a restore others run, and write their own keys.
_OF_WORKERS = re.compile(rb"rq:workers?(:.*)?", re.DOTALL)
_PROBE = "rowcast:restoring"
_JOB = "rq:job:"
_JOB_KEY = re.compile(rb"rq:job:[0-9a-f-]{36}")

# Reads all keys in one moment: read one by one, they could miss a job that moves from one list to
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


@dataclass(frozen=True)
class SavedKey:
    """A key, its value as dumped, and when it expires in Unix milliseconds; 0: never."""

    name: bytes
    value: bytes
    expires_at_ms: int

    @property
    def is_job(self) -> bool:
        """Whether the key is a job's hash."""
        return _JOB_KEY.fullmatch(self.name) is not None


def save(connection: redis.Redis, path: Path) -> int:
    """Write all keys of jobs to a file, and return how many there are."""
    found: Any = connection.eval(_DUMP, 0, *PATTERNS)
    now_ms = int(time.time() * 1000)
    # A scan may return a key twice.
    dumped = {name: (value, ttl_ms) for name, value, ttl_ms in found}

    n_keys = 0
    with open_private(path) as file:
        for name, (value, ttl_ms) in dumped.items():
            if not value or _OF_WORKERS.fullmatch(name):
                continue
            line = {
                "key": base64.b64encode(name).decode(),
                "value": base64.b64encode(value).decode(),
                "expires_at_ms": now_ms + ttl_ms if ttl_ms > 0 else None,
            }
            file.write(json.dumps(line).encode() + b"\n")
            n_keys += 1
    return n_keys


def read(path: Path) -> list[SavedKey]:
    """Return the keys in a file, without those that have expired since."""
    now_ms = time.time() * 1000
    found = []
    for line in path.read_text().splitlines():
        saved = json.loads(line)
        name = base64.b64decode(saved["key"])
        value = base64.b64decode(saved["value"])
        expires_at_ms = saved["expires_at_ms"] or 0
        if not expires_at_ms or expires_at_ms > now_ms:
            found.append(SavedKey(name, value, expires_at_ms))
    return found


def holds_any(connection: redis.Redis) -> bool:
    """Return whether Redis already has keys of jobs."""
    for pattern in PATTERNS:
        for name in connection.scan_iter(pattern, count=1000):
            if not _OF_WORKERS.fullmatch(name):
                return True
    return False


def check_version(connection: redis.Redis, keys: list[SavedKey]) -> None:
    """Restore the first key under another name, because Redis rejects dumps of a newer version.

    Raises:
        BackupError: this Redis is older than the one that made the backup.
    """
    try:
        for key in keys[:1]:
            connection.restore(_PROBE, 1000, key.value, replace=True)
            connection.delete(_PROBE)
    except redis.ResponseError as error:
        raise BackupError(
            f"This Redis cannot read the keys of the backup ({error}). "
            "Restore into the version that made it, or a newer one."
        ) from None


def restore(connection: redis.Redis, keys: Iterable[SavedKey]) -> None:
    """Write keys to Redis, all of them or none."""
    with connection.pipeline(transaction=True) as pipe:
        for key in keys:
            expires_at_ms = key.expires_at_ms
            has_end = bool(expires_at_ms)
            pipe.restore(
                key.name, expires_at_ms, key.value, replace=True, absttl=has_end
            )
        pipe.execute()


def renew_versions(
    connection: redis.Redis,
    storage: Storage,
    objects: list[Entry],
    jobs: Iterable[SavedKey],
) -> None:
    """Let restored jobs expect the restored datasets, whose tags and times are new."""
    saved = {entry["key"]: entry for entry in objects if entry["bucket"] == "datasets"}
    for key in jobs:
        job_id = key.name.decode().removeprefix(_JOB)
        try:
            job = Job.fetch(job_id, connection=connection, serializer="json")
            owner = _owner_of(connection, key)
            expects_saved = _expects_saved(job, owner, saved)
        except (NoSuchJobError, DeserializationError, KeyError, TypeError, ValueError):
            # The job expired just now, its dataset is gone, or it is not a job of ours.
            continue
        if expects_saved:
            _renew_version(connection, storage, job, owner)


def _owner_of(connection: redis.Redis, key: SavedKey) -> str:
    """Return the owner of a job. Raises KeyError if it has none."""
    owner: Any = connection.hget(key.name, "owner")
    if owner is None:
        raise KeyError("owner")
    return str(owner.decode())


def _expects_saved(job: Job, owner: str, saved: dict[str, Entry]) -> bool:
    """Return whether a job's dataset was saved in the version that the job expects."""
    entry = saved[f"{folder_of(owner, job.kwargs['dataset_id'])}/data"]
    version = {"size": entry["size"], "tag": entry["tag"]}
    return bool(job.kwargs["options"]["dataset"] == version)


def _renew_version(
    connection: redis.Redis, storage: Storage, job: Job, owner: str
) -> None:
    version = storage.version("datasets", owner, job.kwargs["dataset_id"], "data")
    options = {**job.kwargs["options"], "dataset": vars(version)}
    job.kwargs = {**job.kwargs, "options": options}
    connection.hset(job.key, "data", zlib.compress(job.data))
