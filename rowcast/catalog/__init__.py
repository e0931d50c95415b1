"""What an owner has: listed, deleted, removed when old."""

__all__ = [
    "deletion",
    "listing",
    "retention",
]
