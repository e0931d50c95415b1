"""Presigned URLs of the store, for the host by which the caller reaches it."""

from __future__ import annotations

import time
from typing import Any

import flask

from rowcast.api.state import parts
from rowcast.store import Bucket


def upload(dataset_id: str) -> dict[str, Any]:
    """Return the URL to PUT a dataset to, and when it expires, in Unix seconds."""
    ttl_s = parts.settings.upload_url_ttl_s
    url = parts.storage.upload_url(
        flask.g.owner, dataset_id, ttl_s, internal=_is_internal()
    )
    return {"url": url, "expires_at": time.time() + ttl_s}


def download(bucket: Bucket, identifier: str, name: str) -> dict[str, Any]:
    """Return the URL to GET an object of the owner's from, and when it expires."""
    ttl_s = parts.settings.download_url_ttl_s
    url = parts.storage.download_url(
        bucket, flask.g.owner, identifier, name, ttl_s, internal=_is_internal()
    )
    return {"url": url, "expires_at": time.time() + ttl_s}


def _is_internal() -> bool:
    """Return whether the request came by a host name of the server's own network."""
    host = flask.request.host.partition(":")[0]
    return host in parts.settings.internal_hosts
