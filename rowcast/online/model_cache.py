"""The models that an online worker keeps in memory: recently used ones, bounded by bytes.

A deleted model is never used. Whatever deletes a model counts the deletion in Redis, once the
tombstone is in the store. A worker looks for a kept model in the store again when that count has
changed, when Redis does not answer, and after some seconds anyway.
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
from rowcast.online import limits
from rowcast.redis_clients import cause_of
from rowcast.store import (
    JobRef,
    Storage,
    invalidation,
    loading,
    publications,
    signing,
)
from rowcast.system import memory

log = logging.getLogger("rowcast.online")

# The kinds of features that are read as float64.
_NUMBERS = frozenset({"numeric", "boolean", "duration"})


@dataclass
class Kept:
    """A model in memory, its manifest, its size, and when it was last seen in the store.

    `deletions` is the count of deletions at that time, None if Redis did not answer.
    """

    predictor: Predictor
    manifest: dict[str, Any]
    n_bytes: int
    deletions: bytes | None
    seen_at: float

    def is_trusted(self, deletions: bytes | None) -> bool:
        """Return whether the model is in the store for sure, given the count of deletions now."""
        if deletions is None or deletions != self.deletions:
            return False
        return time.monotonic() <= self.seen_at + limits.TRUST_MODEL_S


class ModelCache:
    """Models by owner and id."""

    def __init__(
        self,
        storage: Storage,
        connection: redis.Redis,
        keys: signing.Keys,
        max_bytes: int,
        folder: Path,
    ) -> None:
        """Keep models of `max_bytes` in all; `folder` is for their files while they are loaded."""
        self._storage = storage
        self._connection = connection
        self._keys = keys
        self._max_bytes = max_bytes
        self._folder = folder
        self._kept: LRUCache[tuple[str, str], Kept] = LRUCache(
            max_bytes, getsizeof=_size
        )

    def get(self, owner: str, model_id: str) -> tuple[Predictor, dict[str, Any]]:
        """Return a model and its manifest.

        Raises:
            ModelNotFound: there is none, or it was deleted.
            ModelUntrusted, ModelIncompatible, ModelTooLarge, StoreUnavailable: see `loading.load`.
        """
        # Redis is asked before the store, so a deletion in between is noticed the next time.
        deletions = self._deletions()
        kept = self._kept.get((owner, model_id))
        if kept is None:
            kept = self._load(owner, model_id, deletions)
        elif not kept.is_trusted(deletions):
            self._look_again(owner, model_id, kept, deletions)
        return kept.predictor, kept.manifest

    def _deletions(self) -> bytes | None:
        """Return the count of deletions, None if Redis does not answer."""
        try:
            return invalidation.deletions(self._connection)
        except redis.RedisError as error:
            log.warning("%s; asking the store", cause_of(error))
            return None

    def _look_again(
        self, owner: str, model_id: str, kept: Kept, deletions: bytes | None
    ) -> None:
        fit = JobRef(owner, "fit", model_id)
        if not publications.has_published(self._storage, fit):
            del self._kept[owner, model_id]
            raise ModelNotFound(f"Model {model_id} does not exist.")
        kept.deletions = deletions
        kept.seen_at = time.monotonic()

    def _load(self, owner: str, model_id: str, deletions: bytes | None) -> Kept:
        seen_at = time.monotonic()
        path = self._folder / "model"

        def load() -> tuple[Predictor, dict[str, Any]]:
            return loading.load(
                self._storage,
                self._keys,
                owner,
                model_id,
                path,
                max_bytes=self._max_bytes,
            )

        predictor, manifest, n_bytes = _measured(load)
        path.unlink()
        kept = Kept(_lean(predictor), manifest, n_bytes, deletions, seen_at)
        if n_bytes <= self._max_bytes:
            self._kept[owner, model_id] = kept
        return kept


def _size(kept: Kept) -> int:
    return kept.n_bytes


def _measured(
    load: Callable[[], tuple[Predictor, dict[str, Any]]],
) -> tuple[Predictor, dict[str, Any], int]:
    """Return what is loaded, and its bytes: those of the file, or more if this process grew so."""
    bytes_before = memory.held_bytes(os.getpid())
    predictor, manifest = load()
    grown_bytes = memory.held_bytes(os.getpid()) - bytes_before
    file_bytes = int(manifest["file"]["size"])
    return predictor, manifest, max(file_bytes, grown_bytes)


def _lean(predictor: Predictor) -> Predictor:
    """Return a predictor that counts no drift, and does without a frame where it can.

    An online prediction reports no drift. To make a frame and check its names takes scikit-learn
    longer than to predict one row; the features are checked already, so a model of numbers alone
    gets an array.
    """
    features = [replace(feature, profile=None) for feature in predictor.features]
    model = predictor.model
    # Pipelines, and blends of them, choose their columns by name.
    takes_names = hasattr(model, "steps") or hasattr(model, "named_estimators")
    are_numbers = all(feature.kind in _NUMBERS for feature in features)
    takes_array = are_numbers and not takes_names
    if takes_array:
        model = copy.copy(model)
        vars(model).pop("feature_names_in_", None)
    return replace(predictor, model=model, features=features, takes_array=takes_array)
