"""Errors as answers: RFC 9457 problems, also for what Flask and Redis raise."""

from __future__ import annotations

import logging

import flask
import redis
from werkzeug.exceptions import HTTPException

from rowcast import errors
from rowcast.api.requests import MAX_BODY_BYTES
from rowcast.observability import logs
from rowcast.redis_clients import cause_of

log = logging.getLogger("rowcast.server")

_OF_FLASK: dict[int, type[errors.RowcastError]] = {
    400: errors.InvalidRequest,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.RequestTooLarge,
    415: errors.UnsupportedMediaType,
    500: errors.InternalError,
}


def answer_error(error: Exception) -> flask.Response:
    """Answer any exception as a problem, with the headers that its status asks for."""
    problem = _ours(error)
    body = problem.problem(flask.g.get("request_id"))
    response = flask.jsonify(body)
    response.status_code = problem.status
    response.mimetype = "application/problem+json"
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if problem.status in (429, 503):
        response.headers["Retry-After"] = str(problem.retry_after_s)
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
        return errors.QueueUnavailable(f"{cause_of(error)}.")
    with logs.bind(request_id=flask.g.get("request_id")):
        log.error("a request failed", exc_info=error)
    return errors.InternalError("The service failed to answer this request.")


def _sentence_of(error: HTTPException) -> str:
    request = flask.request
    if error.code == 404:
        return f"{request.path} is not an endpoint of this service."
    if error.code == 405:
        return f"{request.path} does not support {request.method}."
    if error.code == 413:
        return f"The request's body is over {request.max_content_length or MAX_BODY_BYTES:,} bytes."
    return error.description or error.name
