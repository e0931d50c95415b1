"""/models: the models of an owner."""

from __future__ import annotations

from typing import Any

import flask

from rowcast.api import lookups, presigning, quotas
from rowcast.api.answers import FileAnswer, ModelAnswer, ModelsAnswer
from rowcast.api.authentication import needs
from rowcast.api.openapi import blueprint
from rowcast.api.schemas import Named, Nothing, PageRequest
from rowcast.api.state import parts
from rowcast.catalog import deletion, expiry, listing
from rowcast.store import publications

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
    # Only the workers can check the signature.
    about = {k: value for k, value in found.manifest.items() if k != "signature"}
    expires_at = expiry.of_manifest(about, path.id, parts.settings.retain_models_days)
    return {**about, "id": path.id, "expires_at": expires_at}


@api.get("/models/<id>/file", responses={200: FileAnswer})
@needs("read")
def model_file(path: Named, query: Nothing) -> dict[str, Any]:
    """Get the URL of a model's file, and the SHA-256 that its bytes must have."""
    found = lookups.model(path.id)
    file = lookups.file_of(found, path.id)
    name = f"{found.attempt}/{publications.MODEL_FILE}"
    return {**presigning.download("models", path.id, name), **file._asdict()}


@api.delete("/models/<id>", responses={204: None})
@needs("fit")
def delete_model(path: Named, query: Nothing) -> tuple[str, int]:
    """Delete a model with all results that were made with it, or what a failed fit left."""
    with quotas.deleting("models", path.id):
        deletion.model(parts.storage, parts.jobs, flask.g.owner, path.id)
    return "", 204
