"""A job while it runs: for whom it is, which attempt it is, and what it may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from rowcast.config import Settings
from rowcast.learning import Progress
from rowcast.store import Storage, Version


@dataclass(frozen=True)
class Run:
    """The surroundings of a running job; `folder` is its scratch space, emptied by the worker
    afterwards.

    `publisher` is the store for who has something to lose: it waits for one that is away.
    `note_digest` takes a dataset, its version and the SHA-256 computed from its bytes;
    `note_published`, right after publishing, the key of `reuse`.
    """

    owner: str
    attempt: int
    settings: Settings
    storage: Storage
    folder: Path
    others_wait: Callable[[], bool]
    publisher: Storage
    progress: Progress = field(default_factory=Progress)
    note_digest: Callable[[str, Version, str], None] = lambda *_: None
    note_published: Callable[[str], None] = lambda _: None

    @property
    def signing_keys(self) -> list[str]:
        """The keys of models, the one that signs first."""
        return [key.get_secret_value() for key in self.settings.signing_keys]


_current: ContextVar[Run] = ContextVar("rowcast_run")


@contextmanager
def surround(run: Run) -> Iterator[None]:
    """Make a run the current one within."""
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Run:
    """Return the run that this code belongs to; raises LookupError outside of a job."""
    return _current.get()
