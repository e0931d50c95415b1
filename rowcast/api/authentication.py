"""API keys: who sends a request, and whether it may do what it asks for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from rowcast import errors
from rowcast.access import ANONYMOUS, Caller, Key, KeyRing, Scope, keys
from rowcast.config import Settings

OPEN_ENDPOINTS = (
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/client.py",
    "/estimators.py",
)
# What keys of API_KEYS may do. `python -m rowcast.access` makes keys for administrators.
_SCOPES_OF_API_KEYS: frozenset[Scope] = frozenset({"read", "predict", "fit"})
# A key, or a parameter in which callers of other services send one.
_KEY_IN_QUERY = re.compile(
    rb"rowcast(_|%5f)[a-z2-7]{32}"
    rb"|(^|&)((x[-_])?api[-_]?key|key|((access|auth|bearer)[-_]?)?token|authorization)=",
    re.I,
)

Route = TypeVar("Route", bound=Callable[..., Any])


def needs(*scopes: Scope) -> Callable[[Route], Route]:
    """Decorate a route: a caller needs one of these scopes."""

    def declare(route: Route) -> Route:
        route.needs = scopes  # type: ignore[attr-defined]
        return route

    return declare


def scopes_of(route: Callable[..., Any] | None) -> tuple[Scope, ...] | None:
    """Return what `needs` declared for a route; None if nothing."""
    return getattr(route, "needs", None)


def is_open(path: str) -> bool:
    """Return whether a path needs no key."""
    return path in OPEN_ENDPOINTS or path.startswith("/docs/")


def check_scopes(caller: Caller, needed: tuple[Scope, ...]) -> None:
    """Raise Forbidden unless a caller has one of these scopes."""
    if not caller.scopes.intersection(needed):
        names = " or ".join(repr(scope) for scope in needed)
        raise errors.Forbidden(f"This key lacks the scope {names}.")


def refuse_key_in_url(query_string: bytes) -> None:
    """Raise InvalidRequest for a query that carries a key, which proxies and browsers log."""
    if _KEY_IN_QUERY.search(query_string):
        raise errors.InvalidRequest(
            "An API key in the URL is not accepted.",
            hint="Send it in the header 'Authorization: Bearer <key>'. URLs are logged on their "
            "way: have this key revoked, and use a new one.",
        )


class Authentication:
    """The callers by their keys: those of API_KEYS, and those that were created since."""

    def __init__(self, settings: Settings) -> None:
        """Read `owner:key` pairs from the settings."""
        self._needs_keys = settings.needs_keys
        self._of_settings: dict[str, Caller] = {}
        for number, entry in enumerate(settings.api_keys, 1):
            owner, _, key = entry.get_secret_value().partition(":")
            caller = Caller(owner, f"setting-{number}", "API_KEYS", _SCOPES_OF_API_KEYS)
            self._of_settings[keys.digest_of(key)] = caller

    def caller_of(self, authorization: str, ring: KeyRing) -> tuple[Caller, Key | None]:
        """Return who sends a request, given its Authorization header, and the key if it was
        created.

        Raises:
            Unauthorized: the key is missing, wrong, revoked or expired.
            QueueUnavailable, StoreUnavailable: the created keys cannot be read.
        """
        if not self._needs_keys:
            return ANONYMOUS, None
        if not authorization:
            raise errors.Unauthorized("The API key is missing.")
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise errors.Unauthorized("The API key is not valid.")
        # The time of a lookup by digest says nothing of the keys themselves.
        given = given.strip()
        digest = keys.digest_of(given)
        if caller := self._of_settings.get(digest):
            return caller, None
        is_well_formed = keys.PATTERN.fullmatch(given)
        key = _valid(ring.find(digest) if is_well_formed else None)
        return key.caller, key


def _valid(key: Key | None) -> Key:
    problem = key.problem(time.time()) if key else "The API key is not valid."
    if key is None or problem:
        raise errors.Unauthorized(problem or "")
    return key
