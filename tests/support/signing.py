"""Signing models in tests, in place of the signer process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from rowcast.setting_types import ed25519_bytes
from rowcast.signatures import PrivateKey, private_text, public_text
from rowcast.store import JobRef, signing

Sign = Callable[[str], Mapping[str, str]]


def new_key() -> PrivateKey:
    return PrivateKey(os.urandom(32))


def key_of(text: str) -> PrivateKey:
    """Return a private key that is written as in SIGNING_KEY."""
    return PrivateKey(ed25519_bytes("private", text))


def new_pair() -> tuple[str, str]:
    """Return a private key and its public key, as in SIGNING_KEY and VERIFY_KEYS."""
    seed = os.urandom(32)
    return private_text(seed), public_text(PrivateKey(seed).public_bytes)


def sign_with(key: PrivateKey, job: JobRef, attempt: int = 1) -> Sign:
    """Return what signs the digests of an attempt's manifests."""
    return lambda digest: key.sign(
        signing.statement(job.owner, job.id, attempt, digest)
    )


def keys_of(*keys: PrivateKey) -> signing.Keys:
    """Return the public keys of private ones."""
    return signing.Keys({key.key_id: key.public_bytes for key in keys})


def unsigned(_digest: str) -> Mapping[str, str]:
    """Sign nothing, for attempts that publish no model."""
    return {}
