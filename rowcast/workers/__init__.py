"""The processes that run jobs."""

__all__ = [
    "maintenance",
    "program",
    "signer",
]
