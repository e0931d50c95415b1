"""/healthz and /readyz: whether the process is up, and whether all parts behind it answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any

from rowcast import errors
from rowcast.api.answers import Alive, Ready
from rowcast.api.openapi import blueprint
from rowcast.api.state import parts
from rowcast.jobs import RedisMemory
from rowcast.system import data_disk, scratch

api = blueprint("health")


@api.get("/healthz", responses={200: Alive})
def healthz() -> dict[str, Any]:
    """Answer that the process is up."""
    return {"status": "ok"}


@api.get("/readyz", responses={200: Ready})
def readyz() -> dict[str, Any]:
    """Answer whether Redis and the buckets answer, and whether there is space left."""
    memory: list[RedisMemory] = []
    # The threads of `_check` have no application.
    check_redis = parts.jobs.check
    _check(
        {
            "redis": lambda: memory.append(check_redis()),
            "store": parts.storage.check_buckets,
            "scratch": partial(scratch.check, parts.connection),
            "disk": partial(data_disk.check, parts.settings.data_dir),
        }
    )
    return {"status": "ready", "redis": asdict(memory[0])}


def _check(checks: dict[str, Callable[[], None]]) -> None:
    """Run checks in parallel, so that no part delays another.

    Raises:
        NotReady: names every part that does not answer.
    """
    with ThreadPoolExecutor(len(checks)) as pool:
        found = pool.map(_problem_of, checks.keys(), checks.values())
    if problems := list(filter(None, found)):
        raise errors.NotReady(" ".join(problems), errors=problems)


def _problem_of(name: str, check: Callable[[], None]) -> str:
    try:
        check()
    except errors.Unavailable as error:
        return f"{name}: {error.detail}"
    return ""
