"""Remove what was uploaded to a dataset after its deletion, by a URL that had not expired.

The tombstone hides such bytes from the start. It stays for as long as a URL of its dataset may
live.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from rowcast.catalog import deletion, expiry
from rowcast.config import Settings
from rowcast.store import Storage, publications

log = logging.getLogger("rowcast.retention")

# A repeated request to upload may get a URL of the same id a day later, and an upload that began
# in time may take a day.
_MARGIN_S = 2 * expiry.DAY_S


def may_come(settings: Settings, identifier: str, now: float) -> bool:
    """Return whether bytes may still be uploaded to a dataset."""
    return expiry.made_at(identifier) > _oldest(settings, now)


def _oldest(settings: Settings, now: float) -> float:
    return now - settings.upload_url_ttl_s - _MARGIN_S


def sweep(storage: Storage, settings: Settings, *, now: float) -> int:
    """Remove all late uploads, and return the number of datasets that had any.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    first_day = datetime.fromtimestamp(_oldest(settings, now), UTC).date().isoformat()
    n_removed = 0
    for owner in storage.owners("datasets"):
        days = storage.days("datasets", owner)
        for day in filter(lambda day: day >= first_day, days):
            n_removed += _sweep_day(storage, owner, day)
    if n_removed:
        log.info("removed %d uploads to deleted datasets", n_removed)
    return n_removed


def _sweep_day(storage: Storage, owner: str, day: str) -> int:
    contents = storage.on_day("datasets", owner, day)
    late = [
        identifier
        for identifier, names in contents.items()
        if publications.TOMBSTONE in names and len(names) > 1
    ]
    for identifier in late:
        deletion.remove(storage, "datasets", owner, identifier)
    return len(late)
