"""Which owner a request belongs to, by its API key."""

from __future__ import annotations

import pytest

from rowcast.api.authentication import OPEN_ENDPOINTS, ApiKeys
from rowcast.config import Settings
from rowcast.errors import Unauthorized

KEYED = ApiKeys(Settings(api_keys="ann:key-of-ann-1,bob:key-of-bob-1"))


@pytest.mark.parametrize(
    ("header", "owner"),
    [
        ("Bearer key-of-ann-1", "ann"),
        ("bearer key-of-bob-1", "bob"),
        ("Bearer  key-of-ann-1 ", "ann"),
    ],
)
def test_key_names_its_owner(header: str, owner: str) -> None:
    assert KEYED.owner_of("/fit", header) == owner


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ("", "The API key is missing."),
        ("Bearer key-of-eve-1", "The API key is not valid."),
        ("Bearer", "The API key is not valid."),
        ("Basic key-of-ann-1", "The API key is not valid."),
        ("Bearer key-of-ann", "The API key is not valid."),
        ("Bearer schlüssel", "The API key is not valid."),
    ],
)
def test_missing_or_wrong_key_is_refused(header: str, detail: str) -> None:
    with pytest.raises(Unauthorized) as raised:
        KEYED.owner_of("/fit", header)
    assert raised.value.detail == detail


@pytest.mark.parametrize("path", [*OPEN_ENDPOINTS, "/docs/swagger"])
def test_open_endpoints_need_no_key(path: str) -> None:
    assert KEYED.owner_of(path, "") == "default"


def test_without_keys_everything_belongs_to_one_owner() -> None:
    assert ApiKeys(Settings()).owner_of("/fit", "Bearer anything") == "default"
