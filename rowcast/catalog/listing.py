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
from itertools import filterfalse, groupby, islice
from typing import Any

from rowcast.catalog import retention
from rowcast.errors import InvalidRequest, ModelUntrusted
from rowcast.ids import time_of
from rowcast.jobs import FINAL, Jobs, our_errors, shown
from rowcast.learning import evaluation
from rowcast.store import (
    BUCKETS,
    Bucket,
    JobRef,
    ObjectMissing,
    Storage,
    publications,
    records,
)

# Looks at ids of a page that run at once.
N_THREADS = 16
# Jobs that are looked at together where not each of them is wanted.
N_JOBS = 64
# A page ends after so long with what it has, so that many deleted models do not keep the caller
# waiting.
PATIENCE_S = 1.0
_SHOWN = ("created_at", "dataset_id", "target", "task", "learner", "n_rows")


@dataclass(frozen=True)
class Page:
    """A part of a listing, and the id that the next part begins below; None at the end."""

    items: list[dict[str, Any]]
    next: str | None


def models(storage: Storage, owner: str, before: str | None, limit: int) -> Page:
    """Return a page of finished models.

    Raises:
        InvalidRequest: `before` is not an id of ours.
        StoreUnavailable: the store does not answer.
    """
    ids = _ids(storage, "models", owner, before)
    look_at = partial(_look_at, partial(_model, storage, owner))
    return _page(ids, limit, look_at, batch_size=N_THREADS)


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
        batch_size=N_THREADS,
    )


def jobs(
    jobs: Jobs,
    storage: Storage,
    owner: str,
    before: str | None,
    limit: int,
    *,
    wanted: dict[str, str],
) -> Page:
    """Return a page of jobs, as /status describes them: those whose members are as `wanted`.

    Raises:
        InvalidRequest: `before` is not an id of ours.
        QueueUnavailable, StoreUnavailable: a part that would know does not answer.
    """
    _check(before)
    look_at = partial(_jobs_of, jobs, storage, owner, wanted)
    with our_errors():
        ids = _job_ids(jobs, storage, owner, before, wanted)
        return _page(ids, limit, look_at, batch_size=N_JOBS, may_miss=bool(wanted))


def _job_ids(
    jobs: Jobs,
    storage: Storage,
    owner: str,
    before: str | None,
    wanted: dict[str, str],
) -> Iterator[str]:
    """Yield the ids among which the wanted jobs are, newest first, each once."""
    status = wanted.get("status")
    # Only Redis knows the jobs that have not ended.
    if status == "queued":
        return jobs.queue.queued(owner, before)
    if status == "started":
        return jobs.queue.running(owner, before)
    # A search for ended jobs passes over the queued ones, which may be thousands.
    queued = set(jobs.queue.queued(owner, None)) if status in FINAL else set()
    known = filterfalse(queued.__contains__, jobs.queue.known(owner, before))

    kinds = [kind for kind in BUCKETS if wanted.get("kind", kind) == kind]
    stored = [storage.newest(BUCKETS[kind], owner, before=before) for kind in kinds]
    # Equal ids follow each other: for a while a job is in Redis and in the store.
    merged = heapq.merge(known, *stored, reverse=True)
    return (identifier for identifier, _ in groupby(merged))


def _jobs_of(
    jobs: Jobs, storage: Storage, owner: str, wanted: dict[str, str], ids: list[str]
) -> list[dict[str, Any] | None]:
    """Describe jobs as /status does; None for an unwanted job or one that has left no record."""
    known = jobs.known(owner, ids)
    forgotten = [identifier for identifier in ids if identifier not in known]
    if forgotten:
        read = partial(records.read_record, storage, owner)
        for identifier, record in zip(
            forgotten, _look_at(read, forgotten), strict=True
        ):
            known[identifier] = shown(record) if record else None
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
            "The parameter 'before' is not an id that this service has made."
        )


Look = Callable[[str], dict[str, Any] | None]


def _look_at(look: Look, ids: list[str]) -> list[dict[str, Any] | None]:
    """Look at ids in parallel."""
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(look, ids))


def _page(
    ids: Iterator[str],
    limit: int,
    look_at: Callable[[list[str]], list[dict[str, Any] | None]],
    *,
    batch_size: int,
    may_miss: bool = False,
) -> Page:
    """Look at ids in batches until there are `limit` items, no more ids, or no patience.

    If most ids `may_miss`, a batch may hold more ids than items are wanted.
    """
    deadline = time.monotonic() + PATIENCE_S
    last = None
    found: list[tuple[str, dict[str, Any]]] = []
    while len(found) < limit and (last is None or time.monotonic() < deadline):
        n_wanted = batch_size if may_miss else min(limit - len(found), batch_size)
        batch = list(islice(ids, n_wanted))
        if not batch:
            return Page([item for _, item in found], None)
        items = zip(batch, look_at(batch), strict=True)
        found += [(each, item) for each, item in items if item]
        last = batch[-1]
    if len(found) > limit:
        # The next page looks again at the items beyond the limit.
        following: str | None = found[limit - 1][0]
    else:
        following = last if next(ids, None) else None
    return Page([item for _, item in found[:limit]], following)


def _model(storage: Storage, owner: str, model_id: str) -> dict[str, Any] | None:
    """Describe a model in short; None for what is no finished model."""
    try:
        found = publications.find(storage, JobRef(owner, "fit", model_id))
        if found is None:
            return None
        about = {name: found.manifest[name] for name in _SHOWN}
    except (ModelUntrusted, KeyError):
        return None
    return {"id": model_id, **about, "score": score_of(found.manifest)}


def score_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Return the one figure that stands for a model's quality; None where it was not validated."""
    try:
        scores = manifest["validation"]["scores"]
        metric = next(name for name in evaluation.HEADLINE_SCORES if name in scores)
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
