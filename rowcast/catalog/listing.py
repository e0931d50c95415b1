"""Pages of what an owner has, newest first.

Nothing is indexed: ids carry their time, so a page is a few listings and a look at each id in it.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import Any

from rowcast.catalog import retention
from rowcast.errors import InvalidRequest, ModelUntrusted
from rowcast.ids import time_of
from rowcast.jobs import FINAL, Jobs, status
from rowcast.jobs import queue as queue_module
from rowcast.store import Bucket, Kind, ObjectMissing, Storage, publications

# Looks at ids of a page that run at once.
N_THREADS = 16
# Jobs that are looked at together where not each of them is wanted.
N_JOBS = 64
# A page ends after so long with what it has, so that many deleted models do not keep the caller
# waiting.
PATIENCE_S = 1.0
SCORES = ("accuracy", "r2")
_SHOWN = ("created_at", "dataset_id", "target", "task", "learner", "n_rows")


@dataclass(frozen=True)
class Page:
    """A part of a listing, and the id that the next part begins below; None at the end."""

    items: list[dict[str, Any]]
    next: str | None


def models(storage: Storage, owner: str, before: str | None, limit: int) -> Page:
    """Return a page of finished models.

    Raises:
        InvalidRequest: `before` is no id of ours.
        StoreUnavailable: the store does not answer.
    """
    ids, look = _ids(storage, "models", owner, before), partial(_model, storage, owner)
    return _page(ids, limit, partial(_look_at, look), at_once=N_THREADS)


def datasets(
    storage: Storage,
    owner: str,
    before: str | None,
    limit: int,
    *,
    kept_days: float = 0,
) -> Page:
    """Return a page of uploaded datasets, each kept for so many days, 0: for ever. Raises as
    `models`."""
    look = partial(_dataset, storage, owner, kept_days)
    return _page(
        _ids(storage, "datasets", owner, before),
        limit,
        partial(_look_at, look),
        at_once=N_THREADS,
    )


def jobs(
    queue: Jobs,
    storage: Storage,
    owner: str,
    before: str | None,
    limit: int,
    *,
    wanted: dict[str, str],
) -> Page:
    """Return a page of jobs, as /status tells of them: those whose members are as `wanted`.

    Raises:
        InvalidRequest: `before` is no id of ours.
        QueueUnavailable, StoreUnavailable: a part that would know does not answer.
    """
    _check(before)
    look_at = partial(_jobs_of, queue, storage, owner, wanted)
    with queue_module.our_errors():
        ids = _job_ids(queue, storage, owner, before, wanted)
        return _page(ids, limit, look_at, at_once=N_JOBS, may_miss=bool(wanted))


def _job_ids(
    jobs: Jobs,
    storage: Storage,
    owner: str,
    before: str | None,
    wanted: dict[str, str],
) -> Iterator[str]:
    """Yield the ids among which the wanted jobs are, newest first, each once."""
    queue, status = jobs.queue, wanted.get("status")
    # What has not ended only Redis knows.
    if status == "queued":
        return queue.queued(owner, before)
    if status == "started":
        return queue.running(owner, before)
    # Who looks for ended jobs need not look at thousands that wait.
    waiting = set(queue.queued(owner, None)) if status in FINAL else ()
    known = (
        identifier
        for identifier in queue.known(owner, before)
        if identifier not in waiting
    )
    kinds: list[Kind] = [
        kind for kind in publications.BUCKETS if wanted.get("kind", kind) == kind
    ]
    stored = [
        storage.newest(publications.BUCKETS[kind], owner, before=before)
        for kind in kinds
    ]
    # Equal ids follow each other: a job is in Redis and in the store for a while.
    merged = heapq.merge(known, *stored, reverse=True)
    return (identifier for identifier, _ in groupby(merged))


def _jobs_of(
    queue: Jobs, storage: Storage, owner: str, wanted: dict[str, str], ids: list[str]
) -> list[dict[str, Any] | None]:
    """Describe jobs as /status does; None for one that is not wanted, or that has left no
    record."""
    known = queue.known(owner, ids)
    forgotten = [identifier for identifier in ids if identifier not in known]
    if forgotten:
        records = _look_at(partial(publications.read_record, storage, owner), forgotten)
        known.update(zip(forgotten, map(status.without_log, records), strict=True))
    found = [known[identifier] for identifier in ids]
    return [job if job and _is_wanted(job, wanted) else None for job in found]


def _is_wanted(job: dict[str, Any], wanted: dict[str, str]) -> bool:
    return all(job.get(name) == value for name, value in wanted.items())


def _ids(
    storage: Storage, bucket: Bucket, owner: str, before: str | None
) -> Iterator[str]:
    _check(before)
    return storage.newest(bucket, owner, before=before)


def _check(before: str | None) -> None:
    if before and time_of(before) is None:
        raise InvalidRequest(
            "The parameter 'before' is no id that this service has made."
        )


Look = Callable[[str], dict[str, Any] | None]


def _look_at(look: Look, ids: list[str]) -> list[dict[str, Any] | None]:
    """Look at ids at once."""
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(look, ids))


def _page(
    ids: Iterator[str],
    limit: int,
    look_at: Callable[[list[str]], list[dict[str, Any] | None]],
    *,
    at_once: int,
    may_miss: bool = False,
) -> Page:
    """Look at ids, `at_once` at a time, until there are `limit` items, no more ids, or no patience.

    Where most ids `may_miss`, more are looked at than items are wanted.
    """
    deadline, last = time.monotonic() + PATIENCE_S, None
    found: list[tuple[str, dict[str, Any]]] = []
    while len(found) < limit and (last is None or time.monotonic() < deadline):
        batch = list(
            islice(ids, at_once if may_miss else min(limit - len(found), at_once))
        )
        if not batch:
            return Page([item for _, item in found], None)
        found += [
            (each, item)
            for each, item in zip(batch, look_at(batch), strict=True)
            if item
        ]
        last = batch[-1]
    if len(found) > limit:
        # What was looked at beyond is looked at again.
        more: str | None = found[limit - 1][0]
    else:
        more = last if next(ids, None) else None
    return Page([item for _, item in found[:limit]], more)


def _model(storage: Storage, owner: str, model_id: str) -> dict[str, Any] | None:
    """Describe a model in short; None for what is no finished model."""
    try:
        found = publications.find(storage, "fit", owner, model_id)
        if found is None:
            return None
        told = {name: found.manifest[name] for name in _SHOWN}
    except (ModelUntrusted, KeyError):
        return None
    return {"id": model_id, **told, "score": score_of(found.manifest)}


def score_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Return the one figure that stands for a model's quality; None where it was not validated."""
    try:
        scores = manifest["validation"]["scores"]
        metric = next(name for name in SCORES if name in scores)
        value = scores[metric]
        return (
            {"metric": metric, "value": float(value)} if math.isfinite(value) else None
        )
    except (KeyError, TypeError, StopIteration):
        return None


def _dataset(
    storage: Storage, owner: str, kept_days: float, dataset_id: str
) -> dict[str, Any] | None:
    try:
        size, uploaded_at = storage.uploaded(owner, dataset_id)
    except ObjectMissing:
        return None
    expires_at = retention.of_id(dataset_id, kept_days)
    return {
        "id": dataset_id,
        "size": size,
        "uploaded_at": uploaded_at,
        "expires_at": expires_at,
    }
