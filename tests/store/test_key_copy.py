"""The copy of the API keys in the object store, which outlives Redis."""

from __future__ import annotations

import pytest
import redis

from rowcast.access import KeyStore
from rowcast.access.keys import digest_of, new_key
from rowcast.errors import StoreUnavailable
from rowcast.store import Storage, key_copy
from tests.support.stack import Stack


@pytest.fixture
def storage(stack: Stack) -> Storage:
    # Buckets of its own: the maintenance process of the stack copies the stack's keys.
    storage = Storage(stack.settings(models_bucket="models-of-key-copy"))
    storage.ensure_buckets()
    storage.write_key(key_copy.BUCKET, key_copy.NAME, b'{"keys": {}}')
    return storage


def test_keys_come_back_after_redis_was_lost(
    storage: Storage, connection: redis.Redis
) -> None:
    store = KeyStore(connection)
    plain, key = new_key("ann", "laptop", ["read"])
    store.add(digest_of(plain), key)
    version = key_copy.save(storage, store, None)
    connection.flushall()
    key_copy.restore(storage, store)
    assert store.keys()[1] == {digest_of(plain): key}
    assert version


def test_lost_redis_does_not_replace_the_copy(
    storage: Storage, connection: redis.Redis
) -> None:
    store = KeyStore(connection)
    old, new = (new_key("ann", "laptop", ["read"]) for _ in range(2))
    store.add(digest_of(old[0]), old[1])
    version = key_copy.save(storage, store, None)
    connection.flushall()
    store.add(digest_of(new[0]), new[1])
    key_copy.save(storage, store, version)
    connection.flushall()
    key_copy.restore(storage, store)
    assert set(store.keys()[1].values()) == {old[1], new[1]}


def test_copy_is_written_only_after_a_change(
    storage: Storage, connection: redis.Redis
) -> None:
    store = KeyStore(connection)
    version = key_copy.save(storage, store, None)
    storage.write_key(key_copy.BUCKET, key_copy.NAME, b"as it was")
    assert key_copy.save(storage, store, version) == version
    assert storage.read_key(key_copy.BUCKET, key_copy.NAME) == b"as it was"


def test_damaged_copy_is_named(storage: Storage, connection: redis.Redis) -> None:
    storage.write_key(key_copy.BUCKET, key_copy.NAME, b"{")
    with pytest.raises(StoreUnavailable, match=r"api-keys\.json"):
        key_copy.restore(storage, KeyStore(connection))


def test_copy_belongs_to_no_owner(storage: Storage) -> None:
    assert storage.owners(key_copy.BUCKET) == []
