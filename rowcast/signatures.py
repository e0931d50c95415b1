"""Ed25519 signatures (RFC 8032): keys as settings write them, and signatures of JSON values.

A key as text is `ed25519-private-` or `ed25519-public-` and its 32 bytes in base64url, without
padding. `key_id` names a public key: the first 16 hexadecimal digits of its SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

# This is pycryptodome, which goes on under the name of pyCrypto.
from Crypto.Signature import eddsa  # nosec B413

_PRIVATE, _PUBLIC = "ed25519-private-", "ed25519-public-"


class PrivateKey:
    """A key that signs."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32 bytes of the key."""
        key = eddsa.import_private_key(seed)
        self.public_bytes: bytes = key.public_key().export_key(format="raw")
        self.key_id = key_id_of(self.public_bytes)
        self._signer = eddsa.new(key, "rfc8032")

    def sign(self, value: Any) -> dict[str, str]:
        """Return `key_id` and `signature`, in base64, of a JSON value."""
        signature = self._signer.sign(canonical(value))
        encoded = base64.b64encode(signature).decode()
        return {"key_id": self.key_id, "signature": encoded}


def is_signed(public_key: bytes, value: Any, signature: Any) -> bool:
    """Return whether a signature, in base64, is that of a JSON value by this key."""
    try:
        signed = base64.b64decode(str(signature), validate=True)
        key = eddsa.import_public_key(public_key)
        eddsa.new(key, "rfc8032").verify(canonical(value), signed)
    except ValueError:
        return False
    return True


def canonical(value: Any) -> bytes:
    """Return the one way to write a JSON value: sorted, without spaces, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def key_id_of(public_key: bytes) -> str:
    """Return the name of a public key."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def private_text(seed: bytes) -> str:
    """Return a private key, 32 bytes, as text."""
    return _PRIVATE + _base64url(seed)


def public_text(public_key: bytes) -> str:
    """Return a public key, 32 bytes, as text."""
    return _PUBLIC + _base64url(public_key)


def _base64url(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")
