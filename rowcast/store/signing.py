"""Signatures of models, which are needed because loading a model runs code that it holds.

What is signed is the JSON of `["rowcast model", owner, id, attempt, digest]`, with the SHA-256 of
the manifest's canonical JSON; the manifest holds the SHA-256 of the model's file. Whoever has the
public keys can verify that. The private key is in one process only, `rowcast/workers/signer.py`.

Earlier versions signed by HMAC-SHA-256 (RFC 2104). Such models are verified as long as
HMAC_SIGNING_KEYS has their key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rowcast import signatures
from rowcast.config import Settings
from rowcast.errors import ModelUntrusted
from rowcast.store.publications import JobRef

# Members of a manifest that say who signed it; the signature does not cover them.
_SIGNATURE_MEMBERS = ("key_id", "signature")


def members(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a manifest that a signature covers."""
    return {k: v for k, v in manifest.items() if k not in _SIGNATURE_MEMBERS}


def covered(manifest: Mapping[str, Any]) -> bytes:
    """Return what a signature covers of a manifest: the canonical JSON of those members."""
    return signatures.canonical(members(manifest))


def signed(
    manifest: Mapping[str, Any], sign: Callable[[str], Mapping[str, str]]
) -> dict[str, Any]:
    """Return the manifest with the `key_id` and `signature` that `sign` returns for its digest."""
    digest = hashlib.sha256(covered(manifest)).hexdigest()
    return {**manifest, **sign(digest)}


def statement(owner: str, model_id: str, attempt: int, digest: str) -> list[Any]:
    """Return what is signed for a manifest with this digest."""
    # The first member keeps the signature from counting for anything else.
    return ["rowcast model", owner, model_id, attempt, digest]


@dataclass(frozen=True)
class Keys:
    """The keys that verify models: public ones by `key_id`, and HMAC keys of earlier versions."""

    public: Mapping[str, bytes] = field(default_factory=dict)
    hmac: Sequence[str] = ()

    @classmethod
    def of(cls, settings: Settings) -> Keys:
        """Return the keys of VERIFY_KEYS and HMAC_SIGNING_KEYS."""
        return cls(
            {signatures.key_id_of(key): key for key in settings.public_keys},
            [key.get_secret_value() for key in settings.hmac_signing_keys],
        )

    def verify(self, job: JobRef, attempt: int, manifest: Mapping[str, Any]) -> None:
        """Reject a manifest that no key has signed for this owner, model and attempt.

        Raises:
            ModelUntrusted: the signature is missing or does not match.
        """
        if "key_id" in manifest:
            self._verify(job, attempt, manifest)
        elif not self._has_signed_by_hmac(job, manifest):
            raise ModelUntrusted(f"The signature of model {job.id} matches no key.")

    def _verify(self, job: JobRef, attempt: int, manifest: Mapping[str, Any]) -> None:
        key = self.public.get(str(manifest["key_id"]))
        if key is None:
            raise ModelUntrusted(
                f"Model {job.id} was signed by a key that is not among VERIFY_KEYS."
            )
        digest = hashlib.sha256(covered(manifest)).hexdigest()
        stated = statement(job.owner, job.id, attempt, digest)
        if not signatures.is_signed(key, stated, manifest.get("signature")):
            raise ModelUntrusted(f"The signature of model {job.id} does not match.")

    def _has_signed_by_hmac(self, job: JobRef, manifest: Mapping[str, Any]) -> bool:
        given = str(manifest.get("signature"))
        signature = given.encode("ascii", "backslashreplace")
        message = signatures.canonical(
            [job.owner, job.id, _without_signature(manifest)]
        )
        macs = (_mac(key, message) for key in self.hmac)
        return any(hmac.compare_digest(signature, mac) for mac in macs)


def _without_signature(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in manifest.items() if name != "signature"}


def _mac(key: str, message: bytes) -> bytes:
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest().encode()
