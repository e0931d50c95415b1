"""The Flask application without routes: request ids, keys, log lines, problems, documentation."""

from __future__ import annotations

import logging
import re
import time

import flask
import uuid_utils
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
from rowcast.api.state import parts
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
    callers = Authentication(settings)
    app.before_request(_begin)
    app.before_request(origins.TrustedHosts(settings).check)
    app.before_request(origins.check_site)
    app.before_request(lambda: _identify(callers, settings))
    app.before_request(await_body)
    app.after_request(_note)
    app.register_error_handler(Exception, problems.answer_error)
    if settings.trusted_proxies:
        behind_proxies = origins.TrustedProxies(app.wsgi_app, settings.trusted_proxies)
        app.wsgi_app = behind_proxies  # type: ignore[method-assign,assignment]
    return app


def _begin() -> None:
    """Note when a request began, and its id, unless it was here before."""
    if _is_again():
        vars(flask.g).update(flask.request.environ["rowcast.notes"])
        return
    given_id = flask.request.headers.get("X-Request-ID", "")
    is_usable = _REQUEST_ID.fullmatch(given_id)
    flask.g.started_at = time.monotonic()
    flask.g.request_id = given_id if is_usable else str(uuid_utils.uuid7())


def _identify(callers: Authentication, settings: Settings) -> None:
    """Note who sends a request, and whether it may."""
    request, g = flask.request, flask.g
    if request.path in TABLE_PATHS:
        request.max_content_length = settings.online_max_bytes
    address = rate_limiting.address_of(request.remote_addr)
    if rate_limiting.is_counted(request.path) and not _is_again():
        parts.rate_limits.count_address(address)
    if authentication.is_open(request.path):
        g.caller, g.owner = ANONYMOUS, ANONYMOUS.owner
        return
    authentication.refuse_key_in_url(request.query_string)
    authorization = request.headers.get("Authorization", "")
    g.caller, g.key = _caller_of(callers, authorization, address)
    g.owner = g.caller.owner
    _check_scopes(g.caller)


def _caller_of(
    callers: Authentication, authorization: str, address: str
) -> tuple[Caller, Key | None]:
    """Return who sends a request, and the key if it was created.

    Raises:
        Unauthorized: the key is missing or wrong.
        RateLimited: the key has sent too many requests, or its address too many wrong keys.
    """
    limits = parts.rate_limits
    limits.check_failures(address, authorization)
    try:
        caller, key = callers.caller_of(authorization, parts.key_ring)
    except (errors.Unauthorized, errors.Unavailable):
        # A missing key is not a guess; a key that cannot be looked up now may be one.
        if authorization:
            limits.note_failure(address, authorization)
        raise
    limits.note_success(address, authorization)
    if not _is_again():
        limits.count_key(caller)
    return caller, key


def _is_again() -> bool:
    """Return whether the request was here before, and comes again because its body has arrived."""
    return bool(flask.request.environ.get("rowcast.notes"))


def _check_scopes(caller: Caller) -> None:
    request = flask.request
    # Unknown paths and methods are answered with 404 and 405.
    if request.endpoint is None:
        return
    route = flask.current_app.view_functions[request.endpoint]
    # A route that declares nothing is nobody's but an administrator's.
    needed = authentication.scopes_of(route) or ("admin",)
    authentication.check_scopes(caller, needed)


def _note(response: flask.Response) -> flask.Response:
    """Log a request, and answer its id."""
    request, g = flask.request, flask.g
    request_id = g.get("request_id")
    response.headers["X-Request-ID"] = request_id or ""
    headers.add(response)
    rate_limiting.add_headers(response)
    level = logging.DEBUG if request.path in _QUIET_PATHS else logging.INFO
    now = time.monotonic()
    took_ms = round((now - g.get("started_at", now)) * 1000, 1)
    # A line break in a path must not make a line of its own, and a key must not be logged.
    path = keys.PATTERN.sub("...", request.path).encode("unicode_escape").decode()
    _note_use_of_key(response)
    auditing.note(response)
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


def _note_use_of_key(response: flask.Response) -> None:
    """Note that a created key was used, after the answer has been sent."""
    key = flask.g.get("key")
    note = parts.key_ring.due_note(key) if key else None
    if note:
        response.call_on_close(note)
