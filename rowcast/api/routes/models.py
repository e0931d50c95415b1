"""/models: the models of an owner."""

from __future__ import annotations

from typing import Any

import flask

from rowcast import signatures
from rowcast.api import lookups, presigning, quotas
from rowcast.api.answers import (
    ModelAnswer,
    ModelFileAnswer,
    ModelsAnswer,
    SigningKeysAnswer,
)
from rowcast.api.authentication import needs
from rowcast.api.openapi import blueprint
from rowcast.api.schemas import Named, Nothing, PageRequest
from rowcast.api.state import parts
from rowcast.catalog import deletion, expiry, listing
from rowcast.store import JobRef, Publication, publications, signing

api = blueprint("models")


@api.get("/models", responses={200: ModelsAnswer})
@needs("read")
def models(query: PageRequest) -> dict[str, Any]:
    """List the finished models, newest first."""
    page = listing.models(parts.storage, flask.g.owner, query.before, query.limit)
    return {"models": page.items, "next": page.next}


@api.get("/models/<id>", responses={200: ModelAnswer})
@needs("read")
def model(path: Named, query: Nothing) -> dict[str, Any]:
    """Return all that is known of a model."""
    found = lookups.model(path.id)
    about = signing.members(found.manifest)
    expires_at = expiry.of_manifest(about, path.id, parts.settings.retain_models_days)
    return {**about, "id": path.id, "expires_at": expires_at}


@api.get("/models/<id>/file", responses={200: ModelFileAnswer})
@needs("read")
def model_file(path: Named, query: Nothing) -> dict[str, Any]:
    """Get the URL of a model's file, and the signature to verify before loading it."""
    found = lookups.model(path.id)
    file = lookups.file_of(found, path.id)
    _verify(found, path.id)
    # Without a key's name, the signature is an HMAC, which nobody else can verify.
    key_id = found.manifest.get("key_id")
    name = f"{found.attempt}/{publications.MODEL_FILE}"
    return {
        **presigning.download("models", path.id, name),
        **file._asdict(),
        "id": path.id,
        "owner": flask.g.owner,
        "attempt": found.attempt,
        "manifest": signing.covered(found.manifest).decode(),
        "key_id": key_id,
        "signature": found.manifest["signature"] if key_id else None,
    }


def _verify(found: Publication, model_id: str) -> None:
    """Refuse a model that the service did not sign; raises ModelUntrusted."""
    # The keys of earlier versions, which also sign, are not the server's.
    if "key_id" in found.manifest:
        keys = signing.Keys.of(parts.settings)
        keys.verify(
            JobRef(flask.g.owner, "fit", model_id), found.attempt, found.manifest
        )


@api.get("/signing_keys", responses={200: SigningKeysAnswer})
@needs("read")
def signing_keys(query: Nothing) -> dict[str, Any]:
    """List the public keys that models are signed with, the current one first."""
    keys = parts.settings.public_keys
    return {
        "keys": [
            {
                "key_id": signatures.key_id_of(key),
                "public_key": signatures.public_text(key),
            }
            for key in keys
        ]
    }


@api.delete("/models/<id>", responses={204: None})
@needs("fit")
def delete_model(path: Named, query: Nothing) -> tuple[str, int]:
    """Delete a model with all results that were made with it, or what a failed fit left."""
    with quotas.deleting("models", path.id):
        deletion.model(parts.storage, parts.jobs, flask.g.owner, path.id)
    return "", 204
