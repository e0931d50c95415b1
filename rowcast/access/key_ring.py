"""The keys in a process's memory, so that checking one costs no round trip.

All keys are read again when one has changed. Redis is asked about that once a second and, for an
unknown key, which may be new, ten times a second at most. So guesses cost Redis almost nothing, and
a revoked key is refused within two seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import redis

from rowcast.access.key_store import KeyStore
from rowcast.access.keys import Key
from rowcast.errors import QueueUnavailable, RowcastError, Unavailable

CHECK_EVERY_S = 1.0
CHECK_FOR_UNKNOWN_EVERY_S = 0.1
# For so many seconds after a failure, requests fail immediately: threads must not wait for Redis
# in turn.
RETRY_AFTER_S = 0.5
# A key's use is noted at most this often by each process.
NOTE_EVERY_S = 60.0


class KeyRing:
    """The keys as this process knows them; any number of threads may ask."""

    def __init__(
        self, store: KeyStore, restore: Callable[[KeyStore], None] | None = None
    ) -> None:
        """Read keys from a store, which `restore` fills again after Redis was lost."""
        self._store = store
        self._restore = restore
        self._lock = threading.Lock()
        self._keys: dict[str, Key] = {}
        self._version: bytes | None = None
        # Monotonic seconds.
        self._asked_at = -CHECK_EVERY_S
        self._problem: RowcastError | None = None
        self._noted: dict[str, float] = {}

    def find(self, digest: str) -> Key | None:
        """Return the key of a digest, None for an unknown one.

        Raises:
            QueueUnavailable, StoreUnavailable: the keys cannot be read.
        """
        self._refresh(CHECK_EVERY_S)
        if digest not in self._keys:
            self._refresh(CHECK_FOR_UNKNOWN_EVERY_S)
        if self._problem:
            raise type(self._problem)(self._problem.detail)
        return self._keys.get(digest)

    def _refresh(self, every_s: float) -> None:
        """Ask Redis for changes unless that was done in the last `every_s` seconds."""
        if self._is_asked(every_s):
            return
        with self._lock:
            # Another thread may have done it while this one waited.
            if not self._is_asked(every_s):
                self._ask()
                self._asked_at = time.monotonic()

    def _is_asked(self, every_s: float) -> bool:
        if self._problem:
            every_s = RETRY_AFTER_S
        return time.monotonic() < self._asked_at + every_s

    def _ask(self) -> None:
        try:
            self._read_changes()
            self._problem = None
        except redis.RedisError as error:
            self._problem = QueueUnavailable(
                f"Redis does not answer ({type(error).__name__})."
            )
        except Unavailable as error:
            self._problem = error

    def _read_changes(self) -> None:
        state = self._store.state()
        if not state.is_restored and self._restore:
            self._restore(self._store)
            state = self._store.state()
        if state.version != self._version:
            state, self._keys = self._store.keys()
            self._version = state.version

    def due_note(self, key: Key) -> Callable[[], None] | None:
        """Return what notes that a key is used now; None if that was noted a moment ago."""
        now = time.time()
        if now - self._noted.get(key.id, 0.0) < NOTE_EVERY_S:
            return None
        self._noted[key.id] = now

        def note() -> None:
            # It is not worth failing for.
            try:
                self._store.note_use(key.id, now)
            except redis.RedisError:
                self._noted.pop(key.id, None)

        return note
