"""The OpenAPI document: what the library cannot know of the routes, and the page that shows it."""

from __future__ import annotations

from typing import Any

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.openapi import OpenAPI

from rowcast.api import events
from rowcast.api.authentication import OPEN_ENDPOINTS

_PROBLEM_ANSWER: dict[str, Any] = {
    "description": "An error (RFC 9457)",
    "content": {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
    },
}
# Its answer has a secret, so it is not kept to be given again.
_NOT_IDEMPOTENT = ("/keys",)
PROBLEM_ANSWERS: Any = {"400": _PROBLEM_ANSWER, "default": _PROBLEM_ANSWER}
# The folder of the documentation lists viewers; there is one, so it leads straight to it.
DOCS_PAGE = (
    '<!doctype html><meta http-equiv="refresh" content="0; url=/docs/swagger">'
    '<a href="/docs/swagger">API</a>'
)
_KEY_PARAMETER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and request within 24 h get the first answer again.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[ -~]+$",
    },
}


def blueprint(name: str) -> APIBlueprint:
    """Return a blueprint for the routes of a resource."""
    return APIBlueprint(
        name,
        __name__,
        abp_responses=PROBLEM_ANSWERS,
        abp_security=[{"key": []}],
        operation_id_callback=_operation_id,
    )


def _operation_id(*, name: str, path: str, method: str) -> str:
    """Name an operation, wherever its route stands, so that generated clients stay as they are."""
    route = "".join(
        letter if letter.isalnum() or letter == "_" else "_" for letter in path
    )
    return f"api_{name}{route}_{method.lower()}"


def describe(app: OpenAPI) -> None:
    """Correct the OpenAPI document, once all routes are there, in what the library cannot know."""
    for path, operations in app.api_doc["paths"].items():
        if "post" in operations and path not in _NOT_IDEMPOTENT:
            operations["post"].setdefault("parameters", []).append(_KEY_PARAMETER)
        for operation in operations.values():
            if path in OPEN_ENDPOINTS:
                operation["security"] = []
            for parameter in operation.get("parameters", ()):
                # What a JSON body may carry instead is not required in the query.
                if "requestBody" in operation:
                    parameter["required"] = False
                _describe_json(parameter)


def _describe_json(parameter: dict[str, Any]) -> None:
    """Say of a list or an object in the query that it is JSON text."""
    schema = parameter.get("schema", {})
    types = {each.get("type") for each in (schema, *schema.get("anyOf", ()))}
    if parameter["in"] == "query" and types & {"array", "object"}:
        parameter["content"] = {"application/json": {"schema": parameter.pop("schema")}}


def status_or_events(schema: str) -> dict[str, Any]:
    """Return the OpenAPI answer of a route that answers JSON, or events if it is asked to
    stream."""
    answer = {"$ref": f"#/components/schemas/{schema}"}
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": answer,
    }
    event = {
        "type": "object",
        "properties": {
            "event": {"const": "status"},
            "id": {"const": events.ENDED},
            "data": data,
        },
        "required": ["event", "data"],
    }
    return {
        "description": "As JSON; with `stream`, as server-sent events, each with the same JSON",
        "content": {
            "application/json": {"schema": answer},
            events.MIME_TYPE: {"schema": event},
        },
    }
