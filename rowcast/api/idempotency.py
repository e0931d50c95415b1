"""Requests that repeat an `Idempotency-Key` get the first answer again.

The id that a request mints is reserved with its key before any work is done. So a request whose
server died halfway, or that comes twice at the same time, is done again with the same id, and
nothing is made twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, cast

import flask
import redis
from pydantic import BaseModel

from rowcast.api.state import parts
from rowcast.errors import IdempotencyConflict, InvalidRequest, RowcastError
from rowcast.ids import new_id

KEPT_S = 24 * 3600
# Keys that are kept of one owner, the newest ones: some 10 MB of Redis.
MAX_KEYS = 20_000
_KEY = re.compile(r"[ -~]{1,255}")

# Each key is a hash: the request's `digest`, its `id`, `repeated` if it came again; then `status`,
# `answer`. A sorted set has the keys of each owner by the time of their reservation.
_RESERVED = f"""
local function reserve(digest, id)
    if redis.call('HSETNX', KEYS[1], 'digest', digest) == 0 then return false end
    redis.call('HSET', KEYS[1], 'id', id)
    redis.call('EXPIRE', KEYS[1], {KEPT_S})
    local now = tonumber(redis.call('TIME')[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, now - {KEPT_S})
    for _, oldest in ipairs(redis.call('ZRANGE', KEYS[2], 0, -{MAX_KEYS})) do
        redis.call('DEL', oldest)
        redis.call('ZREM', KEYS[2], oldest)
    end
    redis.call('ZADD', KEYS[2], now, KEYS[1])
    redis.call('EXPIRE', KEYS[2], {KEPT_S})
    return true
end
"""
_RESERVE = f"""{_RESERVED}
local is_new = reserve(ARGV[1], ARGV[2])
if not is_new and redis.call('HGET', KEYS[1], 'digest') == ARGV[1] then
    redis.call('HSET', KEYS[1], 'repeated', 1)
end
return redis.call('HMGET', KEYS[1], 'digest', 'id', 'status', 'answer')
"""
# The key may be gone: it was freed by the same request at the same time, or Redis was lost.
_FINISH = f"""{_RESERVED}
reserve(ARGV[1], ARGV[2])
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[2] then
    return {{ARGV[3], ARGV[4]}}
end
if redis.call('HSETNX', KEYS[1], 'answer', ARGV[4]) == 1 then
    redis.call('HSET', KEYS[1], 'status', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'status', 'answer')
"""
# Where the request came more than once, the refusal of one try says nothing of what the others have
# made.
_FREE = """
if redis.call('HGET', KEYS[1], 'id') == ARGV[1]
        and redis.call('HEXISTS', KEYS[1], 'repeated') == 0 then
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[2], KEYS[1])
end
"""


@dataclass(frozen=True)
class Answer:
    """A good answer: its HTTP status and its body."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Reservation:
    """The id that a request works with, and its first answer if there is one."""

    owner: str
    name: str
    digest: str
    id: str
    answer: Answer | None


def once(
    connection: redis.Redis,
    owner: str,
    key: str,
    digest: str,
    work: Callable[[str], Answer],
) -> tuple[Answer, bool]:
    """Do `work` with the id that is reserved for it, unless the key has an answer already.

    `digest` tells one request from another, see `digest_of`. Returns the answer that counts, and
    whether it was first given to somebody else.

    Raises:
        InvalidRequest: the key is malformed.
        IdempotencyConflict: the key belongs to another request.
        RedisError: Redis does not answer; what was done by then is done again with the same id.
        RowcastError: `work` was refused or failed. A refusal (4xx) of the only try frees the key;
            else something may have been made, and the key stays with its id.
    """
    reservation = reserve(connection, owner, key, digest)
    if reservation.answer:
        return reservation.answer, True
    try:
        answer = work(reservation.id)
    except RowcastError as error:
        if error.status < 500:
            free(connection, reservation)
        raise
    first = finish(connection, reservation, answer)
    return first, first != answer


def digest_of(method: str, path: str, parameters: Any) -> str:
    """Return what tells one request from another, given its parameters as JSON has them."""
    request = json.dumps([method, path, parameters], sort_keys=True)
    return hashlib.sha256(request.encode()).hexdigest()


def reserve(connection: redis.Redis, owner: str, key: str, digest: str) -> Reservation:
    """Reserve an id for a request, or return the one that it has.

    Raises:
        InvalidRequest: the key is malformed.
        IdempotencyConflict: the key belongs to another request.
        RedisError: Redis does not answer.
    """
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            "The header 'Idempotency-Key' is malformed.",
            hint="Send 1 to 255 printable ASCII characters, such as a UUID.",
        )
    name = f"rowcast:idempotency:{owner}:{hashlib.sha256(key.encode()).hexdigest()}"
    found = _run(connection, _RESERVE, owner, name, digest, new_id())
    kept, identifier, status, body = found
    if kept.decode() != digest:
        raise IdempotencyConflict(
            "This Idempotency-Key was used before, with another request."
        )
    answer = Answer(int(status), body) if body is not None else None
    return Reservation(owner, name, digest, identifier.decode(), answer)


def finish(connection: redis.Redis, reservation: Reservation, answer: Answer) -> Answer:
    """Keep a request's answer and return the first one, which may come from the same request sent
    twice.

    Raises:
        RedisError: Redis does not answer; the answer may not be kept.
    """
    key = (reservation.owner, reservation.name)
    given = (reservation.digest, reservation.id, str(answer.status), answer.body)
    status, body = _run(connection, _FINISH, *key, *given)
    return Answer(int(status), body)


def free(connection: redis.Redis, reservation: Reservation) -> None:
    """Free the key of a request that was refused, unless it was sent more than once."""
    # Without Redis the key stays reserved, which only keeps other requests from using it.
    with suppress(redis.RedisError):
        key = (reservation.owner, reservation.name)
        _run(connection, _FREE, *key, reservation.id)


def _run(
    connection: redis.Redis,
    script: str,
    owner: str,
    name: str,
    *arguments: str | bytes,
) -> Any:
    names = (name, f"rowcast:idempotency_keys:{owner}")
    return cast(Any, connection.eval(script, len(names), *names, *arguments))


# In routes


def idempotent(route: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a route: a POST that repeats an Idempotency-Key gets the first answer again."""

    @wraps(route)
    def answer(**arguments: BaseModel) -> Any:
        key = flask.request.headers.get("Idempotency-Key")
        if key is None or flask.request.method != "POST":
            return route(**arguments)

        def work(identifier: str) -> Answer:
            flask.g.reserved_id = identifier
            response = flask.make_response(route(**arguments))
            return Answer(response.status_code, response.get_data())

        digest = _digest_of_request(arguments)
        first, is_replayed = once(parts.connection, flask.g.owner, key, digest, work)
        headers = {"Idempotency-Replayed": "true"} if is_replayed else None
        return flask.Response(
            first.body, first.status, headers, mimetype="application/json"
        )

    return answer


def _digest_of_request(arguments: dict[str, BaseModel]) -> str:
    try:
        # Without defaults: a parameter that a new version adds does not make it another request.
        given = {
            name: model.model_dump(exclude_defaults=True)
            for name, model in arguments.items()
        }
        return digest_of(flask.request.method, flask.request.path, given)
    except (ValueError, RecursionError):
        raise InvalidRequest("The parameters are nested too deeply.") from None


def id_of_request() -> str:
    """Return the id for what this request makes: the one reserved with its key, or a new one."""
    return flask.g.get("reserved_id") or new_id()
