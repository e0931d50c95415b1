"""The models that an online worker keeps, on a real store and Redis: bounded, none deleted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from rowcast.errors import ModelNotFound, ModelTooLarge
from rowcast.online import limits
from rowcast.online.model_cache import ModelCache
from rowcast.store import invalidation, loading, publications, signing
from rowcast.system import memory
from tests.support.stack import Stack
from tests.support.tables import table


@pytest.fixture(scope="module")
def model_ids(stack: Stack) -> list[str]:
    """Return three models of about the same size."""
    return [
        stack.fitted(table(80, 3), validation="none", seed=seed) for seed in range(3)
    ]


@pytest.fixture
def make(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ModelCache]:
    """Return a function that makes a cache, whose models take as much memory as their files."""
    monkeypatch.setattr(memory, "held_bytes", lambda _pid: 0)

    def made(
        max_bytes: int = 10**9, connection: redis.Redis | None = None
    ) -> ModelCache:
        keys = signing.Keys.of(stack.settings())
        return ModelCache(
            stack.storage(), connection or stack.redis(), keys, max_bytes, tmp_path
        )

    return made


def size_of(stack: Stack, model_id: str) -> int:
    return int(stack.get(f"/models/{model_id}").json()["file"]["size"])


def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each call of the store fail."""

    def fail(*_: Any, **__: Any) -> bool:
        raise AssertionError("the store was asked")

    monkeypatch.setattr(publications, "has_published", fail)
    monkeypatch.setattr(loading, "load", fail)


def test_kept_model_is_returned_without_asking_the_store(
    make: Callable[..., ModelCache],
    model_ids: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = make()
    predictor, about = cache.get("default", model_ids[0])
    assert about["id"] == model_ids[0]
    away(monkeypatch)
    assert cache.get("default", model_ids[0]) == (predictor, about)


def test_model_that_was_not_used_for_longest_goes_first(
    stack: Stack,
    make: Callable[..., ModelCache],
    model_ids: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = [size_of(stack, model_id) for model_id in model_ids]
    cache = make(sum(sizes) - 1)
    a, b, c = model_ids
    for model_id in (a, b, a, c):
        cache.get("default", model_id)
    with monkeypatch.context() as context:
        away(context)
        for model_id in (a, c):
            cache.get("default", model_id)
        with pytest.raises(AssertionError, match="the store was asked"):
            cache.get("default", b)
    cache.get("default", b)


def test_model_whose_file_is_larger_than_the_cache_is_refused(
    stack: Stack, make: Callable[..., ModelCache], model_ids: list[str]
) -> None:
    limit = size_of(stack, model_ids[0]) - 1
    with pytest.raises(ModelTooLarge, match=f"the maximum of {limit:,}"):
        make(limit).get("default", model_ids[0])


def test_model_that_takes_more_memory_than_the_cache_is_returned_and_not_kept(
    make: Callable[..., ModelCache],
    model_ids: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grown = iter(range(0, 10**10, 10**9))
    monkeypatch.setattr(memory, "held_bytes", lambda _pid: next(grown))
    cache = make(10**8)
    first, second = (cache.get("default", model_ids[0])[0] for _ in range(2))
    assert first is not second


def test_model_of_another_owner_is_not_found(
    make: Callable[..., ModelCache], model_ids: list[str]
) -> None:
    cache = make()
    cache.get("default", model_ids[0])
    with pytest.raises(ModelNotFound):
        cache.get("another", model_ids[0])


def test_files_of_models_are_removed(
    make: Callable[..., ModelCache], model_ids: list[str], tmp_path: Path
) -> None:
    make().get("default", model_ids[0])
    assert list(tmp_path.iterdir()) == []


def deleted_behind(stack: Stack, model_id: str) -> None:
    """Write the tombstone of a model without counting a deletion."""
    stack.storage().write("models", "default", model_id, "deleted", b"")


def test_deleted_model_is_not_there_and_others_are_looked_for_once(
    stack: Stack,
    make: Callable[..., ModelCache],
    model_ids: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, gone = make(), stack.fitted(table(60, 3), validation="none")
    for model_id in (gone, model_ids[0]):
        cache.get("default", model_id)
    assert requests.delete(f"{stack.url}/models/{gone}", timeout=40).status_code == 204
    for _ in range(2):
        with pytest.raises(ModelNotFound):
            cache.get("default", gone)
    cache.get("default", model_ids[0])
    away(monkeypatch)
    cache.get("default", model_ids[0])


def test_deleted_model_is_not_there_although_redis_is_away(
    stack: Stack, make: Callable[..., ModelCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, gone = make(), stack.fitted(table(60, 3), validation="none")
    cache.get("default", gone)

    def fail(_connection: redis.Redis) -> bytes:
        raise redis.ConnectionError

    monkeypatch.setattr(invalidation, "deletions", fail)
    cache.get("default", gone)
    deleted_behind(stack, gone)
    with pytest.raises(ModelNotFound):
        cache.get("default", gone)


def test_removal_that_was_not_counted_is_noticed_after_a_while(
    stack: Stack, make: Callable[..., ModelCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, gone = make(), stack.fitted(table(60, 3), validation="none")
    cache.get("default", gone)
    deleted_behind(stack, gone)
    cache.get("default", gone)
    monkeypatch.setattr(limits, "TRUST_MODEL_S", -1.0)
    with pytest.raises(ModelNotFound):
        cache.get("default", gone)
