"""Signatures of models, because loading one runs code that lies in it.

HMAC-SHA-256 (RFC 2104) over the owner, the model's id and its manifest, which holds the SHA-256 of
the model's file. The first key signs, all verify, so that keys can be rotated. Only workers hold
keys: whoever can verify could also sign.
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
    return {**manifest, "signature": _mac(keys[0], owner, model_id, manifest)}


def verify(
    keys: Sequence[str], owner: str, model_id: str, manifest: dict[str, Any]
) -> None:
    """Refuse a manifest that no key has signed for this owner and model.

    Raises:
        ModelUntrusted: the signature is missing or matches no key.
    """
    signature = str(manifest.get("signature", "")).encode()
    if not any(
        hmac.compare_digest(signature, _mac(key, owner, model_id, manifest).encode())
        for key in keys
    ):
        raise ModelUntrusted(
            f"The signature of model {model_id} matches no signing key."
        )


def _mac(key: str, owner: str, model_id: str, manifest: dict[str, Any]) -> str:
    signed = {name: value for name, value in manifest.items() if name != "signature"}
    message = json.dumps(
        [owner, model_id, signed], sort_keys=True, separators=(",", ":")
    )
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()
