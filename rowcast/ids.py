"""Ids: UUIDv7, which contain their time, so an id alone determines where its objects lie."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import uuid_utils


def new_id() -> str:
    """Create an id."""
    return str(uuid_utils.uuid7())


def time_of(identifier: str) -> datetime | None:
    """Return the UTC time in an id; None for an id that cannot be one of ours.

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
    """Return the common prefix of the ids of a moment, in Unix seconds.

    It sorts before these ids and after all earlier ones.
    """
    milliseconds = int(seconds * 1000)
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}"


def folder_of(owner: str, identifier: str) -> str | None:
    """Return the folder of all objects of an id: `<owner>/<yyyy-mm-dd>/<hh>/<id>`.

    None if the id cannot be one of ours.
    """
    created_at = time_of(identifier)
    if created_at is None:
        return None
    return f"{owner}/{created_at:%Y-%m-%d/%H}/{identifier}"
