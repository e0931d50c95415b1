"""Ids of a moment."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID


def id_at(moment: datetime, number: int = 0) -> str:
    """Return an id of ours that was minted at a moment; numbers sort ids of the same moment."""
    milliseconds = int(moment.timestamp() * 1000)
    return str(UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | number))
