"""List and delete what an owner has, and remove what has expired."""

__all__ = [
    "deletion",
    "expiry",
    "late_uploads",
    "listing",
    "retention",
    "unused_uploads",
    "usage",
]
