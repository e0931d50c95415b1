"""What every route shares: parameters, keys, ids, answers given again, answers to errors, waiting
rooms."""

from __future__ import annotations

import hmac
import json
import logging
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property, wraps
from typing import Any
from urllib.parse import parse_qs

import flask
import redis
import uuid_utils
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel, ValidationError
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException

from rowcast import __version__, errors, ids
from rowcast.api import events, idempotency
from rowcast.api.schemas import Problem
from rowcast.config import Settings
from rowcast.observability import logs

log = logging.getLogger("rowcast.server")

OPEN_ENDPOINTS = (
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/client.py",
    "/estimators.py",
)
MAX_BODY_BYTES = 1_000_000
# Where a body may be a table, up to ONLINE_MAX_BYTES.
TABLE_PATHS = ("/predict",)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_PROBLEM_ANSWER: dict[str, Any] = {
    "description": "An error (RFC 9457)",
    "content": {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
    },
}
PROBLEM_ANSWERS: Any = {"400": _PROBLEM_ANSWER, "default": _PROBLEM_ANSWER}
# The folder of the documentation lists viewers; there is one, so it leads straight to it.
_DOCS_PAGE = (
    '<!doctype html><meta http-equiv="refresh" content="0; url=/docs/swagger"><a '
    'href="/docs/swagger">API</a>'
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

_OF_FLASK: dict[int, type[errors.RowcastError]] = {
    400: errors.InvalidRequest,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.RequestTooLarge,
    415: errors.UnsupportedMediaType,
    500: errors.InternalError,
}


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


def new_app(name: str, settings: Settings) -> OpenAPI:
    """Return an application without routes: request ids, keys, log lines, problem answers,
    documentation."""
    app = OpenAPI(
        name,
        info=Info(
            title="Rowcast",
            version=__version__,
            description="Fit models on tables; predict.",
        ),
        security_schemes={"key": {"type": "http", "scheme": "bearer"}},
        validation_error_status=400,
        validation_error_model=Problem,
        validation_error_callback=refuse_parameters,
        doc_prefix="/docs",
    )
    app.config["OPENAPI_HTML_STRING"] = _DOCS_PAGE
    _install(app, settings)
    return app


def _install(app: OpenAPI, settings: Settings) -> None:
    app.request_class = Request
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    owners = [
        entry.get_secret_value().split(":", 1)[::-1] for entry in settings.api_keys
    ]

    @app.before_request
    def identify() -> None:
        given = flask.request.headers.get("X-Request-ID", "")
        flask.g.started_at = time.monotonic()
        flask.g.request_id = (
            given if _REQUEST_ID.fullmatch(given) else str(uuid_utils.uuid7())
        )
        flask.g.owner = "default"
        if flask.request.path in TABLE_PATHS:
            flask.request.max_content_length = settings.online_max_bytes
        if owners and not _is_open(flask.request.path):
            flask.g.owner = _owner_of_key(
                owners, flask.request.headers.get("Authorization", "")
            )

    @app.after_request
    def note(response: flask.Response) -> flask.Response:
        response.headers["X-Request-ID"] = flask.g.get("request_id", "")
        level = (
            logging.DEBUG
            if flask.request.path in ("/healthz", "/readyz")
            else logging.INFO
        )
        took_ms = round(
            (time.monotonic() - flask.g.get("started_at", time.monotonic())) * 1000, 1
        )
        request = flask.request
        # A line break in a path must not make a line of its own.
        path = request.path.encode("unicode_escape").decode()
        with logs.bind(
            request_id=flask.g.get("request_id"), job_id=flask.g.get("job_id")
        ):
            log.log(
                level,
                "%s %s %d in %s ms",
                request.method,
                path,
                response.status_code,
                took_ms,
            )
        return response

    app.register_error_handler(Exception, _answer_error)


def _is_open(path: str) -> bool:
    return path in OPEN_ENDPOINTS or path.startswith("/docs/")


def _owner_of_key(owners: list[list[str]], header: str) -> str:
    scheme, _, given = header.partition(" ")
    # All keys are compared, each in constant time, so that the time tells nothing.
    found = [
        owner
        for key, owner in owners
        if hmac.compare_digest(key.encode(), given.strip().encode())
    ]
    if scheme.lower() != "bearer" or not found:
        raise errors.Unauthorized(
            "The API key is missing." if not header else "The API key is not valid."
        )
    return found[0]


def idempotent(
    connection: Callable[[], redis.Redis],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator: a POST that repeats an Idempotency-Key gets the first answer again."""

    def decorate(route: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(route)
        def answer(**arguments: BaseModel) -> Any:
            key = flask.request.headers.get("Idempotency-Key")
            if key is None or flask.request.method != "POST":
                return route(**arguments)

            def work(identifier: str) -> idempotency.Answer:
                flask.g.reserved_id = identifier
                response = flask.make_response(route(**arguments))
                return idempotency.Answer(response.status_code, response.get_data())

            digest = _digest_of_request(arguments)
            first, is_replayed = idempotency.once(
                connection(), flask.g.owner, key, digest, work
            )
            headers = {"Idempotency-Replayed": "true"} if is_replayed else None
            return flask.Response(
                first.body, first.status, headers, mimetype="application/json"
            )

        return answer

    return decorate


def _digest_of_request(arguments: dict[str, BaseModel]) -> str:
    try:
        # Without defaults, so that a parameter that a new version adds makes no other request of
        # it.
        given = {
            name: model.model_dump(exclude_defaults=True)
            for name, model in arguments.items()
        }
        return idempotency.digest_of(flask.request.method, flask.request.path, given)
    except (ValueError, RecursionError):
        raise errors.InvalidRequest("The parameters are nested too deeply.") from None


def new_id() -> str:
    """Return the id for what this request makes: that of its Idempotency-Key, if it has one."""
    return flask.g.get("reserved_id") or ids.new_id()


def _answer_error(error: Exception) -> flask.Response:
    problem = _ours(error)
    body = problem.problem(flask.g.get("request_id"))
    response = flask.jsonify(body)
    response.status_code = problem.status
    response.mimetype = "application/problem+json"
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if problem.status in (429, 503):
        response.headers["Retry-After"] = "1"
    if isinstance(error, HTTPException) and error.code == 405:
        response.headers["Allow"] = ", ".join(
            sorted(getattr(error, "valid_methods", None) or ())
        )
    return response


def _ours(error: Exception) -> errors.RowcastError:
    if isinstance(error, errors.RowcastError):
        return error
    if isinstance(error, HTTPException):
        known = _OF_FLASK.get(error.code or 500, errors.InvalidRequest)
        ours = known(_sentence_of(error))
        ours.status = error.code or 500
        return ours
    if isinstance(error, redis.RedisError):
        return errors.QueueUnavailable(
            f"Redis does not answer ({type(error).__name__})."
        )
    with logs.bind(request_id=flask.g.get("request_id")):
        log.error("a request failed", exc_info=error)
    return errors.InternalError("The service failed to answer this request.")


def _sentence_of(error: HTTPException) -> str:
    request = flask.request
    if error.code == 404:
        return f"There is no endpoint {request.path}."
    if error.code == 405:
        return f"{request.path} does not take {request.method}."
    if error.code == 413:
        return f"The request's body is over {request.max_content_length or MAX_BODY_BYTES:,} bytes."
    return error.description or error.name


def check(parts: dict[str, Callable[[], None]]) -> None:
    """Run the checks, at once so that no part delays another.

    Raises:
        NotReady: names every part that does not answer.
    """
    with ThreadPoolExecutor(len(parts)) as pool:
        found = [pool.submit(_problem_of, name, part) for name, part in parts.items()]
    if problems := [problem for future in found if (problem := future.result())]:
        raise errors.NotReady(" ".join(problems), errors=problems)


def _problem_of(name: str, part: Callable[[], None]) -> str:
    try:
        part()
    except errors.Unavailable as error:
        return f"{name}: {error.detail}"
    return ""


def describe(app: OpenAPI) -> None:
    """Correct the OpenAPI document, once all routes are there, in what the library cannot know."""
    for path, operations in app.api_doc["paths"].items():
        if "post" in operations:
            operations["post"].setdefault("parameters", []).append(_KEY_PARAMETER)
        for operation in operations.values():
            if path in OPEN_ENDPOINTS:
                operation["security"] = []
            # What a JSON body may carry instead is not required in the query.
            for parameter in (
                operation["parameters"] if "requestBody" in operation else ()
            ):
                parameter["required"] = False


def is_internal(settings: Settings) -> bool:
    """Tell whether the request came by a host name of the server's own network."""
    return flask.request.host.partition(":")[0] in settings.internal_hosts


class WaitingRoom:
    """The threads of this process that may wait at once; the others stay free for short
    requests."""

    def __init__(self, seats: int) -> None:
        """Allow `seats` waiting threads."""
        self._seats = threading.BoundedSemaphore(seats)

    @contextmanager
    def seat(self) -> Iterator[bool]:
        """Yield whether the caller may wait."""
        admitted = self._seats.acquire(blocking=False)
        try:
            yield admitted
        finally:
            if admitted:
                self._seats.release()


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


def event_stream(
    statuses: Iterable[dict[str, Any] | None], seat: AbstractContextManager[bool]
) -> flask.Response:
    """Answer by events for as long as the job goes on; without a seat by one, after which to come
    again.

    The seat is given up when the answer has ended, however that came.
    """
    held = ExitStack()
    may_stay = held.enter_context(seat)
    is_wanted = _stream_check(flask.request.environ) if may_stay else lambda: False
    response = flask.Response(
        events.stream(statuses, is_wanted), mimetype=events.MIME_TYPE
    )
    # Some proxies keep an answer until it is complete.
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    if not may_stay:
        response.headers["Retry-After"] = "1"
    response.call_on_close(held.close)
    return response


def _stream_check(environ: dict[str, Any]) -> Callable[[], bool]:
    is_connected, is_stopping = (
        connection_check(environ),
        environ.get("rowcast.is_stopping", lambda: False),
    )
    return lambda: is_connected() and not is_stopping()


def connection_check(environ: dict[str, Any]) -> Callable[[], bool]:
    """Return a function that tells whether the caller is still connected, as far as the server
    shows it."""
    connection: socket.socket | None = environ.get("gunicorn.socket")

    def is_connected() -> bool:
        if connection is None:
            return True
        try:
            readable = select.select([connection], [], [], 0)[0]
            return not readable or bool(
                connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            )
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False

    return is_connected
