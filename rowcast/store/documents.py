"""Manifests and records as they lie in the store: JSON with a checksum of itself.

`checksum` is `sha256:` and the SHA-256 of the canonical JSON of all other members. Documents of
earlier versions have none.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from rowcast.errors import ObjectDamaged
from rowcast.signatures import canonical

CHECKSUM = "checksum"
_CHECKSUM_VALUE = re.compile(r"sha256:[0-9a-f]{64}")


def as_json(value: dict[str, Any]) -> bytes:
    """Return a manifest or record as it is written to the store, with its checksum."""
    # As readers will see it: the names of members become text.
    plain = json.loads(json.dumps(value))
    plain[CHECKSUM] = _checksum(plain)
    return json.dumps(plain, indent=1).encode()


def parsed(content: bytes, name: str) -> dict[str, Any]:
    """Return a manifest or record without its checksum; `name` says what it is.

    Raises:
        ObjectDamaged: it is not what was written.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise damaged(name)
    expected = value.pop(CHECKSUM, None)
    if expected is None and not _has_lost_its_name(value):
        return value
    if expected != _checksum(value):
        raise damaged(name)
    return value


def damaged(name: str) -> ObjectDamaged:
    """Return the error for an object whose bytes are not those that were written."""
    return ObjectDamaged(f"The {name} is damaged: it is not what was written.")


def _has_lost_its_name(value: dict[str, Any]) -> bool:
    """Return whether some member is a checksum by its value: damage has hit its name."""
    texts = (member for member in value.values() if isinstance(member, str))
    return any(map(_CHECKSUM_VALUE.fullmatch, texts))


def _checksum(value: dict[str, Any]) -> str:
    return f"sha256:{hashlib.sha256(canonical(value)).hexdigest()}"
