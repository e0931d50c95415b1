"""Presigned URLs of the store, for the host by which the caller reaches it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import flask

from rowcast.api.state import parts
from rowcast.errors import InvalidRequest
from rowcast.store import Bucket


def upload(dataset_id: str) -> dict[str, Any]:
    """Return the URL to PUT a dataset to, and when it expires, in Unix seconds."""
    ttl_s = parts.settings.upload_url_ttl_s
    url = parts.storage.upload_url(
        flask.g.owner, dataset_id, ttl_s, internal=_is_internal()
    )
    return {"url": url, "expires_at": time.time() + ttl_s}


def nothing(*, form: bool) -> dict[str, Any]:
    """Return the members of an upload that is not needed."""
    members: dict[str, Any] = {"url": None, "expires_at": None}
    return {**members, "fields": None} if form else members


def check_forms() -> None:
    """Refuse a form where the store takes none. Raises InvalidRequest."""
    if not parts.settings.s3_post_forms:
        raise InvalidRequest(
            "The object store of this service does not accept uploads by form.",
            hint="Leave `form` out and PUT the table to the url. Operators: set "
            "S3_POST_FORMS=true if the store supports POST policies.",
        )


def upload_form(dataset_id: str, max_bytes: int) -> dict[str, Any]:
    """Return the form to POST a dataset of at most `max_bytes` by, and when it expires."""
    expires_at = time.time() + parts.settings.upload_url_ttl_s
    url, fields = parts.storage.upload_form(
        flask.g.owner,
        dataset_id,
        datetime.fromtimestamp(expires_at, UTC),
        max_bytes,
        internal=_is_internal(),
    )
    return {"url": url, "fields": fields, "expires_at": expires_at}


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
