"""Retention: what is older than a setting is removed, a batch of ids at a time.

Removing is deleting (see deletion.py): a tombstone first, then what lies beside it, so a removal
that was cut off is hidden at once and finished by the next sweep. A day later the tombstone goes
too. Whoever was given up for dead and writes after that writes under an old id, which the next
sweep finds again.

Some stores remove a folder that becomes empty, and fail who writes next to it at that moment.
Hardly anybody writes in the folders of old days; on an owner's newest day tombstones and notes
stay, and keep its folder.

Any number of processes may sweep at once: each step can be done twice.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast, get_args

from rowcast.catalog import deletion
from rowcast.config import Settings
from rowcast.errors import ModelUntrusted, Unavailable
from rowcast.ids import time_of
from rowcast.store import Bucket, JobRef, Kind, Storage, publications, records

log = logging.getLogger("rowcast.retention")

DAY_S = 86_400
# Ids that are asked after at once, and done before anybody looks at the clock.
BATCH_SIZE = 100
_KINDS: dict[Bucket, Kind] = {"models": "fit", "results": "predict"}

# Takes an owner and ids, and returns those that a queued or running job of this owner is, reads or
# makes.
IsNeeded = Callable[[str, Collection[str]], set[str]]
Contents = dict[str, dict[str, float]]


@dataclass(frozen=True)
class _Day:
    """The ids that an owner was given on a day and that have something in a bucket."""

    bucket: Bucket
    owner: str
    text: str
    is_newest: bool


@dataclass(frozen=True)
class _Sweep:
    """One walk through all buckets, at the time `now`, in Unix seconds."""

    storage: Storage
    settings: Settings
    is_needed: IsNeeded
    now: float

    def days_of(self, bucket: Bucket, *, is_published: bool = True) -> float:
        """Return for how many days things are kept; 0: for ever."""
        name = bucket if is_published else "records"
        return cast(float, getattr(self.settings, f"retain_{name}_days"))

    def shortest(self, bucket: Bucket) -> float:
        """Return the days after which something of a bucket may have to go; 0: never."""
        kept = [
            self.days_of(bucket),
            self.days_of(bucket, is_published=bucket == "datasets"),
        ]
        return min(filter(None, kept), default=0)

    def is_over(self, since: float, days: float) -> bool:
        """Tell whether so many days have passed since a time; of 0 days never."""
        end = expires_at(since, days)
        return end is not None and end <= self.now


def sweep(
    storage: Storage,
    settings: Settings,
    is_needed: IsNeeded,
    *,
    now: float,
    limit_s: float,
) -> int:
    """Remove what is too old, for `limit_s` seconds at most, and return how many ids that were.

    `is_needed(owner, ids)` returns those of the ids that a queued or running job of this owner is,
    reads or makes: its own, its dataset's and its model's. A store or queue that does not answer
    ends the sweep.
    """
    deadline, n_removed = time.monotonic() + limit_s, 0
    try:
        for n in steps(storage, settings, is_needed, now=now):
            n_removed += n
            if time.monotonic() >= deadline:
                break
    except Unavailable as error:
        log.warning("%s What is too old is removed later.", error.detail)
    if n_removed:
        log.info("removed what lay under %d ids, because of its age", n_removed)
    return n_removed


def steps(
    storage: Storage, settings: Settings, is_needed: IsNeeded, *, now: float
) -> Iterator[int]:
    """Sweep once, a batch of ids at a time, and yield after each how many were removed.

    Raises:
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    work = _Sweep(storage, settings, is_needed, now)
    days = [day for bucket in get_args(Bucket) for day in _old_days(work, bucket)]
    # So that processes that sweep at once rarely meet, and no day is always the one that time does
    # not reach.
    random.shuffle(days)
    for day in days:
        contents = _old_ids(work, day)
        ids = sorted(contents)
        for start in range(0, max(1, len(ids)), BATCH_SIZE):
            yield _tidy(
                work,
                day,
                {id_: contents[id_] for id_ in ids[start : start + BATCH_SIZE]},
            )


def expires_at(since: float, days: float) -> float | None:
    """Return the Unix seconds at which something goes that is kept for so many days; None:
    never."""
    return since + days * DAY_S if days else None


def oldest_offered(days: float, now: float) -> float | None:
    """Return when the oldest thing was made that is worth giving out again, in Unix seconds; None:
    any is.

    What goes within a tenth of its time, or a day, is not.
    """
    kept_s = days * DAY_S
    return now - kept_s + min(kept_s / 10, DAY_S) if days else None


def of_id(identifier: str, days: float) -> float | None:
    """Return when something goes that is kept for so many days from its id on; None: never."""
    return expires_at(_minted_at(identifier), days)


def of_manifest(manifest: dict[str, Any], identifier: str, days: float) -> float | None:
    """Return when a model or result goes that is kept for so many days from its making on; None:
    never."""
    return expires_at(_time_in(manifest, "created_at", identifier), days)


