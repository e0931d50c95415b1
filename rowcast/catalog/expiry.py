"""When things expire: how many days after their making they are removed, 0 days: never."""

from __future__ import annotations

from typing import Any

from rowcast.ids import time_of

DAY_S = 86_400


def expires_at(since: float, days: float) -> float | None:
    """Return the Unix seconds at which something expires that is kept for `days`; None: never."""
    return since + days * DAY_S if days else None


def of_id(identifier: str, days: float) -> float | None:
    """Return when something expires that is kept for `days` from its id on; None: never."""
    return expires_at(made_at(identifier), days)


def of_manifest(manifest: dict[str, Any], identifier: str, days: float) -> float | None:
    """Return when a model or result expires that is kept for `days`; None: never."""
    return expires_at(time_in(manifest, "created_at", identifier), days)


def oldest_offered(days: float, now: float) -> float | None:
    """Return the Unix seconds before which things are too old to be reused; None: no limit.

    Things that expire within a tenth of their `days`, or within a day, are not offered again.
    """
    if not days:
        return None
    kept_s = days * DAY_S
    margin_s = min(kept_s / 10, DAY_S)
    return now - kept_s + margin_s


def time_in(content: dict[str, Any], name: str, identifier: str) -> float:
    """Return the Unix seconds that a manifest or record holds under a name, else the id's."""
    value = content.get(name)
    return float(value) if isinstance(value, int | float) else made_at(identifier)


def made_at(identifier: str) -> float:
    """Return the Unix seconds at which an id was made; infinity for an id that is not ours."""
    moment = time_of(identifier)
    return moment.timestamp() if moment else float("inf")
