"""The keys in Redis, where they are created, listed and revoked.

Redis may be lost for good, and nobody could make the same keys again, because only their digests
are known. So the maintenance process copies every change to the object store (see
`rowcast/store/key_copy.py`), and `is_restored` says whether Redis has what the store had.

A key that has ended stays for a while, so that lists show it and a copy does not bring it back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

import redis

from rowcast.access.keys import Key
from rowcast.errors import InvalidRequest

log = logging.getLogger("rowcast.access")

# A key's record by its digest; `version`, which changes with every key, and `restored`; the Unix
# seconds of the last use by the key's id.
_KEYS = "rowcast:access:keys"
_STATE = "rowcast:access:state"
_LAST_USED = "rowcast:access:last_used"

MAX_KEYS = 10_000
ENDED_KEPT_S = 30 * 24 * 3600


class State(NamedTuple):
    """Which keys Redis has: `version` changes with every key, None before the first one."""

    version: bytes | None
    is_restored: bool


class KeyStore:
    """The keys of all owners. Every call raises redis.RedisError where Redis does not answer."""

    def __init__(self, connection: redis.Redis) -> None:
        """Connect lazily."""
        self._connection = connection

    def state(self) -> State:
        """Return the state, in one round trip."""
        found: Any = self._connection.hmget(_STATE, ["version", "restored"])
        return State(found[0], found[1] is not None)

    def records(self) -> tuple[State, dict[str, str]]:
        """Return the state and the record of each key by its digest, as JSON."""
        with self._connection.pipeline() as pipe:
            pipe.hmget(_STATE, ["version", "restored"])
            pipe.hgetall(_KEYS)
            (version, restored), found = pipe.execute()
        records = {digest.decode(): text.decode() for digest, text in found.items()}
        return State(version, restored is not None), records

    def keys(self) -> tuple[State, dict[str, Key]]:
        """Return the state and each key by its digest, revoked and expired ones too."""
        state, records = self.records()
        keys = {}
        for digest, text in records.items():
            try:
                keys[digest] = Key.from_json(text)
            except ValueError:
                # One damaged record must not lock out the others.
                log.error("the record of a key is damaged: %s...", digest[:12])
        return state, keys

    def add(self, digest: str, key: Key) -> None:
        """Add a key, which is valid immediately, and forget those that ended long ago.

        Raises:
            InvalidRequest: there are too many.
        """
        _, keys = self.keys()
        if len(keys) >= MAX_KEYS:
            raise InvalidRequest(
                f"There are {MAX_KEYS:,} keys, the maximum.",
                hint="Revoke keys that nobody uses, and try again in 30 days.",
            )
        oldest = time.time() - ENDED_KEPT_S
        old = [d for d, k in keys.items() if k.ends_at and k.ends_at < oldest]
        with self._connection.pipeline() as pipe:
            if old:
                pipe.hdel(_KEYS, *old)
                pipe.hdel(_LAST_USED, *(keys[each].id for each in old))
            pipe.hset(_KEYS, digest, key.to_json())
            pipe.hset(_STATE, "version", uuid4().hex)
            pipe.execute()

    def revoke(self, key_id: str) -> Key | None:
        """End a key, and return it; None where no key has this id."""
        _, keys = self.keys()
        digests = [digest for digest, key in keys.items() if key.id == key_id]
        if not digests:
            return None
        key = keys[digests[0]]
        if key.revoked_at is not None:
            return key

        revoked = replace(key, revoked_at=time.time())
        with self._connection.pipeline() as pipe:
            pipe.hset(_KEYS, digests[0], revoked.to_json())
            pipe.hset(_STATE, "version", uuid4().hex)
            pipe.execute()
        return revoked

    def put_back(self, records: Mapping[str, str]) -> None:
        """Add the records of a copy; a key that Redis has stays as it is, revoked or not."""
        with self._connection.pipeline() as pipe:
            for digest, text in records.items():
                pipe.hsetnx(_KEYS, digest, text)
            pipe.hset(_STATE, mapping={"version": uuid4().hex, "restored": "1"})
            pipe.execute()

    def note_use(self, key_id: str, at: float) -> None:
        """Note when a key was used."""
        self._connection.hset(_LAST_USED, key_id, str(at))

    def last_uses(self) -> dict[str, float]:
        """Return the Unix seconds of the last use by the ids of keys."""
        found: Any = self._connection.hgetall(_LAST_USED)
        return {key_id.decode(): float(at) for key_id, at in found.items()}
