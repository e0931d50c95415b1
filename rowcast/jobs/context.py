"""A job while it runs: which job and attempt it is, and what it may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from rowcast.config import Settings
from rowcast.learning import Progress
from rowcast.store import JobRef, Storage, Version


@dataclass(frozen=True)
class Run:
    """A running job and what it may use.

    `folder` is its scratch space, which the worker empties afterwards. `publisher` is a store that
    waits while the store is away, for a job that has something to lose. `sign` takes the digest of
    a model's manifest and returns its `key_id` and `signature`. `note_digest` takes a
    dataset's id, its version and the SHA-256 of its bytes; `note_published` takes the key of
    `reuse`, right after publishing. `deadline` is when the job must have ended, by time.monotonic.
    """

    job: JobRef
    attempt: int
    settings: Settings
    storage: Storage
    folder: Path
    others_wait: Callable[[], bool]
    publisher: Storage
    sign: Callable[[str], Mapping[str, str]]
    progress: Progress = field(default_factory=Progress)
    note_digest: Callable[[str, Version, str], None] = lambda *_: None
    note_published: Callable[[str], None] = lambda _: None
    deadline: float | None = None

    @property
    def owner(self) -> str:
        """The owner of the job."""
        return self.job.owner


_current: ContextVar[Run] = ContextVar("rowcast_run")


@contextmanager
def surround(run: Run) -> Iterator[None]:
    """Make a run the current one within the block."""
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Run:
    """Return the run that this code belongs to; raises LookupError outside of a job."""
    return _current.get()
