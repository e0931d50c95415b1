"""The models that an online worker keeps in memory: recently used ones, bounded by bytes, none that
was deleted.

Whoever deletes a model counts it in Redis, once its tombstone is in the store. A kept model is
looked for in the store again when that count has changed, when Redis does not tell it, and after
some seconds anyway.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis
from cachetools import LRUCache

from rowcast.errors import ModelNotFound
from rowcast.learning import Predictor
from rowcast.store import JobRef, Storage, invalidation, loading, publications
from rowcast.system import memory

log = logging.getLogger("rowcast.online")

# What was removed behind Rowcast's back, or by its retention, is noticed after so long.
TRUSTED_S = 10.0
# The kinds of features that are read as float64.
_NUMBERS = frozenset({"numeric", "boolean", "duration"})


@dataclass
class Kept:
    """A model in memory, its manifest, and when it was last known to be in the store."""

    predictor: Predictor
    about: dict[str, Any]
    n_bytes: int
    deletions: bytes | None
    seen_at: float


class ModelCache:
    """Models by owner and id."""

    def __init__(
        self,
        storage: Storage,
        connection: redis.Redis,
        keys: list[str],
        max_bytes: int,
        folder: Path,
    ) -> None:
        """Keep models of `max_bytes` in all; `folder` takes their files while they are loaded."""
        self._storage, self._connection, self._keys = storage, connection, keys
        self._max_bytes, self._folder = max_bytes, folder
        self._kept: LRUCache[tuple[str, str], Kept] = LRUCache(
            max_bytes, getsizeof=_size
        )

    def get(self, owner: str, model_id: str) -> tuple[Predictor, dict[str, Any]]:
        """Return a model and its manifest.

        Raises:
            ModelNotFound: there is none, or it was deleted.
            ModelUntrusted, ModelIncompatible, ModelTooLarge, StoreUnavailable: as `models.load`.
        """
        # Asked before the store is: a deletion that comes in between is noticed the next time.
        deletions = self._deletions()
        kept = self._kept.get((owner, model_id))
        if kept is None:
            kept = self._load(owner, model_id, deletions)
        elif (
            deletions is None
            or deletions != kept.deletions
            or time.monotonic() > kept.seen_at + TRUSTED_S
        ):
            self._look_again(owner, model_id, kept, deletions)
        return kept.predictor, kept.about

    def _deletions(self) -> bytes | None:
        """Return the count of deletions, None where Redis does not tell it."""
        try:
            return invalidation.deletions(self._connection)
        except redis.RedisError as error:
            log.warning(
                "Redis does not answer (%s); the store is asked", type(error).__name__
            )
            return None

    def _look_again(
        self, owner: str, model_id: str, kept: Kept, deletions: bytes | None
    ) -> None:
        if not publications.has_published(
            self._storage, JobRef(owner, "fit", model_id)
        ):
            del self._kept[owner, model_id]
            raise ModelNotFound(f"There is no model {model_id}.")
        kept.deletions, kept.seen_at = deletions, time.monotonic()

    def _load(self, owner: str, model_id: str, deletions: bytes | None) -> Kept:
        seen_at = time.monotonic()
        path = self._folder / "model"
        (predictor, about), n_bytes = _measured(
            lambda: loading.load(
                self._storage,
                self._keys,
                owner,
                model_id,
                path,
                max_bytes=self._max_bytes,
            )
        )
        path.unlink()
        kept = Kept(_lean(predictor), about, n_bytes, deletions, seen_at)
        if n_bytes <= self._max_bytes:
            self._kept[owner, model_id] = kept
        return kept


def _size(kept: Kept) -> int:
    return kept.n_bytes


def _measured(load: Callable[[], tuple[Predictor, dict[str, Any]]]) -> tuple[Any, int]:
    """Return what is loaded, and its bytes: those of its file, or by how many this process grew."""
    before = memory.held_bytes(os.getpid())
    predictor, about = load()
    grown = memory.held_bytes(os.getpid()) - before
    return (predictor, about), max(int(about["file"]["size"]), grown)


def _lean(predictor: Predictor) -> Predictor:
    """Return a predictor that counts no drift, which an answer at once does not tell, and needs no
    frame.

    Making a frame, and checking its names, takes scikit-learn longer than to predict one row. They
    are those of the features already, so a model of nothing but numbers does without.
    """
    features, model = (
        [replace(feature, profile=None) for feature in predictor.features],
        predictor.model,
    )
    takes_array = all(feature.kind in _NUMBERS for feature in features) and not hasattr(
        model, "steps"
    )
    if takes_array:
        model = copy.copy(model)
        vars(model).pop("feature_names_in_", None)
    return replace(predictor, model=model, features=features, takes_array=takes_array)
