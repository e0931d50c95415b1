"""The scratch folders of running jobs, and the space that they use.

The work horse that uses a folder holds a lock (`flock`) on it. A folder without a lock was left
behind by a horse that ended or was killed, and the next sweep removes it.

A job has a share of the disk as its limit. Workers report the free space of their disk in Redis,
because the server may run on another machine.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from rowcast.config import Settings
from rowcast.errors import ScratchFull, Unavailable
from rowcast.system.directories import private

_PREFIX = "job-"
_UNLOCKED_PREFIX = "new-"
# Locking a new folder takes a moment. One that is still unlocked after so long was left behind.
FORGOTTEN_AFTER_S = 3600.0
# The default reserve: so many bytes, but at most this part of the disk.
RESERVE_BYTES, RESERVE_PART = 500_000_000, 20
# A worker without a report for so long has ended.
REPORT_TTL_S = 30
_FULL = (errno.ENOSPC, errno.EDQUOT)
# The set of the workers that reported recently, and the prefix of each worker's report.
_NAMES = "rowcast:scratch"
_REPORT = "rowcast:scratch:"


def make(root: Path, name: str) -> Path:
    """Create a folder that stays locked until this process ends.

    Raises:
        OSError: the folder cannot be created.
    """
    private(root)
    # Sweeps ignore the first name, so they cannot remove the folder before it is locked.
    unlocked = root / f"{_UNLOCKED_PREFIX}{name}"
    unlocked.mkdir(mode=0o700)
    descriptor = os.open(unlocked, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return unlocked.rename(folder_of(root, name))


def folder_of(root: Path, name: str) -> Path:
    """Return the path of the folder of this name."""
    return root / f"{_PREFIX}{name}"


def sweep(root: Path) -> None:
    """Remove all folders without a running job."""
    for folder in root.glob(f"{_PREFIX}*/"):
        if _is_unused(folder):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in root.glob(f"{_UNLOCKED_PREFIX}*/"):
        if _age_s(folder) > FORGOTTEN_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)


def _is_unused(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # Another sweep was faster.
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _age_s(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


# The space of a job


def limit_per_job(settings: Settings, n_workers: int) -> int:
    """Return how many bytes the files of a job may take.

    Without JOB_SCRATCH_BYTES it is an equal share for each of `n_workers` jobs in parallel, of the
    space that is free now or used by jobs, less the reserve. So no job fails because of another.
    The share is never less than the reserve: jobs on a disk that other files fill up wait, and do
    not fail.
    """
    if settings.job_scratch_bytes:
        return settings.job_scratch_bytes
    root = Path(settings.scratch_dir)
    reserve = reserve_bytes(settings)
    usable = free_bytes(root) + used_bytes(root) - reserve
    return max(usable // n_workers, reserve)


def used_bytes(folder: Path) -> int:
    """Return the disk space of the files below a folder, without those that vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += 512 * (Path(parent) / name).lstat().st_blocks
    return total


def over(used: int, limit: int) -> ScratchFull:
    """Return the failure of a job whose files use `used` bytes, over the `limit`."""
    return ScratchFull(
        f"The files of the job used {used:,} bytes; the limit is {limit:,} bytes "
        "(JOB_SCRATCH_BYTES)."
    )


def is_full(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, is that the disk or its quota is full."""
    seen: list[BaseException] = []
    causes: list[BaseException | None] = [error]
    while causes:
        cause = causes.pop()
        if cause is None or cause in seen:
            continue
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        seen.append(cause)
        causes += [cause.__cause__, cause.__context__]
    return False


# The space of all jobs


def free_bytes(root: Path) -> int:
    """Return the free bytes of a folder's disk; the folder need not exist. Raises OSError."""
    found = os.statvfs(_existing(root))
    return found.f_bavail * found.f_frsize


def reserve_bytes(settings: Settings) -> int:
    """Return the free bytes below which no job should start. Raises OSError."""
    if settings.scratch_reserve_bytes:
        return settings.scratch_reserve_bytes
    found = os.statvfs(_existing(Path(settings.scratch_dir)))
    total_bytes = found.f_blocks * found.f_frsize
    return min(RESERVE_BYTES, total_bytes // RESERVE_PART)


def is_short(settings: Settings) -> bool:
    """Return whether less space is free than the reserve. Raises OSError."""
    n_free = free_bytes(Path(settings.scratch_dir))
    return n_free < reserve_bytes(settings)


def _existing(path: Path) -> Path:
    folder = path.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def report(connection: redis.Redis, name: str, settings: Settings) -> None:
    """Report the free space of the workers of this name; repeat it within REPORT_TTL_S.

    Raises:
        redis.RedisError: Redis does not answer.
        OSError: the disk does not.
    """
    space = {
        "free_bytes": free_bytes(Path(settings.scratch_dir)),
        "reserve_bytes": reserve_bytes(settings),
    }
    with connection.pipeline() as pipeline:
        pipeline.set(_REPORT + name, json.dumps(space), ex=REPORT_TTL_S)
        pipeline.sadd(_NAMES, name)
        pipeline.expire(_NAMES, REPORT_TTL_S)
        pipeline.execute()


def problems(connection: redis.Redis) -> list[str]:
    """Return a sentence for each worker that has less space than its reserve.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    sentences = []
    for name, space in _reports(connection).items():
        if space["free_bytes"] < space["reserve_bytes"]:
            sentences.append(
                f"Worker {name} has {space['free_bytes']:,} bytes of scratch space left, "
                f"less than the reserve of {space['reserve_bytes']:,} "
                "(SCRATCH_RESERVE_BYTES)."
            )
    return sentences


def reporters(connection: redis.Redis) -> list[str]:
    """Return the names of those that have reported recently.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    return list(_reports(connection))


def _reports(connection: redis.Redis) -> dict[str, dict[str, int]]:
    """Return the recent reports by worker, and forget the workers without one."""
    answer: Any = connection.smembers(_NAMES)
    names = sorted(name.decode() for name in answer)
    if not names:
        return {}

    texts: Any = connection.mget([_REPORT + name for name in names])
    found = dict(zip(names, texts, strict=True))
    if gone := [name for name, text in found.items() if text is None]:
        # A worker that reports at this very moment is missing until its next report.
        connection.srem(_NAMES, *gone)
    return {name: json.loads(text) for name, text in found.items() if text}


def check(connection: redis.Redis) -> None:
    """Raise Unavailable, with a sentence for each worker, if any has less than its reserve."""
    try:
        found = problems(connection)
    except redis.RedisError:
        # This says nothing about the scratch space; /readyz checks Redis itself.
        return
    if found:
        raise Unavailable(" ".join(found))
