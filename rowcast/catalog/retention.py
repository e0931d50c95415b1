"""Retention: remove what is older than the settings say, a batch of ids at a time.

To remove is to delete (see deletion.py): first a tombstone, then everything beside it. So a
removal that was interrupted is hidden immediately, and the next sweep finishes it. A day later the
tombstone is removed too. An attempt that was given up for dead and still writes after that writes
under an old id, which the next sweep finds again.

Some stores remove a folder that becomes empty, and fail writes beside it at that moment. Almost
nothing is written to the folders of old days. On an owner's newest day tombstones and notes stay,
and keep its folder.

Any number of processes may sweep in parallel: every step can be done twice.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from rowcast.catalog import deletion, expiry, late_uploads
from rowcast.config import Settings
from rowcast.errors import ObjectDamaged, Unavailable
from rowcast.observability import AuditLog
from rowcast.store import Bucket, JobRef, Kind, Storage, publications, records

log = logging.getLogger("rowcast.retention")

TOMBSTONE = publications.TOMBSTONE
# Ids that are asked about together, and removed between two checks of the time.
BATCH_SIZE = 100
_KINDS: dict[Bucket, Kind] = {"models": "fit", "results": "predict"}

# Takes an owner and ids. Returns those of the ids that the owner's queued and running jobs are,
# read or make: their own, their datasets' and their models'.
FindNeeded = Callable[[str, Collection[str]], set[str]]
# The names of the objects of each id, with the Unix seconds of their writing.
Contents = dict[str, dict[str, float]]


@dataclass(frozen=True)
class _Day:
    """The objects that an owner's ids of a day have in a bucket."""

    storage: Storage
    bucket: Bucket
    owner: str
    text: str
    is_newest: bool

    def contents(self) -> Contents:
        """Return the objects of all ids of the day."""
        return self.storage.on_day(self.bucket, self.owner, self.text)

    def names(self, identifier: str) -> list[str]:
        """Return the names of the objects that an id has now."""
        return self.storage.names(self.bucket, self.owner, identifier)

    def delete(self, identifier: str, names: list[str]) -> None:
        """Delete objects of an id."""
        self.storage.delete(self.bucket, self.owner, identifier, names)

    def remove(self, identifier: str) -> None:
        """Remove all objects of an id, as its owner would delete them."""
        if self.bucket == "results":
            deletion.remove_result(self.storage, self.owner, identifier)
        else:
            deletion.remove(self.storage, self.bucket, self.owner, identifier)


@dataclass(frozen=True)
class _Rules:
    """What is too old at the time `now`, in Unix seconds, and what jobs still need."""

    settings: Settings
    find_needed: FindNeeded
    now: float
    audit: AuditLog

    def kept_days(self, bucket: Bucket, *, is_published: bool) -> float:
        """Return for how many days things are kept; 0: for ever."""
        name = bucket if is_published else "records"
        return float(getattr(self.settings, f"retain_{name}_days"))

    def shortest(self, bucket: Bucket) -> float:
        """Return the days after which something of a bucket may expire; 0: never."""
        published = self.kept_days(bucket, is_published=True)
        unpublished = self.kept_days(bucket, is_published=bucket == "datasets")
        if not (published and unpublished):
            return published or unpublished
        return min(published, unpublished)

    def is_over(self, since: float, days: float) -> bool:
        """Return whether `days` have passed since a time; 0 days never pass."""
        end = expiry.expires_at(since, days)
        return end is not None and end <= self.now

    def may_be_over(self, bucket: Bucket, identifier: str) -> bool:
        """Return whether something of an id may be too old, by the id alone."""
        made_at = expiry.made_at(identifier)
        return self.is_over(made_at, self.shortest(bucket))

    def may_be_uploaded(self, dataset_id: str) -> bool:
        """Return whether the URL of an upload may still live."""
        return late_uploads.may_come(self.settings, dataset_id, self.now)

    def not_needed(self, owner: str, ids: list[str]) -> list[str]:
        """Return those of the ids that no queued or running job needs."""
        needed = self.find_needed(owner, ids) if ids else set()
        return [identifier for identifier in ids if identifier not in needed]


def sweep(
    storage: Storage,
    settings: Settings,
    find_needed: FindNeeded,
    *,
    now: float,
    limit_s: float,
) -> int:
    """Remove what is too old, for at most `limit_s` seconds; return the number of ids removed.

    The sweep ends early where the store or the queue does not answer.
    """
    deadline = time.monotonic() + limit_s
    n_removed = 0
    try:
        for n in steps(storage, settings, find_needed, now=now):
            n_removed += n
            if time.monotonic() >= deadline:
                break
    except Unavailable as error:
        log.warning("%s What is too old is removed later.", error.detail)
    if n_removed:
        log.info("removed the objects of %d ids, which were too old", n_removed)
    return n_removed


