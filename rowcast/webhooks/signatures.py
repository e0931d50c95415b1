"""Signatures of webhooks, as Standard Webhooks 1.0 defines them."""

from __future__ import annotations

import base64
import hmac

from rowcast.config import Settings


def secrets_of(owner: str, settings: Settings) -> list[bytes]:
    """Return the secrets that sign an owner's webhooks.

    They are the owner's own, or without any the ones that name no owner. A receiver can sign as
    well as verify, so a shared secret lets one owner send to another's receiver.
    """
    own = []
    shared = []
    for entry in settings.webhook_secrets:
        name, _, secret = entry.get_secret_value().rpartition(":")
        decoded = base64.b64decode(secret.removeprefix("whsec_"))
        if name == owner:
            own.append(decoded)
        elif not name:
            shared.append(decoded)
    return own or shared


def headers_of(
    message_id: str, sent_at: int, body: bytes, secrets: list[bytes]
) -> dict[str, str]:
    """Return the headers that sign a body, with every secret; `sent_at` in Unix seconds."""
    content = b"%s.%d.%s" % (message_id.encode(), sent_at, body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": " ".join(_sign(content, secret) for secret in secrets),
    }


def _sign(content: bytes, secret: bytes) -> str:
    digest = hmac.digest(secret, content, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"