def _old_days(work: _Sweep, bucket: Bucket) -> Iterator[_Day]:
    days = work.shortest(bucket)
    if not days:
        return
    for owner in work.storage.owners(bucket):
        found = work.storage.days(bucket, owner)
        yield from (
            _Day(bucket, owner, text, text == found[-1])
            for text in found
            if work.is_over(_begin_of(text), days)
        )


def _old_ids(work: _Sweep, day: _Day) -> Contents:
    contents, days = (
        work.storage.on_day(day.bucket, day.owner, day.text),
        work.shortest(day.bucket),
    )
    return {
        id_: names
        for id_, names in contents.items()
        if work.is_over(_minted_at(id_), days)
    }


def _tidy(work: _Sweep, day: _Day, contents: Contents) -> int:
    """Remove what is to go under some ids, and return how many ids that were."""
    noted = {id_: publications.notes_in(list(names)) for id_, names in contents.items()}
    tombstones = [
        id_ for id_, names in contents.items() if set(names) == {publications.TOMBSTONE}
    ]
    things = [
        id_
        for id_ in contents.keys() - tombstones
        if not noted[id_] and _may_go(work, day, id_, contents)
    ]
    needed = work.is_needed(day.owner, things) if things else set()
    # Who needs nothing any more has published, if ever, so what lies there now decides.
    gone = [id_ for id_ in things if id_ not in needed and _is_due(work, day, id_)]
    for identifier in gone:
        _remove(work.storage, day, identifier)
    if not day.is_newest:
        _remove_tombstones(
            work,
            day,
            {id_: contents[id_][publications.TOMBSTONE] for id_ in tombstones},
        )
        _remove_notes(work, day, noted)
    return len(gone)


def _may_go(work: _Sweep, day: _Day, identifier: str, contents: Contents) -> bool:
    """Tell by a listing whether something may be due, before anybody is asked and anything is
    read."""
    names = list(contents[identifier])
    return publications.TOMBSTONE in names or work.is_over(
        _minted_at(identifier), _days(work, day, names)
    )


def _days(work: _Sweep, day: _Day, names: list[str]) -> float:
    is_published = day.bucket == "datasets" or bool(publications.attempts_in(names))
    return work.days_of(day.bucket, is_published=is_published)


def _is_due(work: _Sweep, day: _Day, identifier: str) -> bool:
    """Tell whether what lies under an id now has to go; what has a tombstone was not removed to the
    end."""
    if day.bucket == "datasets":
        return True
    names = work.storage.names(day.bucket, day.owner, identifier)
    return publications.TOMBSTONE in names or work.is_over(
        _since(work, day, identifier), _days(work, day, names)
    )


def _since(work: _Sweep, day: _Day, identifier: str) -> float:
    """Return when a model or result was made, or a job without one ended; else when its id was
    made."""
    try:
        job = JobRef(day.owner, _KINDS[day.bucket], identifier)
        found = publications.find(work.storage, job)
    except ModelUntrusted:
        return _minted_at(identifier)
    if found:
        return _time_in(found.manifest, "created_at", identifier)
    record = records.read_record(work.storage, day.owner, identifier)
    return _time_in(record or {}, "ended_at", identifier)


def _remove(storage: Storage, day: _Day, identifier: str) -> None:
    if day.bucket == "results":
        deletion.remove_result(storage, day.owner, identifier)
    else:
        deletion.remove(storage, day.bucket, day.owner, identifier)


def _remove_tombstones(work: _Sweep, day: _Day, deleted_at: dict[str, float]) -> None:
    for identifier, since in deleted_at.items():
        if work.is_over(since, 1):
            work.storage.delete(
                day.bucket, day.owner, identifier, [publications.TOMBSTONE]
            )


def _remove_notes(work: _Sweep, day: _Day, noted: dict[str, list[str]]) -> None:
    """Remove the notes of old predictions that came to nothing, under the ids of their models."""
    days = work.shortest(day.bucket)
    for model_id, results in noted.items():
        old = [id_ for id_ in results if work.is_over(_minted_at(id_), days)]
        needed = work.is_needed(day.owner, old) if old else set()
        gone = [
            id_
            for id_ in old
            if id_ not in needed and not _is_left(work.storage, day.owner, id_)
        ]
        work.storage.delete(
            "results", day.owner, model_id, [publications.note_of(id_) for id_ in gone]
        )


def _is_left(storage: Storage, owner: str, result_id: str) -> bool:
    return bool(
        set(storage.names("results", owner, result_id)) - {publications.TOMBSTONE}
    )


def _time_in(said: dict[str, Any], name: str, identifier: str) -> float:
    """Return the Unix seconds that a manifest or record names, else those of the id."""
    value = said.get(name)
    return float(value) if isinstance(value, int | float) else _minted_at(identifier)


def _minted_at(identifier: str) -> float:
    moment = time_of(identifier)
    return moment.timestamp() if moment else float("inf")


def _begin_of(day: str) -> float:
    try:
        return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    except ValueError:
        # A folder of no calendar holds none of our ids.
        return float("inf")
