"""What an owner may have and has: checked before an upload, and answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import flask
import redis

from rowcast.access import quotas
from rowcast.api.state import parts
from rowcast.store import Bucket, publications

# An upload is not worth a question to Redis: it is counted when a job first names it.
CACHED_S = 2.0
MAX_CACHED = 10_000
Counts = dict[str, int]
_cached: dict[str, tuple[float, Counts, Counts]] = {}


def check_upload(size: int | None) -> None:
    """Refuse an upload of an owner that has used up its quotas, as far as that is known.

    Raises:
        QuotaExceeded: datasets or bytes are used up, or `size` bytes are more than what is left.
    """
    owner = flask.g.owner
    limits, used = _recent_account(owner)
    for name, need in (("datasets", 1), ("stored_bytes", max(1, size or 0))):
        if limits[name] and used.get(name, 0) + need > limits[name]:
            raise quotas.refusal(name, limits[name], used[name])


def max_upload_bytes() -> int:
    """Return how large the owner's next upload may be: what its quota leaves, as far as known."""
    owner = flask.g.owner
    limits, used = _recent_account(owner)
    quota = limits["stored_bytes"]
    most = parts.settings.max_upload_bytes
    if not quota:
        return most
    return min(most, quota - used.get("stored_bytes", 0))


@contextmanager
def deleting(bucket: Bucket, identifier: str) -> Iterator[None]:
    """Give back to the owner what a deletion frees, once it has succeeded.

    What is deleted with it, such as the results of a model, is given back by maintenance.
    """
    owner = flask.g.owner
    sizes = parts.storage.sizes_of(bucket, owner, identifier)
    yield
    _cached.pop(owner, None)
    if bucket != "datasets" and not publications.attempts_in(list(sizes)):
        return
    n_bytes = sum(sizes.values())
    # Without Redis, maintenance counts again.
    with suppress(redis.RedisError):
        quotas.note_deletion(parts.connection, owner, bucket, identifier, n_bytes)


def account() -> dict[str, dict[str, int]]:
    """Return the limits of the caller's owner and what is used of them. Raises RedisError."""
    owner = flask.g.owner
    limits = quotas.limits_of(parts.settings, owner)
    return {"limits": limits, "usage": quotas.usage(parts.connection, owner)}


def _recent_account(owner: str) -> tuple[Counts, Counts]:
    """Return an owner's limits, and its usage as it was at most CACHED_S ago.

    The usage is empty while Redis is away.
    """
    now = time.monotonic()
    until, limits, used = _cached.get(owner, (0.0, {}, {}))
    if now < until:
        return limits, used
    limits = quotas.limits_of(parts.settings, owner)
    try:
        used = quotas.usage(parts.connection, owner)
    except redis.RedisError:
        used = {}
    if len(_cached) >= MAX_CACHED:
        _cached.clear()
    _cached[owner] = (now + CACHED_S, limits, used)
    return limits, used
