"""Quotas: what an owner may have, and what it has of it.

The counts in Redis are a cache. The scripts of the queue keep them while jobs come and go, and
check them in the same step (`LUA`). Maintenance counts again what the store holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import redis

from rowcast.config import Settings
from rowcast.errors import OverLimit, QueueFull, QuotaExceeded

LUA = Path(__file__).with_name("quotas.lua").read_text(encoding="utf-8")

# Each quota with the setting of its default. What is stored frees nothing by waiting.
STORED = {
    "datasets": "max_datasets_per_owner",
    "models": "max_models_per_owner",
    "results": "max_results_per_owner",
    "stored_bytes": "max_stored_bytes_per_owner",
}
QUEUED = {
    "queued_jobs": "max_queued_per_owner",
    "queued_bytes": "max_queued_bytes_per_owner",
}
_SETTINGS = {
    **STORED,
    **QUEUED,
    "key_requests_per_minute": "key_requests_per_minute",
}
_WORDS = {
    "datasets": "datasets",
    "models": "models, with those in the making",
    "results": "results, with those in the making",
    "stored_bytes": "bytes in the store",
    "queued_jobs": "queued jobs",
    "queued_bytes": "bytes in the datasets of your queued jobs",
}
# Models and results count from their submission on, their bytes with the next count of all.
_NOTE_DELETION = """
local counted_before = redis.call('HGET', KEYS[1], 'counted_before') or ''
local is_counted = ARGV[2] < counted_before or redis.call('ZREM', KEYS[2], ARGV[2]) == 1
if is_counted or ARGV[1] ~= 'datasets' then redis.call('HINCRBY', KEYS[1], ARGV[1], -1) end
if is_counted then redis.call('HINCRBY', KEYS[1], 'stored_bytes', '-' .. ARGV[3]) end
"""
# Bytes of the options of all queued jobs of an owner, which Redis holds in memory.
MAX_QUEUED_OPTION_BYTES = 100_000_000


def limits_of(settings: Settings, owner: str) -> dict[str, int]:
    """Return the limits of an owner by their names; 0: none."""
    limits = {name: getattr(settings, field) for name, field in _SETTINGS.items()}
    own = {name: limit for of, name, limit in settings.quotas if of == owner}
    return {**limits, **own}


def refusal(name: str, limit: int, used: int) -> OverLimit:
    """Return the error for an owner that has used up a quota."""
    if name == "queued_option_bytes":
        detail = f"The options of your queued jobs have {used:,} bytes; the maximum is {limit:,}."
        return QueueFull(detail, limit=limit, usage=used)
    variable = f"{_SETTINGS[name].upper()}"
    detail = f"You have {used:,} {_WORDS[name]}; the maximum is {limit:,} ({variable})."
    kind = QueueFull if name in QUEUED else QuotaExceeded
    return kind(detail, limit=limit, usage=used)


def usage(connection: redis.Redis, owner: str) -> dict[str, int]:
    """Return what an owner uses of the quotas of stored things and of the queue.

    Raises:
        RedisError: Redis does not answer.
    """
    counted = [*STORED, "queued_bytes"]
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.hmget(_usage(owner), counted)
        pipeline.zcard(f"rowcast:queued:{owner}")
        found, n_queued = pipeline.execute()
    # A count that is off for a while may have fallen below zero.
    counts = {name: max(0, int(n or 0)) for name, n in zip(counted, found, strict=True)}
    return {**counts, "queued_jobs": n_queued}


def note_deletion(
    connection: redis.Redis, owner: str, name: str, identifier: str, n_bytes: int
) -> None:
    """Count a dataset, model or result less, and its bytes, if it was counted.

    Raises:
        RedisError: Redis does not answer.
    """
    keys = (_usage(owner), _seen(owner))
    connection.eval(_NOTE_DELETION, len(keys), *keys, name, identifier, str(n_bytes))


def stored(connection: redis.Redis, owner: str) -> dict[str, int]:
    """Return the counts of stored things as they are. Raises RedisError."""
    found: Any = connection.hmget(_usage(owner), [*STORED])
    return {name: int(n or 0) for name, n in zip(STORED, found, strict=True)}


def correct(
    connection: redis.Redis,
    owner: str,
    changes: Mapping[str, int],
    counted_before: str,
    young: Iterable[str],
) -> None:
    """Change the counts of stored things. Raises RedisError.

    All datasets with ids before `counted_before` are counted now, and so are the `young` ones.
    """
    seen = _seen(owner)
    with connection.pipeline() as pipeline:
        for name, change in changes.items():
            pipeline.hincrby(_usage(owner), name, change)
        pipeline.hset(_usage(owner), "counted_before", counted_before)
        pipeline.zremrangebylex(seen, "-", f"({counted_before}")
        if scores := dict.fromkeys(young, 0):
            pipeline.zadd(seen, scores)
        pipeline.execute()


def _usage(owner: str) -> str:
    return f"rowcast:usage:{owner}"


def _seen(owner: str) -> str:
    return f"rowcast:seen:{owner}"
