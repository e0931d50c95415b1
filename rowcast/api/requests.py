"""A request's parameters: of the query string and of a JSON body; or the table in its body."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs

import flask
from pydantic import ValidationError
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException

from rowcast import errors

MAX_BODY_BYTES = 1_000_000
# Where a body may be a table, of up to ONLINE_MAX_BYTES.
TABLE_PATHS = ("/predict",)
# What is known of a request when it comes again because its body has arrived.
KEPT = ("started_at", "request_id", "rate_standings")


class Request(flask.Request):
    """A request whose `args` come from the query string and, in a POST, from the JSON body.

    On TABLE_PATHS, the body of a POST that names no dataset is a table, unless it is a JSON object:
    that holds parameters.
    """

    @cached_property
    def args(self) -> MultiDict[str, Any]:
        """Return the parameters; those of the body take precedence.

        Raises:
            UnsupportedMediaType: the body is not JSON by its type.
            InvalidRequest: the body is not a JSON object, or a parameter is given twice.
        """
        query = super().args
        repeated = [name for name, values in query.lists() if len(values) > 1]
        if repeated:
            raise errors.InvalidRequest(
                f"The parameter {repeated[0]!r} is given more than once."
            )
        if not self._has_body or self._carries_table:
            return query
        body = self._body().items()
        given = {name: value for name, value in body if value is not None}
        # As pairs: of a list in a mapping, MultiDict would only take the first item.
        return MultiDict(list({**query.to_dict(), **given}.items()))

    @property
    def table(self) -> bytes | None:
        """The table in the body, None where there is none.

        Raises:
            RequestTooLarge: it is over the limit.
        """
        return self._content() if self._has_body and self._carries_table else None

    @property
    def needs_body(self) -> bool:
        """Whether the body has to be read, as far as the head of the request shows."""
        if not self._has_body or self.routing_exception:
            return False
        is_read = self.is_json or self.path in TABLE_PATHS
        return is_read and (self.content_length or 0) <= self.limit

    @property
    def limit(self) -> int:
        """The largest body of this request, in bytes."""
        return self.max_content_length or MAX_BODY_BYTES

    @property
    def _has_body(self) -> bool:
        if self.method != "POST":
            return False
        return bool(self.content_length or self.headers.get("Transfer-Encoding"))

    @cached_property
    def _carries_table(self) -> bool:
        # Not from `args`, which needs this property.
        query = parse_qs(self.query_string.decode("latin-1"), keep_blank_values=True)
        if self.path not in TABLE_PATHS or "dataset_id" in query:
            return False
        return not self.is_json or self._content().lstrip()[:1] == b"["

    def _content(self) -> bytes:
        """Return the body.

        Raises:
            InvalidRequest: the body is incomplete.
            RequestTooLarge: it is over the limit.
        """
        limit = self.limit
        if (self.content_length or 0) > limit:
            raise _too_large(limit)
        try:
            content = self.get_data()
        except HTTPException:
            raise
        except Exception:  # noqa: BLE001 - whatever gunicorn raises
            # The caller fell silent, or its chunks are malformed.
            raise errors.InvalidRequest(
                "The body did not arrive as it was announced."
            ) from None
        # A body without an announced length is cut off at the limit.
        if self.content_length is None and len(content) >= limit:
            raise _too_large(limit)
        return content

    def _body(self) -> dict[str, Any]:
        if not self.is_json:
            raise errors.UnsupportedMediaType(
                f"The body's type is {self.mimetype or 'not given'}, not JSON."
            )
        content = self._content()
        if len(content) >= MAX_BODY_BYTES:
            raise _too_large(MAX_BODY_BYTES)
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise errors.InvalidRequest("The body must be a JSON object of parameters.")
        return body


def await_body(request: Any, g: Any) -> None:
    """Give the thread back until the body of the request has arrived, if it is needed."""
    await_it = request.environ.get("rowcast.await_body")
    if await_it and request.needs_body:
        kept = {name: g.get(name) for name in KEPT if name in g}
        request.environ["rowcast.notes"].update(kept)
        await_it(g.owner, request.content_length or request.limit)


def _too_large(limit: int) -> errors.RequestTooLarge:
    return errors.RequestTooLarge(f"The request's body is over {limit:,} bytes.")


def refuse_parameters(error: ValidationError) -> Any:
    """Turn pydantic's findings into one problem that names every parameter.

    Raises:
        InvalidRequest: always.
    """
    found = [
        _parameter_problem(e)
        for e in error.errors(include_url=False, include_input=False)
    ]
    raise errors.InvalidRequest(" ".join(found), errors=found)


def _parameter_problem(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if not name:
        return f"The parameters do not fit together: {message}."
    if problem["type"] == "missing":
        return f"The parameter {name!r} is missing."
    if problem["type"] == "extra_forbidden":
        return f"The parameter {name!r} is unknown here."
    reason = message[:1].lower() + message[1:]
    return f"The parameter {name!r} is wrong: {reason}."
