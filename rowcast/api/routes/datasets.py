"""/datasets: the uploaded datasets of an owner."""

from __future__ import annotations

from typing import Any

import flask

from rowcast.api import quotas
from rowcast.api.answers import DatasetsAnswer
from rowcast.api.authentication import needs
from rowcast.api.openapi import blueprint
from rowcast.api.schemas import Named, Nothing, PageRequest
from rowcast.api.state import parts
from rowcast.catalog import deletion, listing

api = blueprint("datasets")


@api.get("/datasets", responses={200: DatasetsAnswer})
@needs("read")
def datasets(query: PageRequest) -> dict[str, Any]:
    """List the uploaded datasets, newest first."""
    page = listing.datasets(
        parts.storage,
        flask.g.owner,
        query.before,
        query.limit,
        kept_days=parts.settings.retain_datasets_days,
    )
    return {"datasets": page.items, "next": page.next}


@api.delete("/datasets/<id>", responses={204: None})
@needs("fit")
def delete_dataset(path: Named, query: Nothing) -> tuple[str, int]:
    """Delete a dataset; the models and results that were made from it stay."""
    with quotas.deleting("datasets", path.id):
        deletion.dataset(parts.storage, flask.g.owner, path.id)
    return "", 204
