"""The processes that run jobs."""

__all__ = [
    "attempt",
    "lease",
    "maintenance",
    "warmup",
    "work_horse",
]
