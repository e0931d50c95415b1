"""Signatures of models, which are needed because loading a model runs code that it holds.

The signature is an HMAC-SHA-256 (RFC 2104) over the owner, the model's id and its manifest, which
holds the SHA-256 of the model's file. The first key signs and all keys verify, so keys can be
rotated. Only workers hold keys, because a key that verifies can also sign.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

from rowcast.errors import ModelUntrusted


def sign(
    keys: Sequence[str], owner: str, model_id: str, manifest: dict[str, Any]
) -> dict[str, Any]:
    """Return the manifest with its `signature`."""
    message = _message(owner, model_id, manifest)
    return {**manifest, "signature": _mac(keys[0], message)}


def verify(
    keys: Sequence[str], owner: str, model_id: str, manifest: dict[str, Any]
) -> None:
    """Reject a manifest that no key has signed for this owner and model.

    Raises:
        ModelUntrusted: the signature is missing or matches no key.
    """
    message = _message(owner, model_id, manifest)
    signature = str(manifest.get("signature", "")).encode()
    for key in keys:
        expected = _mac(key, message).encode()
        if hmac.compare_digest(signature, expected):
            return
    raise ModelUntrusted(f"The signature of model {model_id} matches no signing key.")


def _message(owner: str, model_id: str, manifest: dict[str, Any]) -> bytes:
    signed = {name: value for name, value in manifest.items() if name != "signature"}
    content = [owner, model_id, signed]
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _mac(key: str, message: bytes) -> str:
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()
