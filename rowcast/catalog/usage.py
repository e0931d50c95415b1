"""Count again what owners have in the store, so that lost or wrong counts are put right."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from typing import get_args

from rowcast.access import quotas
from rowcast.config import Settings
from rowcast.errors import Unavailable
from rowcast.ids import first_at
from rowcast.jobs import JobQueue
from rowcast.store import Bucket, Storage, publications

log = logging.getLogger("rowcast.usage")

# A repeated request to upload may get a URL of the same id a day later, and an upload takes time.
MARGIN_S = 25 * 3600


def recount(
    storage: Storage,
    queue: JobQueue,
    settings: Settings,
    *,
    now: float,
    limit_s: float,
) -> int:
    """Count what owners have, for about `limit_s` seconds; return the number of owners counted.

    Owners come in random order, so each has its turn in the long run.
    """
    deadline = time.monotonic() + limit_s
    n_counted = 0
    try:
        for owner in _owners(storage, queue):
            _recount(storage, queue, owner, now - settings.upload_url_ttl_s - MARGIN_S)
            n_counted += 1
            if time.monotonic() >= deadline:
                break
    except Unavailable as error:
        log.warning("%s What owners have is counted later.", error.detail)
    return n_counted


def _owners(storage: Storage, queue: JobQueue) -> list[str]:
    stored = {owner for bucket in get_args(Bucket) for owner in storage.owners(bucket)}
    owners = sorted(stored | queue.owners())
    random.shuffle(owners)
    return owners


def _recount(storage: Storage, queue: JobQueue, owner: str, young_since: float) -> None:
    """Count what one owner has.

    Jobs go on meanwhile: what they add to the counts from here on stays added.
    """
    before = quotas.stored(queue.connection, owner)
    unfinished = queue.unfinished(owner)
    counted_before = first_at(young_since)
    counts: Counter[str] = Counter()
    counts["models"] = len(unfinished["fit"])
    counts["results"] = len(unfinished["predict"])
    known = unfinished["fit"] | unfinished["predict"]
    young: list[str] = []
    for bucket in get_args(Bucket):
        for day in storage.days(bucket, owner):
            for identifier, sizes in storage.sizes_on_day(bucket, owner, day).items():
                counts["stored_bytes"] += sum(sizes.values())
                if identifier in known or not _exists(bucket, list(sizes)):
                    continue
                counts[bucket] += 1
                if bucket == "datasets" and identifier >= counted_before:
                    young.append(identifier)

    changes = {name: counts[name] - n for name, n in before.items()}
    quotas.correct(queue.connection, owner, changes, counted_before, young)
    queue.recount_queued(owner)


def _exists(bucket: Bucket, names: list[str]) -> bool:
    """Return whether the objects of an id are a dataset, a model or a result."""
    if bucket == "datasets":
        return "data" in names and publications.TOMBSTONE not in names
    return bool(publications.attempts_in(names))
