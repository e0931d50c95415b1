"""What a key looks like, and what is kept of it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from rowcast.access.keys import PATTERN, Key, digest_of, new_key


def test_keys_are_random_and_recognizable() -> None:
    plain = {new_key("ann", "laptop", ["read"])[0] for _ in range(100)}
    assert len(plain) == 100
    assert all(PATTERN.fullmatch(key) for key in plain)


def test_record_does_not_contain_the_key() -> None:
    plain, key = new_key("ann", "laptop", ["read"])
    assert plain.removeprefix("rowcast_") not in key.to_json()
    assert len(digest_of(plain)) == 64


def test_record_survives_as_json() -> None:
    _, key = new_key("ann", "laptop", ["fit", "read"], expires_at=time.time() + 9)
    assert Key.from_json(key.to_json()) == key


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"id": 1}', "null"])
def test_damaged_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the record of a key"):
        Key.from_json(text)


def test_key_is_valid_until_it_expires_or_is_revoked() -> None:
    _, key = new_key("ann", "laptop", ["read"], expires_at=2000.0)
    assert key.problem(1999.0) is None
    assert key.problem(2000.0) == "The API key has expired."
    assert replace(key, revoked_at=1.0).problem(1999.0) == "The API key was revoked."
