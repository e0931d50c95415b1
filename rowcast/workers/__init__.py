"""The processes that run jobs."""

__all__ = [
    "maintenance",
    "pool",
]
