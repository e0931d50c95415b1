"""The webhooks that are to be sent, and the schedule on which they are tried.

They stand in Redis: a sorted set of names by when they are due, and a hash for each. A webhook is
named by the id of its job. A request that reuses a job which has ended adds another webhook for it,
named `<id>:<digest of the URL>`.

A sender claims a webhook by moving its due time to the end of a lease. So no two senders send the
same webhook in parallel, and one whose sender was killed is due again when the lease ends. A
receiver gets each webhook at least once, always with the same `webhook-id`.

The retry schedule is these four constants and nothing else: FIRST_PAUSE_S, PAUSE_GROWTH,
LONGEST_PAUSE_S and RETRY_FOR_S. To retry for a day, set RETRY_FOR_S to 86,400 s.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

DUE = "rowcast:webhooks"

# The pause after the first try, by how much each pause is longer than the one before, and the
# longest pause. The last try is made RETRY_FOR_S after the job ended.
FIRST_PAUSE_S = 5.0
PAUSE_GROWTH = 3.0
LONGEST_PAUSE_S = 600.0
RETRY_FOR_S = 3600.0

# While no maintenance process runs, nothing is tried: a webhook is still sent once, up to 23 hours
# after its time for retries. Then Redis deletes it.
KEPT_S = int(RETRY_FOR_S) + 23 * 3600
LEASE_S = 30.0

_FUNCTIONS = Path(__file__).with_name("outbox.lua").read_text(encoding="utf-8")
# Lua that defines `enqueue_webhook(name, owner, url, now)` for the script that ends jobs.
ENQUEUE_LUA = f"local KEPT_S = {KEPT_S}\n{_FUNCTIONS}"


@dataclass(frozen=True)
class Delivery:
    """A webhook that this process may send until `lease_end`.

    `since`, when the job ended, and `lease_end` are in Unix seconds; `tries` includes this one.
    """

    name: str
    owner: str
    url: str
    since: float
    tries: int
    lease_end: float

    @property
    def job_id(self) -> str:
        """The job whose final status is sent."""
        return self.name.partition(":")[0]


def enqueue(
    connection: redis.Redis, job_id: str, owner: str, url: str, now: float
) -> None:
    """Have the status of a job that has ended sent to a checked URL; `now` in Unix seconds."""
    # The job's own webhook, to another URL, may still be on its way.
    name = f"{job_id}:{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    _call(connection, "enqueue_webhook", name, owner, url, now)


def claim(connection: redis.Redis, now: float) -> Delivery | None:
    """Claim the webhook that is due first, for LEASE_S; None if none is due at `now`."""
    lease_end = now + LEASE_S
    found = _call(connection, "claim_webhook", now, lease_end)
    if not found:
        return None
    name, owner, url, since = (value.decode() for value in found[:4])
    return Delivery(name, owner, url, float(since), int(found[4]), lease_end)


def postpone(connection: redis.Redis, delivery: Delivery, due: float) -> None:
    """Make a webhook due at `due` in Unix seconds, unless another sender has claimed it."""
    _call(connection, "postpone_webhook", delivery.name, delivery.lease_end, due)


def remove(connection: redis.Redis, delivery: Delivery) -> None:
    """Forget a webhook that has arrived or is not to be tried again."""
    _call(connection, "remove_webhook", delivery.name)


def rest(connection: redis.Redis, delivery: Delivery, rest_s: float) -> None:
    """Send nothing to the receiver of this owner's webhook for `rest_s`."""
    rest_ms = round(rest_s * 1000)
    _call(connection, "rest_receiver", delivery.owner, delivery.url, rest_ms)


def next_try(delivery: Delivery, asked_pause_s: float, now: float) -> float | None:
    """Return when to try again, in Unix seconds; None once RETRY_FOR_S is over.

    A pause that the receiver asked for is kept, up to LONGEST_PAUSE_S.
    """
    last_try = delivery.since + RETRY_FOR_S
    if now >= last_try:
        return None
    growth = PAUSE_GROWTH ** (delivery.tries - 1)
    pause_s = min(FIRST_PAUSE_S * growth, LONGEST_PAUSE_S)
    # A little shorter, by chance: what failed together does not come back together.
    pause_s *= random.uniform(0.8, 1.0)
    pause_s = max(pause_s, min(asked_pause_s, LONGEST_PAUSE_S))
    return min(now + pause_s, last_try)


def _call(connection: redis.Redis, function: str, *arguments: str | float) -> Any:
    script = f"{ENQUEUE_LUA}return {function}(unpack(ARGV))"
    return connection.eval(script, 0, *arguments)
