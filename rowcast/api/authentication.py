"""API keys: which owner a request belongs to."""

from __future__ import annotations

import hmac

from rowcast import errors
from rowcast.config import Settings

DEFAULT_OWNER = "default"
OPEN_ENDPOINTS = (
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/client.py",
    "/estimators.py",
)


class ApiKeys:
    """The owners by their keys; without any key, everything belongs to one owner."""

    def __init__(self, settings: Settings) -> None:
        """Read `owner:key` pairs from the settings."""
        pairs = (entry.get_secret_value().split(":", 1) for entry in settings.api_keys)
        self._owners = [(key.encode(), owner) for owner, key in pairs]

    def owner_of(self, path: str, authorization: str) -> str:
        """Return the owner of a request, given its path and its Authorization header.

        Raises:
            Unauthorized: the key is missing or wrong.
        """
        if not self._owners or _is_open(path):
            return DEFAULT_OWNER
        scheme, _, given = authorization.partition(" ")
        # All keys are compared, each in constant time, so that the time reveals nothing.
        secret = given.strip().encode()
        found = [
            owner for key, owner in self._owners if hmac.compare_digest(key, secret)
        ]
        if not authorization:
            raise errors.Unauthorized("The API key is missing.")
        if scheme.lower() != "bearer" or not found:
            raise errors.Unauthorized("The API key is not valid.")
        return found[0]


def _is_open(path: str) -> bool:
    return path in OPEN_ENDPOINTS or path.startswith("/docs/")
