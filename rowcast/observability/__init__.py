"""Logs."""

__all__ = [
    "logs",
]
