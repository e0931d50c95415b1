"""API keys: how one is made, and what is kept of it. Only its holder has the key itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields

from rowcast.access.callers import Caller, Scope
from rowcast.ids import new_id

# Scanners for leaked secrets find keys by this pattern.
PATTERN = re.compile(r"rowcast_[a-z2-7]{32}")
_N_RANDOM_BYTES = 20
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$"
NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True)
class Key:
    """What is known of a key. Times are Unix seconds; a key without `expires_at` never expires."""

    id: str
    owner: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    @classmethod
    def from_json(cls, text: str | bytes) -> Key:
        """Read a key as `to_json` writes it. Raises ValueError for other text."""
        try:
            saved = json.loads(text)
            known = {field.name: saved[field.name] for field in fields(cls)}
            return cls(**{**known, "scopes": tuple(saved["scopes"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError("not the record of a key") from error

    def to_json(self) -> str:
        """Return the key as JSON."""
        return json.dumps(asdict(self))

    @property
    def caller(self) -> Caller:
        """Who sends requests with this key."""
        return Caller(
            self.owner, self.id, self.name, frozenset(self.scopes), self.expires_at
        )

    @property
    def ends_at(self) -> float | None:
        """When the key ends or has ended, None: never."""
        return self.revoked_at if self.revoked_at is not None else self.expires_at

    def problem(self, now: float) -> str | None:
        """Return why the key is not valid any more; None for a valid key."""
        if self.revoked_at is not None:
            return "The API key was revoked."
        if self.expires_at is not None and self.expires_at <= now:
            return "The API key has expired."
        return None


def new_key(
    owner: str,
    name: str,
    scopes: Collection[Scope],
    *,
    expires_at: float | None = None,
) -> tuple[str, Key]:
    """Make a key, and return it with what may be kept of it."""
    random = base64.b32encode(secrets.token_bytes(_N_RANDOM_BYTES)).decode().lower()
    key = Key(
        new_id(),
        owner,
        name,
        tuple(sorted(set(scopes))),
        time.time(),
        expires_at=expires_at,
    )
    return f"rowcast_{random}", key


def digest_of(key: str) -> str:
    """Return the SHA-256 under which a key is kept, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()
