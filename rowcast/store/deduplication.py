"""The datasets that an owner has uploaded, by their bytes, so that nobody sends them twice.

A digest counts only if a worker has computed it from the bytes. The digest that a caller sends is
only searched for, never noted. Redis holds this as a cache: what it loses is uploaded again.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import cast

import redis

from rowcast.ids import time_of
from rowcast.redis_clients import cause_of
from rowcast.store import datasets
from rowcast.store.answers import ObjectMissing, Version
from rowcast.store.object_store import Storage

log = logging.getLogger("rowcast.content")

KEPT_S = 30 * 24 * 3600
# Datasets of the same bytes that are remembered, the newest ones. To check one takes a request to
# the store.
N_REMEMBERED = 3


def note(
    connection: redis.Redis, owner: str, dataset_id: str, version: Version, sha256: str
) -> None:
    """Note the SHA-256, in hexadecimal, that a worker has computed from a dataset's version."""
    noted = json.dumps({"sha256": sha256, "size": version.size, "tag": version.tag})
    same_bytes = _same_bytes(owner, sha256, version.size)
    with suppress(redis.RedisError), connection.pipeline() as pipeline:
        pipeline.set(_digest(owner, dataset_id), noted, ex=KEPT_S)
        # Redis sorts equal scores by their text, and ids sort by time.
        pipeline.zadd(same_bytes, {dataset_id: 0})
        pipeline.zremrangebyrank(same_bytes, 0, -N_REMEMBERED - 1)
        pipeline.expire(same_bytes, KEPT_S)
        pipeline.execute()


def digest_of(
    connection: redis.Redis, owner: str, dataset_id: str, version: Version
) -> str | None:
    """Return the SHA-256 of exactly this version of a dataset; None if no worker computed it.

    Raises:
        RedisError: Redis does not answer.
    """
    noted = cast(bytes | None, connection.getex(_digest(owner, dataset_id), ex=KEPT_S))
    if noted is None:
        return None
    known = json.loads(noted)
    if Version(known["size"], known["tag"]) != version:
        return None
    return str(known["sha256"])


def find(
    connection: redis.Redis,
    storage: Storage,
    owner: str,
    sha256: str | None,
    size: int | None,
    *,
    oldest: float | None = None,
) -> str | None:
    """Return the newest dataset that holds these bytes; None if none does or Redis is away.

    A dataset that was made before `oldest`, in Unix seconds, is about to be removed and does not
    count.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    if sha256 is None or size is None:
        return None
    same_bytes = _same_bytes(owner, sha256, size)
    try:
        for dataset_id in _members(connection, same_bytes):
            if _is_too_old(dataset_id, oldest):
                return None
            if _holds(connection, storage, owner, dataset_id, sha256):
                connection.expire(same_bytes, KEPT_S)
                return dataset_id
            connection.zrem(same_bytes, dataset_id)
    except redis.RedisError as error:
        log.warning(
            "%s; the bytes are uploaded again",
            cause_of(error),
        )
    return None


def _members(connection: redis.Redis, same_bytes: str) -> list[str]:
    """Return the datasets that were noted with the same bytes, newest first."""
    members = cast(list[bytes], connection.zrevrange(same_bytes, 0, -1))
    return [member.decode() for member in members]


def _is_too_old(dataset_id: str, oldest: float | None) -> bool:
    made_at = time_of(dataset_id)
    if made_at is None:
        return True
    return oldest is not None and made_at.timestamp() < oldest


def _holds(
    connection: redis.Redis, storage: Storage, owner: str, dataset_id: str, sha256: str
) -> bool:
    """Return whether a dataset still is the version that the digest was computed from."""
    try:
        datasets.uploaded(storage, owner, dataset_id)
        version = storage.version("datasets", owner, dataset_id, datasets.DATA)
    except ObjectMissing:
        return False
    return digest_of(connection, owner, dataset_id, version) == sha256


def _digest(owner: str, dataset_id: str) -> str:
    return f"rowcast:digest:{owner}:{dataset_id}"


def _same_bytes(owner: str, sha256: str, size: int) -> str:
    return f"rowcast:content:{owner}:{sha256}:{size}"
