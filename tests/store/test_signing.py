"""A manifest counts only for the owner, model and attempt it was signed for, with a known key."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from rowcast.errors import ModelUntrusted
from rowcast.signatures import PrivateKey
from rowcast.store import JobRef, signing
from tests.support.signing import keys_of, sign_with

OLD, NEW = PrivateKey(b"o" * 32), PrivateKey(b"n" * 32)
HMAC_KEY = "a key of an earlier version"
JOB = JobRef("acme", "fit", "model-1")
MANIFEST: dict[str, Any] = {
    "target": "größe",
    "features": [{"name": "a", "kind": "numeric"}],
    "durations_s": {"fit": 0.1 + 0.2},
    "file": {"sha256": "0" * 64, "size": 10},
}


def signed(key: PrivateKey = NEW) -> dict[str, Any]:
    return signing.signed(MANIFEST, sign_with(key, JOB))


def signed_by_hmac() -> dict[str, Any]:
    """Return a manifest as earlier versions signed it."""
    content = ["acme", "model-1", MANIFEST]
    message = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    mac = hmac.new(HMAC_KEY.encode(), message, hashlib.sha256)
    return {**MANIFEST, "signature": mac.hexdigest()}


def test_signed_manifest_survives_its_file() -> None:
    keys_of(NEW).verify(JOB, 1, json.loads(json.dumps(signed(), indent=1)))


def test_signing_changes_nothing_else() -> None:
    assert signing.members(signed()) == MANIFEST


def test_every_known_key_verifies() -> None:
    keys_of(NEW, OLD).verify(JOB, 1, signed(OLD))
    with pytest.raises(ModelUntrusted, match="VERIFY_KEYS"):
        keys_of(OLD).verify(JOB, 1, signed(NEW))


@pytest.mark.parametrize(
    ("job", "attempt"),
    [
        (JobRef("other", "fit", "model-1"), 1),
        (JobRef("acme", "fit", "model-2"), 1),
        (JOB, 2),
        (JobRef("acmemodel", "fit", "-1"), 1),
    ],
    ids=["other owner", "other model", "other attempt", "shifted"],
)
def test_signature_does_not_hold_elsewhere(job: JobRef, attempt: int) -> None:
    with pytest.raises(ModelUntrusted):
        keys_of(NEW).verify(job, attempt, signed())


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
        {"key_id": OLD.key_id},
        {"key_id": None},
        {"key_id": {}},
    ],
    ids=str,
)
def test_changed_manifest_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelUntrusted, match="model-1"):
        keys_of(NEW, OLD).verify(JOB, 1, signed() | change)


@pytest.mark.parametrize("name", [*MANIFEST, "signature", "key_id"])
def test_manifest_that_lacks_a_part_is_refused(name: str) -> None:
    manifest = signed()
    del manifest[name]
    with pytest.raises(ModelUntrusted):
        signing.Keys(keys_of(NEW).public, [HMAC_KEY]).verify(JOB, 1, manifest)


def test_model_of_an_earlier_version_is_verified_while_its_key_is_known() -> None:
    keys = signing.Keys(keys_of(NEW).public, [HMAC_KEY])
    keys.verify(JOB, 1, signed_by_hmac())
    for changed in ({"target": "x"}, {"signature": "0" * 64}):
        with pytest.raises(ModelUntrusted, match="model-1"):
            keys.verify(JOB, 1, signed_by_hmac() | changed)
    for known in (keys_of(NEW), signing.Keys(keys_of(NEW).public, ["another key"])):
        with pytest.raises(ModelUntrusted):
            known.verify(JOB, 1, signed_by_hmac())


def test_hmac_key_signs_nothing_that_counts_as_signed_by_a_public_key() -> None:
    manifest = signed_by_hmac() | {"key_id": NEW.key_id}
    with pytest.raises(ModelUntrusted):
        signing.Keys(keys_of(NEW).public, [HMAC_KEY]).verify(JOB, 1, manifest)
