"""The keys in Redis, and in the memory of a process."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis

from rowcast.access import key_ring, key_store
from rowcast.access.key_ring import KeyRing
from rowcast.access.key_store import KeyStore
from rowcast.access.keys import Key, digest_of, new_key
from rowcast.errors import InvalidRequest, QueueUnavailable, StoreUnavailable


@pytest.fixture
def store(connection: redis.Redis) -> KeyStore:
    store = KeyStore(connection)
    store.put_back({})
    return store


def added(store: KeyStore, owner: str = "ann", **changes: Any) -> tuple[str, Key]:
    """Return the digest and the record of a new key."""
    plain, key = new_key(owner, "laptop", ["read"])
    key = replace(key, **changes)
    store.add(digest_of(plain), key)
    return digest_of(plain), key


def test_key_is_kept_without_the_key_itself(
    store: KeyStore, connection: redis.Redis
) -> None:
    plain, key = new_key("ann", "laptop", ["read"])
    store.add(digest_of(plain), key)
    assert store.keys()[1] == {digest_of(plain): key}
    dumped = [connection.dump(name) for name in connection.keys("*")]
    assert plain.encode() not in b"".join(dumped)  # type: ignore[arg-type]


def test_revoked_key_stays_in_the_list(store: KeyStore) -> None:
    digest, key = added(store)
    revoked = store.revoke(key.id)
    assert revoked
    assert revoked.revoked_at == pytest.approx(time.time(), abs=5)
    assert store.keys()[1] == {digest: revoked}
    assert store.revoke(key.id) == revoked


def test_unknown_id_revokes_nothing(store: KeyStore) -> None:
    digest, key = added(store)
    assert store.revoke("another") is None
    assert store.keys()[1] == {digest: key}


def test_keys_that_ended_long_ago_are_forgotten(store: KeyStore) -> None:
    long_ago = time.time() - key_store.ENDED_KEPT_S - 1
    _, old = added(store, revoked_at=long_ago)
    store.note_use(old.id, long_ago)
    added(store, expires_at=long_ago)
    _, ended = added(store, expires_at=time.time() - 1)
    _, valid = added(store)
    assert set(store.keys()[1].values()) == {ended, valid}
    assert store.last_uses() == {}


def test_number_of_keys_is_bounded(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_store, "MAX_KEYS", 2)
    for _ in range(2):
        added(store)
    with pytest.raises(InvalidRequest, match="maximum"):
        added(store)


def test_copy_does_not_bring_a_revoked_key_back(store: KeyStore) -> None:
    digest, key = added(store)
    _, copied = store.records()
    store.revoke(key.id)
    store.put_back(copied)
    assert store.keys()[1][digest].revoked_at


def test_damaged_record_leaves_the_other_keys(
    store: KeyStore, connection: redis.Redis
) -> None:
    digest, key = added(store)
    connection.hset("rowcast:access:keys", "f" * 64, "{")
    assert store.keys()[1] == {digest: key}


# In the memory of a process


class Counting(KeyStore):
    """A store that counts how often it is asked, and may be away."""

    def __init__(self, store: KeyStore) -> None:
        self.store = store
        self.n_asked = 0
        self.is_away = False

    def _answering(self) -> KeyStore:
        self.n_asked += 1
        if self.is_away:
            raise redis.ConnectionError
        return self.store

    def state(self) -> Any:
        return self._answering().state()

    def keys(self) -> Any:
        return self._answering().keys()

    def put_back(self, records: Any) -> None:
        self._answering().put_back(records)

    def note_use(self, key_id: str, at: float) -> None:
        self._answering().note_use(key_id, at)


@pytest.fixture
def counting(store: KeyStore) -> Counting:
    return Counting(store)


def test_known_and_unknown_keys_cost_no_round_trips(counting: Counting) -> None:
    digest, key = added(counting.store)
    ring = KeyRing(counting)
    assert ring.find(digest) == key
    n_asked = counting.n_asked
    began = time.monotonic()
    for number in range(1000):
        assert ring.find(digest) == key
        assert ring.find(f"guess {number}") is None
    took_s = time.monotonic() - began
    most = took_s / key_ring.CHECK_FOR_UNKNOWN_EVERY_S + 1
    assert counting.n_asked <= n_asked + most


def test_new_key_is_known_almost_immediately(counting: Counting) -> None:
    ring = KeyRing(counting)
    assert ring.find("none") is None
    time.sleep(key_ring.CHECK_FOR_UNKNOWN_EVERY_S)
    digest, key = added(counting.store)
    assert ring.find(digest) == key


def test_changes_are_seen_within_two_seconds(counting: Counting) -> None:
    digest, key = added(counting.store)
    ring = KeyRing(counting)
    assert ring.find(digest) == key
    counting.store.revoke(key.id)
    later, _ = added(counting.store)
    time.sleep(key_ring.CHECK_EVERY_S + 0.1)
    found = ring.find(digest)
    assert found
    assert found.revoked_at
    assert ring.find(later)
    assert key_ring.CHECK_EVERY_S <= 1.5


def test_keys_go_on_for_a_moment_without_redis_and_are_never_called_wrong(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, key = added(counting.store)
    ring = KeyRing(counting)
    ring.find(digest)
    counting.is_away = True
    assert ring.find(digest) == key
    monkeypatch.setattr(ring, "_asked_at", -10.0)
    for asked in (digest, "unknown"):
        with pytest.raises(QueueUnavailable):
            ring.find(asked)
    counting.is_away = False
    monkeypatch.setattr(ring, "_asked_at", -10.0)
    assert ring.find(digest) == key


def test_threads_do_not_wait_for_a_dead_redis_in_turn(counting: Counting) -> None:
    class Slow(Counting):
        def state(self) -> Any:
            time.sleep(0.2)
            return super().state()

    slow = Slow(counting.store)
    slow.is_away = True
    ring, together = KeyRing(slow), threading.Barrier(8)

    def ask(_: int) -> bool:
        together.wait(10)
        try:
            ring.find("any")
        except QueueUnavailable:
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    assert slow.n_asked <= 2


def test_redis_that_was_lost_gets_its_keys_back_before_a_key_is_refused(
    connection: redis.Redis, counting: Counting
) -> None:
    digest, key = added(counting.store)
    _, copied = counting.store.records()
    restored = []

    def restore(store: KeyStore) -> None:
        restored.append(store)
        store.put_back(copied)

    connection.flushall()
    # Somebody creates a key before the others are back.
    later, _ = added(counting.store)
    ring = KeyRing(counting, restore)
    assert ring.find(digest) == key
    assert ring.find(later)
    assert len(restored) == 1


def test_while_the_copy_cannot_be_read_no_key_is_called_wrong(
    connection: redis.Redis, counting: Counting
) -> None:
    connection.flushall()

    def restore(_: KeyStore) -> None:
        raise StoreUnavailable("The object store does not answer.")

    with pytest.raises(StoreUnavailable):
        KeyRing(counting, restore).find("any")


def test_use_is_noted_once_a_minute(counting: Counting) -> None:
    _, key = added(counting.store)
    ring = KeyRing(counting)
    note = ring.due_note(key)
    assert note
    note()
    assert counting.store.last_uses() == {key.id: pytest.approx(time.time(), abs=5)}
    assert ring.due_note(key) is None
    counting.is_away = True
    ring = KeyRing(counting)
    failing = ring.due_note(key)
    assert failing
    failing()
    assert ring.due_note(key)
