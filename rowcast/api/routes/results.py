"""/results: what predict jobs have made."""

from __future__ import annotations

from typing import Any

import flask

from rowcast.api import lookups, quotas
from rowcast.api.answers import ResultManifest
from rowcast.api.authentication import needs
from rowcast.api.openapi import blueprint
from rowcast.api.schemas import Named, Nothing
from rowcast.api.state import parts
from rowcast.catalog import deletion, expiry

api = blueprint("results")


@api.get("/results/<id>", responses={200: ResultManifest})
@needs("read")
def result_manifest(path: Named, query: Nothing) -> dict[str, Any]:
    """Return all that is known of a result."""
    found = lookups.result(path.id)
    expires_at = expiry.of_manifest(
        found.manifest, path.id, parts.settings.retain_results_days
    )
    return {**found.manifest, "id": path.id, "expires_at": expires_at}


@api.delete("/results/<id>", responses={204: None})
@needs("fit")
def delete_result(path: Named, query: Nothing) -> tuple[str, int]:
    """Delete a result, or what a failed prediction left."""
    with quotas.deleting("results", path.id):
        deletion.result(parts.storage, parts.jobs, flask.g.owner, path.id)
    return "", 204
