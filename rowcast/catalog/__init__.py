"""List and delete what an owner has, and remove what has expired."""

__all__ = [
    "deletion",
    "expiry",
    "listing",
    "retention",
]
