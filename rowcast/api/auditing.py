"""Which requests are audited: those that may change something, and those that are refused."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import flask

from rowcast.access import keys
from rowcast.api.state import Parts
from rowcast.observability import audit

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# A GET that gives out the right to write.
_CHANGING_GETS = ("/upload",)
_ID = re.compile(r"[0-9a-fA-F-]{32,36}")
_IDS = ("id", "dataset_id", "model_id")


def note(parts: Parts, request: flask.Request, g: Any, status: int) -> None:
    """Write one line for a request that may change something or was refused.

    Of a flood of refusals, a line says how many were left out, with the first request after it.
    """
    _note_left_out(parts)
    outcome = audit.outcome_of(status)
    if not (outcome == "refused" or _may_change_something(request)):
        return
    caller = g.get("caller")
    source = (request.remote_addr, caller and caller.owner, status)
    if outcome == "refused" and not parts.refusals.passes(source):
        return
    route = request.url_rule.rule if request.url_rule else request.path
    parts.audit.write(
        keys.PATTERN.sub("...", f"{request.method} {route}"),
        outcome,
        owner=caller.owner if caller else None,
        key_id=caller.key_id if caller else None,
        key_name=caller.key_name if caller else None,
        address=request.remote_addr,
        object=_object(request, g),
        named=_named(request) if outcome != "refused" else None,
        status=status,
        request_id=g.get("request_id"),
    )


def _note_left_out(parts: Parts) -> None:
    for (address, owner, status), n_lines in parts.refusals.left_out().items():
        parts.audit.write(
            "left out",
            "refused",
            owner=owner,
            address=address,
            status=status,
            lines=n_lines,
        )


def _may_change_something(request: flask.Request) -> bool:
    if request.url_rule is None:
        return False
    is_changing_get = request.url_rule.rule in _CHANGING_GETS
    return request.method not in _SAFE_METHODS or is_changing_get


def _object(request: flask.Request, g: Any) -> str | None:
    """Return the id of what was made, changed or deleted."""
    in_path = (request.view_args or {}).get("id")
    found = g.get("object_id") or g.get("job_id") or in_path
    return str(found) if found and _ID.fullmatch(str(found)) else None


def _named(request: flask.Request) -> dict[str, str] | None:
    """Return the ids that the parameters name."""
    found: dict[str, str] = {}
    with suppress(Exception):  # Malformed parameters have their own answer.
        given = request.args
        for name in _IDS:
            if name in given and _ID.fullmatch(str(given[name])):
                found[name] = str(given[name])
    return found or None
