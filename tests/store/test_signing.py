"""A manifest counts only for the owner and the model it was signed for, with a key that workers
hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rowcast.errors import ModelUntrusted
from rowcast.store.signing import sign, verify

OLD, NEW = "an old signing key", "a new signing key"
MANIFEST: dict[str, Any] = {
    "target": "größe",
    "features": [{"name": "a", "kind": "numeric"}],
    "durations_s": {"fit": 0.1 + 0.2},
    "file": {"sha256": "0" * 64, "size": 10},
}


def signed(key: str = NEW) -> dict[str, Any]:
    return sign([key], "acme", "model-1", MANIFEST)


def test_signed_manifest_survives_its_file() -> None:
    verify([NEW], "acme", "model-1", json.loads(json.dumps(signed(), indent=1)))


def test_signing_changes_nothing_else() -> None:
    assert signed() | {"signature": None} == MANIFEST | {"signature": None}


def test_all_keys_verify_and_the_first_signs() -> None:
    verify([NEW, OLD], "acme", "model-1", signed(OLD))
    with pytest.raises(ModelUntrusted):
        verify([OLD], "acme", "model-1", sign([NEW, OLD], "acme", "model-1", MANIFEST))


@pytest.mark.parametrize(
    ("keys", "owner", "model_id"),
    [
        ([OLD], "acme", "model-1"),
        ([], "acme", "model-1"),
        ([NEW], "other", "model-1"),
        ([NEW], "acme", "model-2"),
    ],
    ids=["other key", "no key", "other owner", "other model"],
)
def test_signature_does_not_hold_elsewhere(
    keys: list[str], owner: str, model_id: str
) -> None:
    with pytest.raises(ModelUntrusted):
        verify(keys, owner, model_id, signed())


def test_owner_and_model_cannot_be_shifted_into_each_other() -> None:
    with pytest.raises(ModelUntrusted):
        verify([NEW], "acmemodel", "-1", signed())


@pytest.mark.parametrize(
    "change",
    [
        {"file": {"sha256": "1" * 64, "size": 10}},
        {"features": []},
        {"added": None},
        {"durations_s": {"fit": 0.3}},
        {"signature": ""},
        {"signature": None},
        {"signature": 7},
        {"signature": ["a"]},
        {"signature": "0" * 64},
        {"signature": "\xe9"},
    ],
    ids=str,
)
def test_changed_manifest_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelUntrusted, match="model-1"):
        verify([NEW], "acme", "model-1", signed() | change)


@pytest.mark.parametrize("name", [*MANIFEST, "signature"])
def test_manifest_that_lacks_a_part_is_refused(name: str) -> None:
    manifest = signed()
    del manifest[name]
    with pytest.raises(ModelUntrusted):
        verify([NEW], "acme", "model-1", manifest)
