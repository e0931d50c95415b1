"""The Flask application without routes: request ids, keys, log lines, problems, documentation."""

from __future__ import annotations

import logging
import re
import time
from functools import cached_property, partial
from typing import Any

import flask
import uuid_utils
from flask.globals import app_ctx, request_ctx
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from rowcast import __version__, errors
from rowcast.access import ANONYMOUS, Caller, Key, keys
from rowcast.api import (
    auditing,
    authentication,
    headers,
    openapi,
    origins,
    problems,
    rate_limiting,
)
from rowcast.api.answers import Problem
from rowcast.api.authentication import Authentication
from rowcast.api.requests import (
    MAX_BODY_BYTES,
    TABLE_PATHS,
    Request,
    await_body,
    refuse_parameters,
)
from rowcast.api.state import Parts, parts_of
from rowcast.config import Settings
from rowcast.observability import logs

log = logging.getLogger("rowcast.server")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Health checks come every few seconds, and their log lines only matter to a person who debugs them.
_QUIET_PATHS = ("/healthz", "/readyz")


def new_app(name: str, settings: Settings) -> OpenAPI:
    """Return an application without routes."""
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
    app.request_class = Request
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["OPENAPI_HTML_STRING"] = openapi.DOCS_PAGE
    gate = Gate(app, settings)
    app.before_request(partial(_admit, gate))
    app.after_request(partial(_note, gate))
    app.register_error_handler(Exception, problems.answer_error)
    if settings.trusted_proxies:
        behind_proxies = origins.TrustedProxies(app.wsgi_app, settings.trusted_proxies)
        app.wsgi_app = behind_proxies  # type: ignore[method-assign,assignment]
    return app


class Gate:
    """What all requests of an application are checked by.

    Each look at `flask.request`, `flask.g` or `parts` goes through a proxy, which costs more than
    most checks. So what every request goes through works with the objects behind them.
    """

    def __init__(self, app: flask.Flask, settings: Settings) -> None:
        """Read the settings. The application gets its parts later."""
        self._app = app
        self.settings = settings
        self.hosts = origins.TrustedHosts(settings)
        self.callers = Authentication(settings)

    @cached_property
    def parts(self) -> Parts:
        """The parts of the application."""
        return parts_of(self._app)


def _admit(gate: Gate) -> None:
    """Check a request, its key before anything of its body."""
    request, g = request_ctx.request, app_ctx.g
    _begin(request, g)
    gate.hosts.check(request)
    origins.check_site(request)
    _identify(gate, request, g)
    await_body(request, g)


def _begin(request: flask.Request, g: Any) -> None:
    """Note when a request began, and its id, unless it was here before."""
    if _is_again(request):
        vars(g).update(request.environ["rowcast.notes"])
        return
    given_id = request.environ.get("HTTP_X_REQUEST_ID", "")
    is_usable = _REQUEST_ID.fullmatch(given_id)
    g.started_at = time.monotonic()
    g.request_id = given_id if is_usable else str(uuid_utils.uuid7())


def _identify(gate: Gate, request: flask.Request, g: Any) -> None:
    """Note who sends a request, and whether it may."""
    if request.path in TABLE_PATHS:
        request.max_content_length = gate.settings.online_max_bytes
    address = rate_limiting.address_of(request.remote_addr)
    if rate_limiting.is_counted(request.path) and not _is_again(request):
        gate.parts.rate_limits.count_address(address)
    if authentication.is_open(request.path):
        g.caller, g.owner = ANONYMOUS, ANONYMOUS.owner
        return
    authentication.refuse_key_in_url(request.query_string)
    g.caller, g.key = _caller_of(gate, request, address)
    g.owner = g.caller.owner
    _check_scopes(g.caller, request)


def _caller_of(
    gate: Gate, request: flask.Request, address: str
) -> tuple[Caller, Key | None]:
    """Return who sends a request, and the key if it was created.

    Raises:
        Unauthorized: the key is missing or wrong.
        RateLimited: the key has sent too many requests, or its address too many wrong keys.
    """
    limits = gate.parts.rate_limits
    authorization = request.environ.get("HTTP_AUTHORIZATION", "")
    limits.check_failures(address, authorization)
    try:
        caller, key = gate.callers.caller_of(authorization, gate.parts.key_ring)
    except (errors.Unauthorized, errors.Unavailable):
        # A missing key is not a guess; a key that cannot be looked up now may be one.
        if authorization:
            limits.note_failure(address, authorization)
        raise
    limits.note_success(address, authorization)
    if not _is_again(request):
        limits.count_key(caller)
    return caller, key


def _is_again(request: flask.Request) -> bool:
    """Return whether the request was here before, and comes again because its body has arrived."""
    return bool(request.environ.get("rowcast.notes"))


def _check_scopes(caller: Caller, request: flask.Request) -> None:
    # Unknown paths and methods are answered with 404 and 405.
    if request.endpoint is None:
        return
    route = flask.current_app.view_functions[request.endpoint]
    # A route that declares nothing is nobody's but an administrator's.
    needed = authentication.scopes_of(route) or ("admin",)
    authentication.check_scopes(caller, needed)


def _note(gate: Gate, response: flask.Response) -> flask.Response:
    """Log a request, and answer its id."""
    request, g = request_ctx.request, app_ctx.g
    request_id = g.get("request_id")
    response.headers.add("X-Request-ID", request_id or "")
    headers.add(response, request)
    rate_limiting.add_headers(response, g.get("rate_standings", ()))
    level = logging.DEBUG if request.path in _QUIET_PATHS else logging.INFO
    now = time.monotonic()
    took_ms = round((now - g.get("started_at", now)) * 1000, 1)
    # A line break in a path must not make a line of its own, and a key must not be logged.
    path = keys.PATTERN.sub("...", request.path).encode("unicode_escape").decode()
    if key := g.get("key"):
        _note_use_of_key(gate, key, response)
    auditing.note(gate.parts, request, g, response.status_code)
    with logs.bind(request_id=request_id, job_id=g.get("job_id")):
        log.log(
            level,
            "%s %s %d in %s ms",
            request.method,
            path,
            response.status_code,
            took_ms,
        )
    return response


def _note_use_of_key(gate: Gate, key: Key, response: flask.Response) -> None:
    """Note that a created key was used, after the answer has been sent."""
    if note := gate.parts.key_ring.due_note(key):
        response.call_on_close(note)
