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


class Request(flask.Request):
    """A request whose `args` are the parameters of the query string and, in a POST, of the JSON
    body.

    Where a table may be sent at once, the body of a POST that names no dataset is one, unless it is
    a JSON object: that holds parameters.
    """

    @cached_property
    def args(self) -> MultiDict[str, Any]:
        """Return the parameters; the body's come first where both name one.

        Raises:
            UnsupportedMediaType: the body is not JSON by its type.
            InvalidRequest: the body is no JSON object.
        """
        query = super().args
        if twice := [name for name, values in query.lists() if len(values) > 1]:
            raise errors.InvalidRequest(
                f"The parameter {twice[0]!r} is given more than once."
            )
        if not self._has_body or self._carries_table:
            return query
        named = {
            name: value for name, value in self._body().items() if value is not None
        }
        # As pairs, because of a list in a mapping MultiDict would take the first item alone.
        return MultiDict(list({**query.to_dict(), **named}.items()))

    @property
    def table(self) -> bytes | None:
        """The table that the body is, None where there is none.

        Raises:
            RequestTooLarge: it is over the limit.
        """
        return self._content() if self._has_body and self._carries_table else None

    @property
    def _has_body(self) -> bool:
        return self.method == "POST" and bool(
            self.content_length or self.headers.get("Transfer-Encoding")
        )

    @cached_property
    def _carries_table(self) -> bool:
        # Not `args`, which asks for this.
        query = parse_qs(self.query_string.decode("latin-1"), keep_blank_values=True)
        if self.path not in TABLE_PATHS or "dataset_id" in query:
            return False
        return not self.is_json or self._content().lstrip()[:1] == b"["

    def _content(self) -> bytes:
        """Return the body. Raises InvalidRequest where it breaks off, RequestTooLarge over the
        limit."""
        limit = self.max_content_length or MAX_BODY_BYTES
        if (self.content_length or 0) > limit:
            raise _too_large(limit)
        try:
            content = self.get_data()
        except HTTPException:
            raise
        except Exception:  # noqa: BLE001 - whatever gunicorn raises
            # The caller fell silent, or its chunks are none.
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
    if not name:
        return (
            "The parameters do not fit together: "
            f"{problem['msg'].removeprefix('Value error, ')}."
        )
    known = {
        "missing": f"The parameter {name!r} is missing.",
        "extra_forbidden": f"The parameter {name!r} is unknown here.",
    }
    message = problem["msg"].removeprefix("Value error, ")
    reason = message[:1].lower() + message[1:]
    return known.get(problem["type"], f"The parameter {name!r} is wrong: {reason}.")
