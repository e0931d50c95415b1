"""The scratch folders of running jobs, and the space that they take.

A folder is locked (`flock`) by the work horse that uses it, so one without a lock was left behind,
by a horse that ended or was killed, and whoever sweeps next removes it.

A job may take its part of the disk and no more; and what is left of the disk is told in Redis,
where the server learns of it, which may run elsewhere.
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

_PREFIX, _UNLOCKED_PREFIX = "job-", "new-"
# Who has not locked a folder for so long, which takes a moment, has died in that moment.
FORGOTTEN_AFTER_S = 3600.0
# The reserve where the setting names none: so much, but no more than this part of the disk.
RESERVE_BYTES, RESERVE_PART = 500_000_000, 20
# A worker that has not told its space for so long is gone, and its disk no longer of interest.
REPORT_TTL_S = 30
# The names of the workers that told theirs of late, and by name what each told.
_NAMES, _REPORT = "rowcast:scratch", "rowcast:scratch:"


def make(root: Path, name: str) -> Path:
    """Return a new folder, which stays locked until this process ends. Raises OSError if none can
    be made."""
    private(root)
    # No sweep may come between making and locking it, and nobody wait for a lock whose holder is
    # stopped.
    unlocked = root / f"{_UNLOCKED_PREFIX}{name}"
    unlocked.mkdir(mode=0o700)
    fcntl.flock(os.open(unlocked, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX)
    return unlocked.rename(folder_of(root, name))


def folder_of(root: Path, name: str) -> Path:
    """Return where the folder of this name lies."""
    return root / f"{_PREFIX}{name}"


def sweep(root: Path) -> None:
    """Remove all folders that no running job uses."""
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

    Without JOB_SCRATCH_BYTES: what is free now or taken by jobs, less the reserve, divided by
    `n_workers`, the jobs at once. So no job fails because of another, and however full the disk is,
    never less than the reserve: a disk that fills up otherwise makes its jobs wait, and does not
    fail them.
    """
    if settings.job_scratch_bytes:
        return settings.job_scratch_bytes
    root, reserve = Path(settings.scratch_dir), reserve_bytes(settings)
    return max((free_bytes(root) + used_bytes(root) - reserve) // n_workers, reserve)


def used_bytes(folder: Path) -> int:
    """Return the bytes of the disk that the files below a folder take; what goes away meanwhile is
    none."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += 512 * (Path(parent) / name).lstat().st_blocks
    return total


def over(used: int, limit: int) -> ScratchFull:
    """Return the failure of a job whose files take `used` bytes of the `limit` that they may."""
    return ScratchFull(
        f"The files of the job took {used:,} bytes; the limit is {limit:,} bytes "
        "(JOB_SCRATCH_BYTES)."
    )


def is_full(error: BaseException) -> bool:
    """Tell whether an error, or one that it came of, says that the disk or the quota on it is
    full."""
    seen: list[BaseException] = []
    causes: list[BaseException | None] = [error]
    while causes:
        cause = causes.pop()
        if cause is None or cause in seen:
            continue
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen.append(cause)
        causes += [cause.__cause__, cause.__context__]
    return False


# The space of all


def free_bytes(root: Path) -> int:
    """Return the bytes that are free on the disk of a folder, which may not be there yet. Raises
    OSError."""
    found = os.statvfs(_existing(root))
    return found.f_bavail * found.f_frsize


def reserve_bytes(settings: Settings) -> int:
    """Return the free bytes below which no job should be started. Raises OSError."""
    if settings.scratch_reserve_bytes:
        return settings.scratch_reserve_bytes
    found = os.statvfs(_existing(Path(settings.scratch_dir)))
    return min(RESERVE_BYTES, found.f_blocks * found.f_frsize // RESERVE_PART)


def is_short(settings: Settings) -> bool:
    """Tell whether less is free than the reserve. Raises OSError."""
    return free_bytes(Path(settings.scratch_dir)) < reserve_bytes(settings)


def _existing(path: Path) -> Path:
    return next(
        folder
        for folder in (path.absolute(), *path.absolute().parents)
        if folder.exists()
    )


def report(connection: redis.Redis, name: str, settings: Settings) -> None:
    """Tell in Redis how much is free to the workers of this name; to be repeated within
    REPORT_TTL_S.

    Raises:
        redis.RedisError: Redis does not answer.
        OSError: the disk does not.
    """
    told = {
        "free_bytes": free_bytes(Path(settings.scratch_dir)),
        "reserve_bytes": reserve_bytes(settings),
    }
    with connection.pipeline() as pipeline:
        pipeline.set(_REPORT + name, json.dumps(told), ex=REPORT_TTL_S)
        pipeline.sadd(_NAMES, name)
        pipeline.expire(_NAMES, REPORT_TTL_S)
        pipeline.execute()


def problems(connection: redis.Redis) -> list[str]:
    """Return a sentence for all workers that have less space than their reserve. Raises
    redis.RedisError."""
    answer: Any = connection.smembers(_NAMES)
    names = sorted(name.decode() for name in answer)
    told: Any = connection.mget([_REPORT + name for name in names]) if names else []
    if gone := [name for name, text in zip(names, told, strict=True) if text is None]:
        # One that tells again at this moment is missing until it does so the next time.
        connection.srem(_NAMES, *gone)
    found = [
        (name, json.loads(text)) for name, text in zip(names, told, strict=True) if text
    ]
    return [
        f"Worker {name} has {space['free_bytes']:,} bytes of scratch space left, fewer than "
        "the reserve of "
        f"{space['reserve_bytes']:,} (SCRATCH_RESERVE_BYTES)."
        for name, space in found
        if space["free_bytes"] < space["reserve_bytes"]
    ]


def check(connection: redis.Redis) -> None:
    """Raise Unavailable, with a sentence each, if workers have less space than their reserve."""
    try:
        found = problems(connection)
    except redis.RedisError:
        # That is no news of the scratch space; whoever asks for Redis itself hears of it.
        return
    if found:
        raise Unavailable(" ".join(found))
