"""Pages of an owner's models, datasets and jobs, newest first.

Listings have no index. Ids carry their time, so a page takes a few listings and a request for
each id.
"""

from __future__ import annotations

import heapq
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, filterfalse, groupby, islice
from typing import Any

from rowcast.catalog import expiry
from rowcast.errors import InvalidRequest, ObjectDamaged
from rowcast.ids import time_of
from rowcast.jobs import FINAL, Jobs, our_errors, shown
from rowcast.learning import evaluation
from rowcast.store import (
    BUCKETS,
    JobRef,
    ObjectMissing,
    Storage,
    publications,
    records,
)
from rowcast.store import datasets as stored_datasets

# Requests to the store that describe the ids of a page in parallel.
N_THREADS = 16
# Jobs that are described together where only some of them are wanted.
N_JOBS = 64
# After this time a page ends with what it has, so that callers do not wait for a long row of
# deleted models.
MAX_PAGE_S = 1.0
# A page also ends before its items take more than this as JSON, but has at least one.
MAX_PAGE_BYTES = 1_000_000
_SHOWN = ("created_at", "dataset_id", "target", "task", "learner", "n_rows")

Item = dict[str, Any]
DescribeBatch = Callable[[list[str]], list[Item | None]]


@dataclass(frozen=True)
class Page:
    """A part of a listing, and the id that the next part follows; None at the end."""

    items: list[Item]
    next: str | None


def models(storage: Storage, owner: str, before: str | None, limit: int) -> Page:
    """Return a page of finished models.

    Raises:
        InvalidRequest: `before` is not an id of ours.
        StoreUnavailable: the store does not answer.
    """
    _check(before)
    ids = storage.newest("models", owner, before=before)
    describe = partial(_model, storage, owner)
    return _page(ids, limit, partial(_in_parallel, describe), batch_size=N_THREADS)


def datasets(
    storage: Storage,
    owner: str,
    before: str | None,
    limit: int,
    *,
    kept_days: float = 0,
) -> Page:
    """Return a page of uploaded datasets. Raises as `models`.

    Datasets are kept for `kept_days`, 0: for ever.
    """
    _check(before)
    ids = storage.newest("datasets", owner, before=before)
    describe = partial(_dataset, storage, owner, kept_days)
    return _page(ids, limit, partial(_in_parallel, describe), batch_size=N_THREADS)


def jobs(
    jobs: Jobs,
    storage: Storage,
    owner: str,
    before: str | None,
    limit: int,
    *,
    wanted: dict[str, str],
) -> Page:
    """Return a page of jobs, as /status describes them, whose members have the `wanted` values.

    Raises:
        InvalidRequest: `before` is not an id of ours.
        QueueUnavailable, StoreUnavailable: a part that would know does not answer.
    """
    _check(before)
    describe = partial(_jobs_of, jobs, storage, owner, wanted)
    is_filtered = bool(wanted)
    with our_errors():
        ids = _job_ids(jobs, storage, owner, before, wanted)
        return _page(ids, limit, describe, batch_size=N_JOBS, is_filtered=is_filtered)


def _job_ids(
    jobs: Jobs,
    storage: Storage,
    owner: str,
    before: str | None,
    wanted: dict[str, str],
) -> Iterator[str]:
    """Yield the ids that may be those of wanted jobs, newest first, each once."""
    status = wanted.get("status")
    # Only Redis knows the jobs that have not ended.
    if status == "queued":
        return jobs.queue.queued(owner, before)
    if status == "started":
        return jobs.queue.running(owner, before)

    known = jobs.queue.known(owner, before)
    if status in FINAL:
        # A search for ended jobs skips the queued ones, which may be thousands.
        queued = set(jobs.queue.queued(owner, None))
        known = filterfalse(queued.__contains__, known)

    kinds = [kind for kind in BUCKETS if wanted.get("kind", kind) == kind]
    stored = [storage.newest(BUCKETS[kind], owner, before=before) for kind in kinds]
    merged = heapq.merge(known, *stored, reverse=True)
    # For a while a job is both in Redis and in the store. Its equal ids follow each other.
    return (identifier for identifier, _ in groupby(merged))


