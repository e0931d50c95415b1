"""Webhooks of a fake clock, with the settings that send them."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

import redis

from rowcast.config import Settings
from rowcast.ids import new_id
from rowcast.webhooks import delivery, outbox

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


OTHER = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()


NOW = 1_000_000.0


def settings(**changes: Any) -> Settings:
    return Settings(
        **{"webhook_secrets": SECRET, "webhook_allow_private": True, **changes}
    )


def status(owner: str, job_id: str) -> dict[str, Any]:
    """Answer what /status would."""
    return {
        "id": job_id,
        "kind": "fit",
        "status": "finished",
        "ended_at": NOW,
        "owner_asked": owner,
    }


def deliver(connection: redis.Redis, now: float = NOW, **changes: Any) -> int:
    """Send all that is due at a time, and return how much that was."""
    send = partial(delivery.deliver_next, connection, settings(**changes), status, now)
    return sum(1 for _ in iter(send, False))


def enqueued(
    connection: redis.Redis, url: str, now: float = NOW, owner: str = "acme"
) -> str:
    job_id = new_id()
    outbox.enqueue(connection, job_id, owner, url, now)
    return job_id


def due(connection: redis.Redis) -> float | None:
    """Return when the only webhook there is is due."""
    times = [time for _, time in connection.zrange(outbox.DUE, 0, -1, withscores=True)]
    return times[0] if times else None
