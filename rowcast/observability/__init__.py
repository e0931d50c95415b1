"""What the processes report about their work: logs."""

__all__ = [
    "logs",
]
