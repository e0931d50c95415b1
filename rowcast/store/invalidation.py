"""A count of all deletions in Redis, which tells caches of models that something was deleted."""

from __future__ import annotations

from typing import Any

import redis

_DELETIONS = "rowcast:deletions"


def note_deletion(connection: redis.Redis) -> None:
    """Make every cache check that its models still exist. Raises redis.RedisError."""
    connection.incr(_DELETIONS)


def deletions(connection: redis.Redis) -> bytes:
    """Return a value that changes with each deletion. Raises redis.RedisError."""
    found: Any = connection.get(_DELETIONS)
    return bytes(found or b"0")