def _jobs_of(
    jobs: Jobs, storage: Storage, owner: str, wanted: dict[str, str], ids: list[str]
) -> list[Item | None]:
    """Describe jobs as /status does; None for an unwanted job or one without a record."""
    found = jobs.known(owner, ids)
    forgotten = [identifier for identifier in ids if identifier not in found]
    read = partial(_recorded, storage, owner)
    recorded = _in_parallel(read, forgotten)
    found.update(zip(forgotten, recorded, strict=True))

    in_order = [found[identifier] for identifier in ids]
    return [job if job and _is_wanted(job, wanted) else None for job in in_order]


def _recorded(storage: Storage, owner: str, job_id: str) -> Item | None:
    """Describe a job that Redis has forgotten; None if it left no record."""
    try:
        record = records.read_record(storage, owner, job_id)
    except ObjectDamaged:
        # /status names what is damaged; the other jobs are listed.
        return None
    return shown(record) if record else None


def _is_wanted(job: Item, wanted: dict[str, str]) -> bool:
    return all(job.get(name) == value for name, value in wanted.items())


def _check(before: str | None) -> None:
    if before and time_of(before) is None:
        raise InvalidRequest(
            "The parameter 'before' is not an id that this service has made."
        )


def _in_parallel(
    describe: Callable[[str], Item | None], ids: list[str]
) -> list[Item | None]:
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(describe, ids))


def _page(
    ids: Iterator[str],
    limit: int,
    describe: DescribeBatch,
    *,
    batch_size: int,
    is_filtered: bool = False,
) -> Page:
    """Describe ids in batches until there are `limit` items, no ids are left, or time is up.

    In a filtered listing few ids may be wanted, so its batches are full ones.
    """
    deadline = time.monotonic() + MAX_PAGE_S
    found: dict[str, Item] = {}
    last = None
    while len(found) < limit and (last is None or time.monotonic() < deadline):
        n_missing = limit - len(found)
        n_ids = batch_size if is_filtered else min(n_missing, batch_size)
        batch = list(islice(ids, n_ids))
        if not batch:
            break
        items = zip(batch, describe(batch), strict=True)
        found |= {identifier: item for identifier, item in items if item}
        last = batch[-1]

    n_items = min(limit, _n_that_fit(found.values()))
    if len(found) > n_items:
        # The next page describes the items beyond the limit again.
        last = list(found)[n_items - 1]
    elif next(ids, None) is None:
        last = None
    return Page(list(found.values())[:n_items], last)


def _n_that_fit(items: Iterable[Item]) -> int:
    """Return how many of the first items a page of MAX_PAGE_BYTES holds, at least one."""
    sizes = accumulate(len(json.dumps(item)) for item in items)
    return max(1, sum(size <= MAX_PAGE_BYTES for size in sizes))


def _model(storage: Storage, owner: str, model_id: str) -> Item | None:
    """Describe a model in short; None if it is not a finished model."""
    try:
        found = publications.find(storage, JobRef(owner, "fit", model_id))
        if found is None:
            return None
        about = {name: found.manifest[name] for name in _SHOWN}
    except (ObjectDamaged, KeyError):
        return None
    return {"id": model_id, **about, "score": score_of(found.manifest)}


def score_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Return the headline score of a model; None if it was not validated."""
    try:
        scores = manifest["validation"]["scores"]
        metric = next(name for name in evaluation.HEADLINE_SCORES if name in scores)
        value = scores[metric]
        is_finite = math.isfinite(value)
    except (KeyError, TypeError, StopIteration):
        return None
    return {"metric": metric, "value": float(value)} if is_finite else None


def _dataset(
    storage: Storage, owner: str, kept_days: float, dataset_id: str
) -> Item | None:
    try:
        upload = stored_datasets.uploaded(storage, owner, dataset_id)
    except ObjectMissing:
        return None
    expires_at = expiry.of_id(dataset_id, kept_days)
    return {
        "id": dataset_id,
        "size": upload.size,
        "uploaded_at": upload.uploaded_at,
        "expires_at": expires_at,
    }
