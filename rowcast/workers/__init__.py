"""The processes that run jobs."""

__all__ = [
    "pool",
]
