"""Telling a URL that a job has ended."""

__all__ = [
    "delivery",
]
