"""Clients of Redis, for those who can wait for it and those who cannot."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import ConstantBackoff, ExponentialWithJitterBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry as RedisRetry

from rowcast.config import Settings

# Each would cost every connection, of which a job makes several, a round trip or two: notices of a
# managed Redis, which others do not know, and telling Redis which library this is.
_SHORT_GREETING: dict[str, Any] = {
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    "driver_info": None,
}


def connect_for_requests(settings: Settings, *, connections: int = 64) -> redis.Redis:
    """Return a client for the server: one retry for a stale connection, and an answer within 3
    s."""
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


def connect_for_heartbeats(settings: Settings) -> redis.Redis:
    """Return a client that gives up within a second, for who has more to look after than Redis."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        **_SHORT_GREETING,
        socket_connect_timeout=0.5,
        socket_timeout=1.0,
        retry=RedisRetry(ConstantBackoff(0), 0),
    )


def connect_for_maintenance(settings: Settings) -> redis.Redis:
    """Return a client that connects at once or not at all, and waits for an answer."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        **_SHORT_GREETING,
        socket_connect_timeout=3,
        socket_timeout=30,
        retry=RedisRetry(ConstantBackoff(0), 0),
    )


def connect_for_work(settings: Settings) -> redis.Redis:
    """Return a client for workers: it waits for two minutes for a Redis that is away."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        **_SHORT_GREETING,
        socket_connect_timeout=3,
        socket_timeout=30,
        retry=RedisRetry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), 150),
    )
