"""Predictions inside a request."""

__all__ = [
    "pool",
    "protocol",
]
