"""Enqueue and send webhooks, at times that a test chooses."""

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
# In Unix seconds, and far from the real time: only the age of a signature depends on the clock.
NOW = 1_000_000.0


def settings(**changes: Any) -> Settings:
    """Return settings under which webhooks may go to this machine."""
    defaults = {"webhook_secrets": SECRET, "webhook_allow_private": True}
    return Settings(**{**defaults, **changes})


def status(owner: str, job_id: str) -> dict[str, Any]:
    """Return a final status, as /status answers it."""
    return {
        "id": job_id,
        "kind": "fit",
        "status": "finished",
        "ended_at": NOW,
        "owner_asked": owner,
    }


def deliver(connection: redis.Redis, now: float = NOW, **changes: Any) -> int:
    """Send every webhook that is due at `now`, and return how many there were."""
    send = partial(delivery.deliver_next, connection, settings(**changes), status, now)
    return sum(1 for _ in iter(send, False))


def enqueued(
    connection: redis.Redis, url: str, now: float = NOW, owner: str = "acme"
) -> str:
    """Enqueue a webhook for a new job that ended at `now`, and return the job's id."""
    job_id = new_id()
    outbox.enqueue(connection, job_id, owner, url, now)
    return job_id


def due(connection: redis.Redis) -> float | None:
    """Return when the only webhook is due, None without a webhook."""
    waiting: Any = connection.zrange(outbox.DUE, 0, -1, withscores=True)
    times = [time for _, time in waiting]
    return times[0] if times else None
