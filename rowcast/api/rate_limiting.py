"""Limits of requests: what is counted of each request, and the headers that say what is left.

The headers are those of draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

import flask
import redis

from rowcast.access import Caller, quotas, rates
from rowcast.config import Settings
from rowcast.errors import RateLimited

# Health checks must not be refused.
UNCOUNTED = ("/healthz", "/readyz", "/docs")
# Pairs of an address and a key that a process remembers.
MAX_KNOWN = 20_000


class RateLimits:
    """The limits of one server: requests of a key, requests and wrong keys of an address."""

    def __init__(self, connection: redis.Redis, settings: Settings) -> None:
        """Use a connection that gives up soon."""
        self._settings = settings
        self._limiter = rates.RateLimiter(connection, settings.server_workers)
        self._policy_of = lru_cache(maxsize=4096)(self._key_policy)
        self._address = rates.Policy("address", settings.address_requests_per_minute)
        self._failures = rates.Policy(
            "wrong-keys", settings.address_failures_per_minute
        )
        self._known: set[int] = set()

    def count_address(self, address: str) -> None:
        """Count a request of an address. Raises RateLimited if it is over its limit."""
        self._count(self._address, address)

    def count_key(self, caller: Caller) -> None:
        """Count a request of a key. Raises RateLimited if it is over its limit."""
        if caller.key_id:
            self._count(self._policy_of(caller.owner), caller.key_id)

    def check_failures(self, address: str, authorization: str) -> None:
        """Refuse an address that has sent too many wrong keys, before its key is looked up.

        A key that was right from this address before is looked up all the same: many callers may
        share an address.

        Raises:
            RateLimited: there were too many.
        """
        standing = self._limiter.refused(self._failures, address)
        if standing and hash((address, authorization)) not in self._known:
            raise _refusal(standing)

    def note_success(self, address: str, authorization: str) -> None:
        """Note a right key of an address."""
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.add(hash((address, authorization)))

    def note_failure(self, address: str, authorization: str) -> None:
        """Count a wrong key of an address. Raises RateLimited if there were too many."""
        is_known = hash((address, authorization)) in self._known
        if self._failures.limit and not is_known:
            standing = self._limiter.hit(self._failures, address)
            if standing.is_over:
                raise _refusal(standing)

    def _key_policy(self, owner: str) -> rates.Policy:
        limits = quotas.limits_of(self._settings, owner)
        return rates.Policy("key", limits["key_requests_per_minute"])

    def _count(self, policy: rates.Policy, who: str) -> None:
        if not policy.limit:
            return
        standing = self._limiter.hit(policy, who)
        flask.g.setdefault("rate_standings", []).append(standing)
        if standing.is_over:
            raise _refusal(standing)


def is_counted(path: str) -> bool:
    """Return whether requests of a path count."""
    return path not in UNCOUNTED and not path.startswith("/docs/")


@lru_cache(maxsize=4096)
def address_of(remote: str | None) -> str:
    """Return whom to count by an address: itself, or the network of an IPv6 address.

    The owner of one IPv6 address usually has its whole /64.
    """
    try:
        found = ipaddress.ip_address(remote or "")
    except ValueError:
        return remote or "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def add_headers(response: flask.Response, standings: Sequence[rates.Standing]) -> None:
    """Say which limits counted the request, and what is left of each."""
    if not standings:
        return
    policies = [each.policy.as_header for each in standings]
    left = [each.as_header() for each in standings]
    response.headers.add("RateLimit-Policy", ", ".join(policies))
    response.headers.add("RateLimit", ", ".join(left))


_WORDS = {
    "key": "This key has sent {limit:,} requests within a minute, the maximum "
    "(KEY_REQUESTS_PER_MINUTE).",
    "address": "Your address has sent {limit:,} requests within a minute, the maximum "
    "(ADDRESS_REQUESTS_PER_MINUTE).",
    "wrong-keys": "Your address has sent {limit:,} wrong API keys within a minute, the "
    "maximum (ADDRESS_FAILURES_PER_MINUTE).",
}


def _refusal(standing: rates.Standing) -> RateLimited:
    limit = standing.policy.limit
    detail = _WORDS[standing.policy.name].format(limit=limit)
    usage = limit - standing.remaining
    return RateLimited(detail, limit=limit, usage=usage, retry_after_s=standing.reset_s)
