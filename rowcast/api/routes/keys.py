"""/keys: the API keys of all owners, for administrators; and /me: the key of the caller."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import flask

from rowcast import __version__, errors
from rowcast.access import SCOPES, Key, keys
from rowcast.api import quotas
from rowcast.api.answers import KeysAnswer, MeAnswer, NewKeyAnswer
from rowcast.api.authentication import needs
from rowcast.api.openapi import blueprint
from rowcast.api.schemas import (
    KeyRequest,
    KeysRequest,
    Named,
    Nothing,
    parameters_schema,
)
from rowcast.api.state import parts

api = blueprint("keys")


@api.get("/me", responses={200: MeAnswer})
@needs(*SCOPES)
def me(query: Nothing) -> dict[str, Any]:
    """Describe the caller: the owner it acts for, and what its key may do, limits and usage."""
    caller = flask.g.caller
    return {
        "owner": caller.owner,
        "key_id": caller.key_id,
        "key_name": caller.key_name,
        "scopes": sorted(caller.scopes),
        "expires_at": caller.expires_at,
        "version": __version__,
        **quotas.account(),
    }


@api.get("/keys", responses={200: KeysAnswer})
@needs("admin")
def list_keys(query: KeysRequest) -> dict[str, Any]:
    """List the keys of all owners, newest first; revoked and expired ones for 30 days."""
    _, found = parts.keys.keys()
    last_uses = parts.keys.last_uses()
    chosen = sorted(
        (key for key in found.values() if _is_asked_for(key, query)),
        key=lambda key: key.id,
        reverse=True,
    )
    page = chosen[: query.limit]
    is_last = len(chosen) <= query.limit
    described = [_described(key, last_uses.get(key.id)) for key in page]
    return {"keys": described, "next": None if is_last else page[-1].id}


def _is_asked_for(key: Key, query: KeysRequest) -> bool:
    if query.owner and key.owner != query.owner:
        return False
    return query.before is None or key.id < query.before


def _described(key: Key, last_used_at: float | None = None) -> dict[str, Any]:
    return {**asdict(key), "last_used_at": last_used_at}


@api.post(
    "/keys",
    responses={201: NewKeyAnswer},
    openapi_extensions=parameters_schema(KeyRequest),
)
@needs("admin")
def create_key(query: KeyRequest) -> tuple[dict[str, Any], int]:
    """Create a key. The answer has the key itself, which nothing shows again."""
    if not parts.settings.needs_keys:
        raise errors.KeysNotUsed("This server admits callers without a key.")
    if "Idempotency-Key" in flask.request.headers:
        raise errors.InvalidRequest(
            "/keys does not support Idempotency-Key, because the answer is not kept.",
            hint="If an answer was lost, revoke its key and create another one.",
        )
    plain, key = keys.new_key(
        query.owner, query.name, query.scopes, expires_at=query.expires_at
    )
    parts.keys.add(keys.digest_of(plain), key)
    flask.g.object_id = key.id
    return {**_described(key), "key": plain}, 201


@api.delete("/keys/<id>", responses={204: None})
@needs("admin")
def revoke_key(path: Named, query: Nothing) -> tuple[str, int]:
    """Revoke a key; every server process refuses it within two seconds."""
    if parts.keys.revoke(path.id) is None:
        raise errors.KeyNotFound(f"Key {path.id} does not exist.")
    return "", 204
