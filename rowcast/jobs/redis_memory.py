"""How full Redis is, and what it forgets sooner when it is nearly full.

Redis never evicts anything by itself (`noeviction`), because most of what it holds is promised.
Caches are not, nor are ended jobs, whose records are in the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis

from rowcast.errors import QueueUnavailable

# From this share of maxmemory on, what may be forgotten is forgotten within SOON_S seconds.
NEARLY_FULL = 0.75
SOON_S = 60
_MAY_GO = (
    "rq:job:",
    "rq:results:",
    "rowcast:log:",
    "rowcast:digest:",
    "rowcast:content:",
    "rowcast:reuse:",
)
# Only what expires anyway may go: the hash of a job that has not ended, or is not in the store yet,
# has no time to live.
_SHORTEN = """
local n = 0
for _, key in ipairs(KEYS) do
    if redis.call('TTL', key) > tonumber(ARGV[1]) then
        n = n + redis.call('EXPIRE', key, ARGV[1])
    end
end
return n
"""
_BATCH = 500


@dataclass(frozen=True)
class RedisMemory:
    """The memory that Redis uses, and the most that it may; 0: as much as there is."""

    used_bytes: int
    max_bytes: int

    @property
    def is_nearly_full(self) -> bool:
        """Return whether Redis should forget what it may."""
        return bool(self.max_bytes) and self.used_bytes >= NEARLY_FULL * self.max_bytes

    def check(self) -> None:
        """Raise QueueUnavailable if Redis accepts no more jobs."""
        if self.max_bytes and self.used_bytes >= self.max_bytes:
            raise QueueUnavailable(
                f"Redis is full: it uses {self.used_bytes:,} of {self.max_bytes:,} bytes "
                "(maxmemory). No job is accepted until some have ended."
            )


def of(connection: redis.Redis) -> RedisMemory:
    """Return how full Redis is. Raises redis.RedisError."""
    found: Any = connection.info("memory")
    return RedisMemory(int(found["used_memory"]), int(found.get("maxmemory", 0)))


def relieve(connection: redis.Redis) -> int:
    """Let Redis forget soon what it may, and return how many keys that are.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    keys = _forgettable(connection)
    n_shortened = 0
    while batch := list(islice(keys, _BATCH)):
        n_shortened += int(connection.eval(_SHORTEN, len(batch), *batch, SOON_S))
    return n_shortened


def _forgettable(connection: redis.Redis) -> Iterator[str]:
    for key in connection.scan_iter(count=_BATCH):
        name = key.decode("utf-8", "replace")
        if name.startswith(_MAY_GO):
            yield name
