"""Sending the final status of a job to a URL."""

__all__ = [
    "delivery",
    "outbox",
    "urls",
]
