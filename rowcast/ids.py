"""Identifiers: UUIDv7, which carry their time, so that an id alone says where its objects lie."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import uuid_utils


def new_id() -> str:
    """Mint an id."""
    return str(uuid_utils.uuid7())


def time_of(identifier: str) -> datetime | None:
    """Return the UTC time that an id carries, None for an id that none of ours can be.

    The first 48 bits are Unix milliseconds (RFC 9562, section 5.7).
    """
    value = uuid.UUID(identifier)
    if value.version != 7:
        return None
    try:
        return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)
    except (ValueError, OverflowError):
        return None


def first_at(seconds: float) -> str:
    """Return what ids of a time, in Unix seconds, begin with: it sorts before them and after all
    earlier."""
    milliseconds = int(seconds * 1000)
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}"


def folder_of(owner: str, identifier: str) -> str | None:
    """Return the folder of all objects of an id, `<owner>/<yyyy-mm-dd>/<hh>/<id>`; None as in
    `time_of`."""
    minted_at = time_of(identifier)
    return f"{owner}/{minted_at:%Y-%m-%d/%H}/{identifier}" if minted_at else None
