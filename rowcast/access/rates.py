"""How many requests a key or an address may send in a minute, for all server processes together.

The counts are sliding windows in Redis. To ask Redis for every request would slow each one down.
So a process takes a share of a limit ahead, and counts it down in memory. Without Redis a process
counts for itself: a limit then holds for each process alone.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import redis
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

log = logging.getLogger("rowcast.access")

WINDOW_S = 60
# All processes together take at most this share of a limit ahead.
AHEAD = 0.05
# Seconds until Redis is asked again after it did not answer.
AWAY_S = 2.0
# Keys and addresses that a process remembers.
MAX_LEASES = 20_000


@dataclass(frozen=True)
class Policy:
    """A limit of requests in a minute; `name` is what answers call it."""

    name: str
    limit: int

    @cached_property
    def as_header(self) -> str:
        """The limit as an answer's RateLimit-Policy says it."""
        return f'"{self.name}";q={self.limit};w={WINDOW_S}'


class Standing(NamedTuple):
    """Where somebody stands before a limit: what is left, and the seconds until there is more."""

    policy: Policy
    remaining: int
    reset_s: int
    is_over: bool

    def as_header(self) -> str:
        """Return what is left as an answer's RateLimit says it."""
        return f'"{self.policy.name}";r={self.remaining};t={self.reset_s}'


@dataclass
class _Lease:
    """Requests that a process took ahead for a key or an address, or the refusal of any.

    Both hold until the monotonic time `ends_at`.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    n_left: int = 0
    n_elsewhere: int = 0
    is_refusal: bool = False
    ends_at: float = 0.0
    resets_at: float = 0.0

    def standing(self, policy: Policy, now: float) -> Standing:
        reset_s = max(1, math.ceil(self.resets_at - now))
        remaining = self.n_elsewhere + self.n_left
        return Standing(policy, remaining, reset_s, self.is_refusal)


class RateLimiter:
    """Counts the requests of this process against limits that all processes share."""

    def __init__(self, connection: redis.Redis, n_processes: int) -> None:
        """Use a connection that gives up soon."""
        pool = connection.connection_pool
        storage = RedisStorage(
            "redis://", connection_pool=pool, key_prefix="rowcast:rate"
        )
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._n_processes = n_processes
        self._leases: dict[tuple[str, str], _Lease] = {}
        self._away_until = 0.0

    def hit(self, policy: Policy, who: str) -> Standing:
        """Count a request of a key or an address, unless it is over its limit."""
        lease = self._lease_of(policy, who)
        # Only requests of the same caller wait here while one of them asks Redis.
        with lease.lock:
            now = time.monotonic()
            is_valid = now < lease.ends_at
            if is_valid and lease.n_left:
                lease.n_left -= 1
            elif not (is_valid and lease.is_refusal):
                self._renew(lease, policy, who, now)
            return lease.standing(policy, now)

    def refused(self, policy: Policy, who: str) -> Standing | None:
        """Return the standing of somebody whom this process knows to be over a limit."""
        now = time.monotonic()
        lease = self._leases.get((policy.name, who))
        if lease and lease.is_refusal and now < lease.ends_at:
            return lease.standing(policy, now)
        return None

    def _lease_of(self, policy: Policy, who: str) -> _Lease:
        if len(self._leases) >= MAX_LEASES:
            self._leases.clear()
        key = (policy.name, who)
        return self._leases.get(key) or self._leases.setdefault(key, _Lease())

    def _renew(self, lease: _Lease, policy: Policy, who: str, now: float) -> None:
        """Take requests ahead, or a single one where there are not so many left."""
        item = RateLimitItemPerMinute(policy.limit)
        n_ahead = max(1, int(policy.limit * AHEAD / self._n_processes))
        n_taken, n_elsewhere, reset_s = self._take(item, (policy.name, who), n_ahead)

        lease.n_left, lease.n_elsewhere = max(0, n_taken - 1), n_elsewhere
        lease.is_refusal = n_taken == 0
        lease.resets_at = now + reset_s
        # Nothing is free before the reset, so Redis is not asked until then.
        lease.ends_at = lease.resets_at if lease.is_refusal else now + WINDOW_S

    def _take(
        self, item: RateLimitItem, names: tuple[str, str], n_wanted: int
    ) -> tuple[int, int, float]:
        """Return how many requests were taken, how many are left, and when there are more."""
        if time.monotonic() >= self._away_until:
            try:
                return _take_from(self._shared, item, names, n_wanted)
            except redis.RedisError as error:
                self._away_until = time.monotonic() + AWAY_S
                log.warning(
                    "Redis does not answer (%s); this process counts requests for itself",
                    type(error).__name__,
                )
        return _take_from(self._own, item, names, n_wanted)


def _take_from(
    limiter: SlidingWindowCounterRateLimiter,
    item: RateLimitItem,
    names: tuple[str, str],
    n_wanted: int,
) -> tuple[int, int, float]:
    tries = (n_wanted, 1) if n_wanted > 1 else (1,)
    taken = (n for n in tries if limiter.hit(item, *names, cost=n))
    n_taken = next(taken, 0)
    stats = limiter.get_window_stats(item, *names)
    reset_s = min(max(0.0, stats.reset_time - time.time()), WINDOW_S)
    return n_taken, stats.remaining, reset_s
