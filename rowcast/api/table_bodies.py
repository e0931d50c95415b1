"""Tables in the body of a request, and predictions in the format that its Accept header asks
for."""

from __future__ import annotations

from typing import Any

import flask

from rowcast import errors
from rowcast.api.schemas import Request, parameters_schema
from rowcast.online import protocol


def table_of(parameters: list[str]) -> bytes:
    """Return the table that the request carries; `parameters` are those given that mean nothing for
    it.

    Raises:
        InvalidRequest: there is no table, or there are such parameters.
        UnsupportedMediaType: the type of the body is none of a table.
        RequestTooLarge: it is over the limit.
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
            f"The body's type is {request.mimetype or 'not given'}, which is none of a table.",
            hint=f"Send the rows as one of {', '.join(protocol.TABLES)}.",
        )
    return bytes(request.table)


def wanted_type() -> str:
    """Return the media type of predictions that the Accept header likes most.

    Raises:
        NotAcceptable: it likes none that is given.
    """
    header = flask.request.headers.get("Accept", "")
    if header in ("", "*/*"):
        return protocol.ANSWERS[0]
    found = flask.request.accept_mimetypes.best_match(protocol.ANSWERS)
    if found is None:
        raise errors.NotAcceptable(
            f"Predictions are given as {', '.join(protocol.ANSWERS)} alone."
        )
    return found


def table_or_parameters(request: type[Request]) -> dict[str, Any]:
    """Return the request body's part of an OpenAPI operation that takes parameters as JSON, or a
    table."""
    extensions = parameters_schema(request)
    content = extensions["requestBody"]["content"]
    rows = {
        "type": "array",
        "items": {"type": "object"},
        "description": "The rows to predict at once.",
    }
    content["application/json"]["schema"] = {
        "oneOf": [content["application/json"]["schema"], rows]
    }
    content.update({name: {} for name in protocol.TABLES if name not in content})
    return extensions


def job_or_table(schema: str) -> dict[str, Any]:
    """Return the OpenAPI answer of a route that answers a job, or predictions at once."""
    rows = {"type": "array", "items": {"type": "object"}}
    answer = {"oneOf": [{"$ref": f"#/components/schemas/{schema}"}, rows]}
    others: dict[str, Any] = {name: {} for name in protocol.ANSWERS[1:]}
    return {
        "description": "An earlier job with `reuse`; without `dataset_id` the predictions, as "
        "Accept asks",
        "content": {"application/json": {"schema": answer}, **others},
    }
