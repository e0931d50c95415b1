"""Pages of what an owner has, newest first.

Nothing is indexed: ids carry their time, so a page is a few listings and a look at each id in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from rowcast import publishing, retention
from rowcast.errors import InvalidRequest, ModelUntrusted
from rowcast.ids import time_of
from rowcast.storage import Bucket, ObjectMissing, Storage

# Looks at ids of a page that run at once.
N_THREADS = 16
# A page ends after so long with what it has, so that many deleted models do not keep the caller waiting.
PATIENCE_S = 1.0
SCORES = ("accuracy", "r2")
_TOLD = ("created_at", "dataset_id", "target", "task", "learner", "n_rows")


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
    return _page(_ids(storage, "models", owner, before), limit, partial(_model, storage, owner))


def datasets(storage: Storage, owner: str, before: str | None, limit: int, *, kept_days: float = 0) -> Page:
    """Return a page of uploaded datasets, each kept for so many days, 0: for ever. Raises as `models`."""
    look = partial(_dataset, storage, owner, kept_days)
    return _page(_ids(storage, "datasets", owner, before), limit, look)


def _ids(storage: Storage, bucket: Bucket, owner: str, before: str | None) -> Iterator[str]:
    if before and time_of(before) is None:
        raise InvalidRequest("The parameter 'before' is no id that this service has made.")
    return storage.newest(bucket, owner, before=before)


def _page(ids: Iterator[str], limit: int, look: Callable[[str], dict[str, Any] | None]) -> Page:
    """Look at ids, a batch at a time, until there are `limit` items, no more ids, or no patience."""
    deadline, items, last = time.monotonic() + PATIENCE_S, list[dict[str, Any]](), None
    with ThreadPoolExecutor(N_THREADS) as pool:
        while len(items) < limit and (last is None or time.monotonic() < deadline):
            batch = list(islice(ids, min(limit - len(items), N_THREADS)))
            if not batch:
                return Page(items, None)
            items += filter(None, pool.map(look, batch))
            last = batch[-1]
    return Page(items, last if next(ids, None) else None)


def _model(storage: Storage, owner: str, model_id: str) -> dict[str, Any] | None:
    """Describe a model in short; None for what is no finished model."""
    try:
        found = publishing.find(storage, "fit", owner, model_id)
        if found is None:
            return None
        told = {name: found.manifest[name] for name in _TOLD}
    except (ModelUntrusted, KeyError):
        return None
    return {"id": model_id, **told, "score": score_of(found.manifest)}


def score_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Return the one figure that stands for a model's quality; None where it was not validated."""
    try:
        scores = manifest["validation"]["scores"]
        metric = next(name for name in SCORES if name in scores)
        value = scores[metric]
        return {"metric": metric, "value": float(value)} if math.isfinite(value) else None
    except (KeyError, TypeError, StopIteration):
        return None


def _dataset(storage: Storage, owner: str, kept_days: float, dataset_id: str) -> dict[str, Any] | None:
    try:
        size, uploaded_at = storage.uploaded(owner, dataset_id)
    except ObjectMissing:
        return None
    expires_at = retention.of_id(dataset_id, kept_days)
    return {"id": dataset_id, "size": size, "uploaded_at": uploaded_at, "expires_at": expires_at}
