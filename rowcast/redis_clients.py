"""Clients of Redis: each process waits for it as long as its work allows."""

from __future__ import annotations

import time
from typing import Any

import redis
from redis.backoff import ConstantBackoff, ExponentialWithJitterBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry as RedisRetry

from rowcast.config import Settings

# Each of these would cost a connection a round trip or two, and a job opens several connections:
# maintenance notices, which only a managed Redis sends, and the name of this library.
_SHORT_GREETING: dict[str, Any] = {
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    "driver_info": None,
}


# A firewall may have forgotten a connection that rested: its packets vanish without an error.
STALE_AFTER_S = 30.0
# One that rested for less proves with a PING that it lives, in time for what is asked then.
_PROVEN_AFTER_S = 3.0
_PROOF_S = 0.3


class FreshPool(redis.ConnectionPool):
    """Replaces connections that rested for `stale_after_s`, or are silent after a rest.

    redis-py sends TCP keepalive probes by itself, after 30 s.
    """

    stale_after_s = STALE_AFTER_S
    proven_after_s = _PROVEN_AFTER_S

    def get_connection(self, *names: Any, **options: Any) -> Any:
        """Return a connection that is not known to be silent."""
        connection = super().get_connection(*names, **options)
        now = time.monotonic()
        rested_s = now - getattr(connection, "released_at", now)
        if rested_s <= min(self.stale_after_s, self.proven_after_s):
            return connection

        try:
            if rested_s > self.stale_after_s or not _answers(connection):
                _replace(connection)
        except BaseException:
            self.release(connection)
            raise
        return connection

    def release(self, connection: Any) -> None:
        """Give a connection back, and remember when."""
        connection.released_at = time.monotonic()
        super().release(connection)


def _answers(connection: Any) -> bool:
    """Return whether a connection answers a PING soon."""
    try:
        connection.send_command("PING", check_health=False)
        if not connection.can_read(timeout=_PROOF_S):
            return False
        connection.read_response()
    except (redis.RedisError, OSError):
        return False
    return True


def _replace(connection: Any) -> None:
    connection.disconnect()
    connection.connect()


def _client(settings: Settings, **options: Any) -> redis.Redis:
    url = settings.redis_url.get_secret_value()
    return redis.Redis.from_pool(FreshPool.from_url(url, **_SHORT_GREETING, **options))


_CAUSES: dict[type[redis.RedisError], str] = {
    redis.OutOfMemoryError: "Redis is full (maxmemory)",
    redis.ReadOnlyError: "Redis is read-only",
}


def cause_of(error: redis.RedisError) -> str:
    """Return why Redis did not do what it was asked to, the beginning of a sentence."""
    if "MISCONF" in str(error):
        return "Redis cannot write to its disk"
    return _CAUSES.get(type(error), f"Redis does not answer ({type(error).__name__})")


def connect_for_requests(settings: Settings, *, connections: int = 64) -> redis.Redis:
    """Return a client for the server, with one retry for a stale connection.

    It answers or fails within 3 s, the proof of a connection that rested included.
    """
    return _client(
        settings,
        max_connections=connections,
        socket_connect_timeout=0.8,
        socket_timeout=1.8,
        health_check_interval=0,
        # A command that timed out is not repeated: it would double the wait.
        retry=RedisRetry(
            ConstantBackoff(0.05), 1, supported_errors=(redis.ConnectionError,)
        ),
    )


def connect_for_limits(settings: Settings, *, connections: int = 64) -> redis.Redis:
    """Return a client that gives up within half a second, for what a request can do without."""
    return _client(
        settings,
        max_connections=connections,
        socket_connect_timeout=0.25,
        socket_timeout=0.25,
        retry=RedisRetry(ConstantBackoff(0), 0),
    )


def connect_for_heartbeats(settings: Settings) -> redis.Redis:
    """Return a client that gives up within a second, for heartbeats beside other work."""
    return _client(
        settings,
        socket_connect_timeout=0.5,
        socket_timeout=1.0,
        retry=RedisRetry(ConstantBackoff(0), 0),
    )


def connect_for_maintenance(settings: Settings) -> redis.Redis:
    """Return a client that tries to connect only once, and waits up to 30 s for an answer."""
    return _client(
        settings,
        socket_connect_timeout=3,
        socket_timeout=30,
        retry=RedisRetry(ConstantBackoff(0), 0),
    )


def connect_for_work(settings: Settings) -> redis.Redis:
    """Return a client for workers, which waits two minutes for a Redis that is down."""
    return _client(
        settings,
        socket_connect_timeout=3,
        socket_timeout=30,
        retry=RedisRetry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), 150),
    )
