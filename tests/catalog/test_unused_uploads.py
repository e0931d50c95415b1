"""Uploads that no job was submitted for are removed, and others never."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from rowcast.catalog import unused_uploads
from rowcast.config import Settings
from rowcast.ids import new_id
from rowcast.jobs.estimates import Work
from rowcast.jobs.service import Jobs, Submission
from rowcast.store.object_store import Storage
from rowcast.store.publications import JobRef
from tests.support.ids import id_at
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC).timestamp()
DAY_S = 86_400


@pytest.fixture
def settings(stack: Stack, redis_server: RedisServer) -> Settings:
    name = f"unused-{new_id()}"
    buckets = {
        f"{kind}_bucket": f"{name}-{kind}" for kind in ("datasets", "models", "results")
    }
    found = stack.settings(
        redis_url=redis_server.url, max_upload_bytes=1_000, **buckets
    )
    Storage(found).ensure_buckets()
    return found


class Uploads:
    """The datasets of an owner, and what maintenance does to them."""

    def __init__(self, settings: Settings, connection: redis.Redis) -> None:
        self.settings, self.connection = settings, connection
        self.storage = Storage(settings)
        self.jobs = Jobs(connection, settings, self.storage)
        connection.set("rowcast:used_since", NOW - 100 * DAY_S)

    def put(self, days: float, size: int = 10, number: int = 0) -> str:
        dataset_id = id_at(datetime.fromtimestamp(NOW - days * DAY_S, UTC), number)
        self.storage.write("datasets", "ann", dataset_id, "data", b"x" * size)
        return dataset_id

    def use(self, dataset_id: str) -> str:
        job_id = new_id()
        arguments: dict[str, Any] = {
            "dataset_id": dataset_id,
            "model_id": job_id,
            "options": {},
        }
        work = Work("fit", "boosting", 100, 3)
        self.jobs.submit(Submission(JobRef("ann", "fit", job_id), arguments, "r", work))
        return job_id

    def mark(self) -> int:
        return unused_uploads.mark_used(self.storage, self.connection)

    def sweep(self, **changes: Any) -> int:
        settings = self.settings.model_copy(update=changes)
        return unused_uploads.sweep(
            self.storage, self.jobs.queue, settings, now=NOW, limit_s=60
        )

    def exists(self, dataset_id: str) -> bool:
        return "data" in self.storage.names("datasets", "ann", dataset_id)


@pytest.fixture
def uploads(settings: Settings, connection: redis.Redis) -> Uploads:
    return Uploads(settings, connection)


def test_uploads_that_were_never_used_are_removed_after_a_week(
    uploads: Uploads,
) -> None:
    old, young = uploads.put(days=8), uploads.put(days=6)
    assert uploads.sweep() == 1
    assert [uploads.exists(each) for each in (old, young)] == [False, True]


def test_what_a_job_was_submitted_for_stays_whatever_became_of_it(
    uploads: Uploads,
) -> None:
    marked, canceled, queued = (uploads.put(days=8 + n) for n in range(3))
    uploads.use(marked)
    uploads.jobs.cancel("ann", uploads.use(canceled))
    assert uploads.mark() == 2
    uploads.use(queued)
    assert uploads.sweep() == 0
    # The marks last when Redis forgets.
    uploads.mark()
    uploads.connection.flushall()
    uploads.connection.set("rowcast:used_since", NOW - 100 * DAY_S)
    assert uploads.sweep() == 0
    assert uploads.mark() == 0


def test_uploads_over_the_limit_go_after_a_day(uploads: Uploads) -> None:
    uploads.put(days=2, size=1_001)
    uploads.put(days=2, size=1_000, number=1)
    uploads.put(days=0.5, size=1_001)
    assert uploads.sweep() == 1


def test_what_was_uploaded_before_marks_were_written_stays(uploads: Uploads) -> None:
    uploads.put(days=99.5)
    uploads.put(days=150)
    assert uploads.sweep() == 0
    uploads.connection.flushall()
    uploads.put(days=20)
    assert uploads.sweep() == 0


def test_0_days_remove_nothing(uploads: Uploads) -> None:
    uploads.put(days=50)
    assert uploads.sweep(remove_unused_uploads_days=0) == 0


def test_a_deleted_dataset_gets_no_mark(uploads: Uploads) -> None:
    dataset_id = uploads.put(days=1)
    uploads.use(dataset_id)
    uploads.storage.write("datasets", "ann", dataset_id, "deleted", b"")
    assert uploads.mark() == 0
    assert "used" not in uploads.storage.names("datasets", "ann", dataset_id)