def steps(
    storage: Storage, settings: Settings, find_needed: FindNeeded, *, now: float
) -> Iterator[int]:
    """Sweep once, a batch of ids at a time, and yield the number of ids removed after each.

    Raises:
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    rules = _Rules(settings, find_needed, now, AuditLog(settings.audit_log))
    days: list[_Day] = []
    for bucket in get_args(Bucket):
        days += _old_days(storage, rules, bucket)
    # In random order, sweeps in parallel rarely meet, and no day is always the one for which no
    # time is left.
    random.shuffle(days)
    for day in days:
        for batch in _old_batches(rules, day):
            yield _tidy(rules, day, batch)


def _old_days(storage: Storage, rules: _Rules, bucket: Bucket) -> Iterator[_Day]:
    limit = rules.shortest(bucket)
    if not limit:
        return
    for owner in storage.owners(bucket):
        texts = storage.days(bucket, owner)
        for text in texts:
            if rules.is_over(_start_of(text), limit):
                is_newest = text == texts[-1]
                yield _Day(storage, bucket, owner, text, is_newest)


def _start_of(day: str) -> float:
    try:
        midnight = datetime.fromisoformat(day).replace(tzinfo=UTC)
    except ValueError:
        # A folder that is named for an impossible date holds none of our ids.
        return float("inf")
    return midnight.timestamp()


def _old_batches(rules: _Rules, day: _Day) -> Iterator[Contents]:
    """Yield the contents of at most BATCH_SIZE old ids at a time; of no ids once."""
    contents = day.contents()
    old = [each for each in sorted(contents) if rules.may_be_over(day.bucket, each)]
    # A day without old ids has taken a request, so the time is checked after it too.
    n_ids = max(1, len(old))
    for start in range(0, n_ids, BATCH_SIZE):
        batch = old[start : start + BATCH_SIZE]
        yield {identifier: contents[identifier] for identifier in batch}


def _tidy(rules: _Rules, day: _Day, contents: Contents) -> int:
    """Remove what is due among some ids, and return the number of ids removed."""
    due = _due_ids(rules, day, contents)
    for identifier in due:
        day.remove(identifier)
        rules.audit.write(
            f"retention {day.bucket}", "done", owner=day.owner, object=identifier
        )
    if not day.is_newest:
        _remove_tombstones(rules, day, contents)
        _remove_notes(rules, day, contents)
    return len(due)


def _due_ids(rules: _Rules, day: _Day, contents: Contents) -> list[str]:
    candidates = [
        identifier
        for identifier, names in contents.items()
        if _may_be_due(rules, day, identifier, list(names))
    ]
    # A job that is not queued or running has published, if it ever does. So the decision rests on
    # what is in the store after the queue was asked.
    not_needed = rules.not_needed(day.owner, candidates)
    return [identifier for identifier in not_needed if _is_due(rules, day, identifier)]


def _may_be_due(rules: _Rules, day: _Day, identifier: str, names: list[str]) -> bool:
    """Return whether something may be due, by its listing, before anything else is asked."""
    if names == [TOMBSTONE] or publications.notes_in(names):
        return False
    made_at = expiry.made_at(identifier)
    return _is_over(rules, day.bucket, made_at, names)


def _is_due(rules: _Rules, day: _Day, identifier: str) -> bool:
    """Return whether what an id has in the store now must be removed."""
    if day.bucket == "datasets":
        return True
    names = day.names(identifier)
    since = _ended_at(day, identifier)
    return _is_over(rules, day.bucket, since, names)


def _is_over(rules: _Rules, bucket: Bucket, since: float, names: list[str]) -> bool:
    """Return whether objects are too old; a tombstone among them is an unfinished removal."""
    if TOMBSTONE in names:
        return True
    is_published = bucket == "datasets" or bool(publications.attempts_in(names))
    days = rules.kept_days(bucket, is_published=is_published)
    return rules.is_over(since, days)


def _ended_at(day: _Day, identifier: str) -> float:
    """Return when a model or result was made, its job ended, or else its id was made."""
    job = JobRef(day.owner, _KINDS[day.bucket], identifier)
    try:
        found = publications.find(day.storage, job)
        if found:
            return expiry.time_in(found.manifest, "created_at", identifier)
        record = records.read_record(day.storage, day.owner, identifier)
    except ObjectDamaged:
        return expiry.made_at(identifier)
    return expiry.time_in(record or {}, "ended_at", identifier)


def _remove_tombstones(rules: _Rules, day: _Day, contents: Contents) -> None:
    """Remove the tombstones that have stood alone for a day, and that hide no late upload."""
    for identifier, names in contents.items():
        is_alone = list(names) == [TOMBSTONE]
        if is_alone and rules.is_over(names[TOMBSTONE], 1):
            if day.bucket == "datasets" and rules.may_be_uploaded(identifier):
                continue
            day.delete(identifier, [TOMBSTONE])


def _remove_notes(rules: _Rules, day: _Day, contents: Contents) -> None:
    """Remove the notes of old predictions that made no result, under the ids of their models."""
    for model_id, names in contents.items():
        noted = publications.notes_in(list(names))
        old = [each for each in noted if rules.may_be_over(day.bucket, each)]
        not_needed = rules.not_needed(day.owner, old)
        gone = [
            publications.note_of(result_id)
            for result_id in not_needed
            if not deletion.left_under(day.storage, "results", day.owner, result_id)
        ]
        day.storage.delete("results", day.owner, model_id, gone)
