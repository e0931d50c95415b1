"""Callers: the owner that a request acts for, by which key, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

# read: status, results, listings, downloads; predict and fit: submit such jobs and upload for
# them, fit also deletes; admin: manage the keys of every owner, which gives no access to data.
Scope = Literal["read", "predict", "fit", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_OWNER = "default"


@dataclass(frozen=True)
class Caller:
    """Who sends a request.

    `key_id` and `key_name` are public and stand in listings and logs. A caller without a key, on a
    server that needs none, has neither. `expires_at` is in Unix seconds, None: never.
    """

    owner: str
    key_id: str | None = None
    key_name: str | None = None
    scopes: frozenset[Scope] = frozenset(SCOPES)
    expires_at: float | None = None


ANONYMOUS = Caller(DEFAULT_OWNER)
