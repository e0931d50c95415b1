"""Which requests are audited: those that may change something, and those that are refused."""

from __future__ import annotations

import re
from contextlib import suppress

import flask

from rowcast.access import keys
from rowcast.api.state import parts
from rowcast.observability import audit

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# A GET that gives out the right to write.
_CHANGING_GETS = ("/upload",)
_ID = re.compile(r"[0-9a-fA-F-]{32,36}")
_IDS = ("id", "dataset_id", "model_id")


def note(response: flask.Response) -> None:
    """Write one line for a request that may change something or was refused.

    Of a flood of refusals, a line says how many were left out, with the first request after it.
    """
    _note_left_out()
    outcome = audit.outcome_of(response.status_code)
    if not (outcome == "refused" or _may_change_something()):
        return
    request, g = flask.request, flask.g
    caller = g.get("caller")
    source = (request.remote_addr, caller and caller.owner, response.status_code)
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
        object=_object(),
        named=_named() if outcome != "refused" else None,
        status=response.status_code,
        request_id=g.get("request_id"),
    )


def _note_left_out() -> None:
    for (address, owner, status), n_lines in parts.refusals.left_out().items():
        parts.audit.write(
            "left out",
            "refused",
            owner=owner,
            address=address,
            status=status,
            lines=n_lines,
        )


def _may_change_something() -> bool:
    request = flask.request
    if request.url_rule is None:
        return False
    is_changing_get = request.url_rule.rule in _CHANGING_GETS
    return request.method not in _SAFE_METHODS or is_changing_get


def _object() -> str | None:
    """Return the id of what was made, changed or deleted."""
    in_path = (flask.request.view_args or {}).get("id")
    found = flask.g.get("object_id") or flask.g.get("job_id") or in_path
    return str(found) if found and _ID.fullmatch(str(found)) else None


def _named() -> dict[str, str] | None:
    """Return the ids that the parameters name."""
    found: dict[str, str] = {}
    with suppress(Exception):  # Malformed parameters have their own answer.
        given = flask.request.args
        for name in _IDS:
            if _ID.fullmatch(str(given.get(name, ""))):
                found[name] = str(given[name])
    return found or None
