"""Tables in the body of a request, and the media type that its Accept header asks for."""

from __future__ import annotations

from typing import Any

import flask

from rowcast import errors
from rowcast.api.schemas import Request, parameters_schema
from rowcast.online import protocol


def table_of(parameters: list[str]) -> bytes:
    """Return the table in the request's body; `parameters` are given ones that do not apply to it.

    Raises:
        InvalidRequest: the table is missing, or there are such parameters.
        UnsupportedMediaType: the type of the body is not that of a table.
        RequestTooLarge: the body is over the limit.
    """
    request: Any = flask.request
    if request.table is None:
        raise errors.InvalidRequest(
            "The parameter 'dataset_id' is missing.",
            hint="Name an uploaded dataset, or send the rows as the body, with model_id in the "
            "query.",
        )
    if parameters:
        found = [
            f"The parameter {name!r} is for jobs, which name a dataset_id."
            for name in parameters
        ]
        raise errors.InvalidRequest(" ".join(found), errors=found)
    if request.mimetype not in protocol.TABLES:
        raise errors.UnsupportedMediaType(
            f"Content-Type {request.mimetype or '(missing)'} is not a supported table format.",
            hint=f"Send the rows as one of {', '.join(protocol.TABLES)}.",
        )
    return bytes(request.table)


def wanted_type() -> str:
    """Return the media type of predictions that the Accept header prefers.

    Raises:
        NotAcceptable: it accepts none of them.
    """
    header = flask.request.headers.get("Accept", "")
    if header in ("", "*/*"):
        return protocol.ANSWERS[0]
    found = flask.request.accept_mimetypes.best_match(protocol.ANSWERS)
    if found is None:
        raise errors.NotAcceptable(
            f"Predictions are available as {', '.join(protocol.ANSWERS)}."
        )
    return found


def table_or_parameters(request: type[Request]) -> dict[str, Any]:
    """Return the OpenAPI request body of a route that takes parameters as JSON, or a table."""
    extensions = parameters_schema(request)
    content = extensions["requestBody"]["content"]
    rows = {
        "type": "array",
        "items": {"type": "object"},
        "description": "The rows to predict.",
    }
    content["application/json"]["schema"] = {
        "oneOf": [content["application/json"]["schema"], rows]
    }
    content.update({name: {} for name in protocol.TABLES if name not in content})
    return extensions


def job_or_table(schema: str) -> dict[str, Any]:
    """Return the OpenAPI answer of a route that answers a job, or predictions."""
    rows = {"type": "array", "items": {"type": "object"}}
    answer = {"oneOf": [{"$ref": f"#/components/schemas/{schema}"}, rows]}
    others: dict[str, Any] = {name: {} for name in protocol.ANSWERS[1:]}
    return {
        "description": "An earlier job with `reuse`; without `dataset_id` the predictions, as "
        "the Accept header asks",
        "content": {"application/json": {"schema": answer}, **others},
    }
