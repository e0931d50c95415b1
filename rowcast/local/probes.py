"""Whether a part of the stack serves: one short question to each, never through a proxy."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing, suppress

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rowcast.local.data_folder import HOST


def redis_answers(url: str) -> bool:
    """Return whether a Redis has loaded its file and accepts commands."""
    client = redis.Redis.from_url(
        url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )
    # It refuses connections until it listens, and PINGs while it loads its file.
    with closing(client), suppress(redis.RedisError):
        return bool(client.ping())
    return False


def listens(port: int) -> bool:
    """Return whether a process listens on this port of loopback."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def server_is_ready(port: int) -> bool:
    """Return whether the server's /readyz answers 200."""
    # urllib would use a proxy of the environment.
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    return False
