"""Who may do what: callers, their scopes and their keys."""

from rowcast.access.callers import ANONYMOUS, SCOPES, Caller, Scope

__all__ = [
    "ANONYMOUS",
    "SCOPES",
    "Caller",
    "Scope",
    "rates",
]
