"""Who may do what: callers, their scopes and their keys."""

from rowcast.access.callers import ANONYMOUS, SCOPES, Caller, Scope
from rowcast.access.key_ring import KeyRing
from rowcast.access.key_store import KeyStore
from rowcast.access.keys import Key

__all__ = [
    "ANONYMOUS",
    "SCOPES",
    "Caller",
    "Key",
    "KeyRing",
    "KeyStore",
    "Scope",
    "keys",
    "quotas",
    "rates",
]
