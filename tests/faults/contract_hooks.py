"""What schemathesis loads, so that no part of a request hides another one from the service."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.core import NOT_SET
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode

Case = schemathesis.Case[Any]

# The file, in the working directory, that names the ids of each POST.
IDS = "ids.json"
REQUIRED = ("id", "model_id")
# The service reads a single item as a list of one, and text in the body as in the query. The
# document need not promise that.
LISTS = ("quantiles", "levels", "keep", "scopes")
NO_TEXT = (
    *LISTS,
    *("params", "class_weight"),
    *(
        "seed",
        "size",
        "timeout_s",
        "importance_s",
        "search_s",
        "expires_at",
        "reuse",
        "form",
    ),
)
IDEMPOTENCY_KEY = "Idempotency-Key"
# Longer keys differ without help.
_SHORT_KEY = 20


@schemathesis.hook
def before_call(_: Any, case: Case, __: dict[str, Any]) -> None:
    """Send a POST with real ids, in one place, and with a key that no other request has."""
    if case.method != "POST":
        return
    if isinstance(case.body, dict) and case.query:
        _keep_one_place(case)
    _give_ids(case)
    key = case.headers.get(IDEMPOTENCY_KEY)
    is_valid = not _is_negative(case, ParameterLocation.HEADER)
    if key is not None and is_valid and len(key) < _SHORT_KEY:
        case.headers[IDEMPOTENCY_KEY] = f"{key}-{case.id}"


@schemathesis.hook
def filter_failure(_: Any, failure: Failure, case: Case, __: Response) -> bool:
    """Return whether a failure counts."""
    body = case.body if isinstance(case.body, dict) else {}
    is_item = any(
        name in given and not _is_list(given[name])
        for given in (case.query, body)
        for name in LISTS
    )
    is_text = any(isinstance(body.get(name), str) for name in NO_TEXT)
    is_lenient = is_item or is_text
    return not (is_lenient and isinstance(failure, AcceptedNegativeData))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or str(value).startswith("[")


def _keep_one_place(case: Case) -> None:
    """Drop the body or the query: if both have a parameter, the service reads that of the body."""
    if _is_negative(case, ParameterLocation.QUERY):
        case.body = NOT_SET
    else:
        case.query = {}


def _give_ids(case: Case) -> None:
    """Replace made-up ids by real ones, unless the parameters are wrong on purpose.

    Made-up ids that end in 0 stay.
    """
    given: dict[str, Any] = dict(case.query)
    location = ParameterLocation.QUERY
    if isinstance(case.body, dict):
        given = dict(case.body)
        location = ParameterLocation.BODY
    if _is_negative(case, location):
        return

    for name, value in _ids().get(f"{case.method} {case.path}", {}).items():
        is_wanted = name in given or name in REQUIRED
        if is_wanted and not str(given.get(name)).endswith("0"):
            given[name] = value
    if location is ParameterLocation.BODY:
        case.body = given
    else:
        case.query = given


@cache
def _ids() -> dict[str, dict[str, str]]:
    ids: dict[str, dict[str, str]] = json.loads(Path(IDS).read_text())
    return ids


def _is_negative(case: Case, location: ParameterLocation) -> bool:
    """Return whether schemathesis made this part of the request such that it must be refused."""
    if case.meta is None:
        return False
    component = case.meta.components.get(location)
    return component is not None and component.mode is GenerationMode.NEGATIVE
