"""API keys: who sends a request, and whether it may do what it asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from rowcast import errors
from rowcast.access import ANONYMOUS, Caller, Scope
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


class ApiKeys:
    """The callers by their keys; without any key, everything belongs to one owner."""

    def __init__(self, settings: Settings) -> None:
        """Read `owner:key` pairs from the settings."""
        self._callers: dict[bytes, Caller] = {}
        for number, entry in enumerate(settings.api_keys, 1):
            owner, _, key = entry.get_secret_value().partition(":")
            caller = Caller(owner, f"setting-{number}", "API_KEYS", _SCOPES_OF_API_KEYS)
            self._callers[_digest(key)] = caller

    def caller_of(self, authorization: str) -> Caller:
        """Return who sends a request, given its Authorization header.

        Raises:
            Unauthorized: the key is missing or wrong.
        """
        if not self._callers:
            return ANONYMOUS
        if not authorization:
            raise errors.Unauthorized("The API key is missing.")
        scheme, _, given = authorization.partition(" ")
        # The time of a lookup by digest says nothing of the keys themselves.
        caller = self._callers.get(_digest(given.strip()))
        if scheme.lower() != "bearer" or caller is None:
            raise errors.Unauthorized("The API key is not valid.")
        return caller


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
