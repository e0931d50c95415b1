"""Clients of Redis: each process waits for it as long as its work allows."""

from __future__ import annotations

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

    It answers or fails within 3 s.
    """
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=connections,
        **_SHORT_GREETING,
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
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=connections,
        **_SHORT_GREETING,
        socket_connect_timeout=0.25,
        socket_timeout=0.25,
        retry=RedisRetry(ConstantBackoff(0), 0),
    )


def connect_for_heartbeats(settings: Settings) -> redis.Redis:
    """Return a client that gives up within a second, for heartbeats beside other work."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        **_SHORT_GREETING,
        socket_connect_timeout=0.5,
        socket_timeout=1.0,
        retry=RedisRetry(ConstantBackoff(0), 0),
    )


def connect_for_maintenance(settings: Settings) -> redis.Redis:
    """Return a client that tries to connect only once, and waits up to 30 s for an answer."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        **_SHORT_GREETING,
        socket_connect_timeout=3,
        socket_timeout=30,
        retry=RedisRetry(ConstantBackoff(0), 0),
    )


def connect_for_work(settings: Settings) -> redis.Redis:
    """Return a client for workers, which waits two minutes for a Redis that is down."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        **_SHORT_GREETING,
        socket_connect_timeout=3,
        socket_timeout=30,
        retry=RedisRetry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), 150),
    )
