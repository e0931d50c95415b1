"""What counts of all that attempts leave in the store: the lowest finished one, and the final
record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rowcast.errors import JobCanceled, ObjectDamaged, StoreUnavailable, WorkerLost
from rowcast.ids import new_id
from rowcast.jobs import publishing
from rowcast.jobs.context import Run
from rowcast.store import publications, records
from rowcast.store.object_store import Storage
from rowcast.store.publications import BUCKETS, JobRef, Kind, Publication
from tests.support.signing import unsigned
from tests.support.stack import Stack

FOREIGN = "16fd2706-8baf-433b-82eb-8c7fada847da"

each_kind = pytest.mark.parametrize("kind", ["fit", "predict"])


@pytest.fixture(scope="module")
def storage(stack: Stack) -> Storage:
    return stack.storage()


@pytest.fixture
def identifier() -> str:
    return new_id()


def attempt(
    storage: Storage, stack: Stack, folder: Path, number: int, job: JobRef
) -> Run:
    settings = stack.settings()
    return Run(job, number, settings, storage, folder, lambda: False, storage, unsigned)


def publish(
    storage: Storage,
    stack: Stack,
    folder: Path,
    kind: Kind,
    identifier: str,
    number: int,
    owner: str = "acme",
) -> None:
    (folder / "file").write_bytes(b"of attempt %d" % number)
    run = attempt(storage, stack, folder, number, JobRef(owner, kind, identifier))
    manifest = {"attempt": number, "target": "größe"}
    publishing.publish(run, folder / "file", manifest)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a":' * 100_000])
def test_damaged_manifest_is_named_whatever_it_holds(
    content: bytes, storage: Storage, identifier: str
) -> None:
    job = JobRef("acme", "fit", identifier)
    storage.write(*job.place, "1/manifest.json", content)
    with pytest.raises(ObjectDamaged, match=f"manifest of model {identifier}"):
        publications.find(storage, job)
    with pytest.raises(ObjectDamaged, match=r"1/manifest\.json"):
        publications.read_json(storage, job, "1/manifest.json")


@each_kind
def test_nothing_is_found_before_anything_is_published(
    kind: Kind, storage: Storage, identifier: str
) -> None:
    assert publications.find(storage, JobRef("acme", kind, identifier)) is None


@each_kind
def test_published_attempt_is_found_with_its_manifest_and_file(
    kind: Kind, storage: Storage, stack: Stack, tmp_path: Path, identifier: str
) -> None:
    publish(storage, stack, tmp_path, kind, identifier, 1)
    found = publications.find(storage, JobRef("acme", kind, identifier))
    assert found == Publication(1, {"attempt": 1, "target": "größe"})
    assert storage.read(BUCKETS[kind], "acme", identifier, "1/file") == b"of attempt 1"


@pytest.mark.parametrize("order", [(2, 3), (3, 2), (10, 2)])
def test_lowest_finished_attempt_counts_in_any_order(
    order: tuple[int, int],
    storage: Storage,
    stack: Stack,
    tmp_path: Path,
    identifier: str,
) -> None:
    for number in order:
        publish(storage, stack, tmp_path, "fit", identifier, number)
    found = publications.find(storage, JobRef("acme", "fit", identifier))
    assert found is not None
    assert (found.attempt, found.manifest["attempt"]) == (2, 2)


def test_late_files_of_an_attempt_that_was_given_up_change_nothing(
    storage: Storage, stack: Stack, tmp_path: Path, identifier: str
) -> None:
    publish(storage, stack, tmp_path, "fit", identifier, 2)
    storage.write("models", "acme", identifier, "1/model.joblib", b"half")
    assert publications.find(storage, JobRef("acme", "fit", identifier)) == Publication(
        2, {"attempt": 2, "target": "größe"}
    )


@each_kind
def test_attempt_without_its_manifest_does_not_count(
    kind: Kind, storage: Storage, identifier: str
) -> None:
    storage.write(BUCKETS[kind], "acme", identifier, "1/file", b"all of it")
    assert publications.find(storage, JobRef("acme", kind, identifier)) is None


@each_kind
def test_cancel_marker_hides_what_was_published_before_and_after(
    kind: Kind, storage: Storage, stack: Stack, tmp_path: Path, identifier: str
) -> None:
    publish(storage, stack, tmp_path, kind, identifier, 1)
    storage.write(BUCKETS[kind], "acme", identifier, "canceled", b"")
    with pytest.raises(JobCanceled):
        publish(storage, stack, tmp_path, kind, identifier, 2)
    assert "2/manifest.json" not in storage.names(BUCKETS[kind], "acme", identifier)
    assert publications.find(storage, JobRef("acme", kind, identifier)) is None


def test_model_is_no_result_and_belongs_to_its_owner(
    storage: Storage, stack: Stack, tmp_path: Path, identifier: str
) -> None:
    publish(storage, stack, tmp_path, "fit", identifier, 1)
    assert publications.find(storage, JobRef("acme", "predict", identifier)) is None
    assert publications.find(storage, JobRef("other", "fit", identifier)) is None


def test_foreign_id_has_neither_publication_nor_record(storage: Storage) -> None:
    assert publications.find(storage, JobRef("acme", "fit", FOREIGN)) is None
    assert records.read_record(storage, "acme", FOREIGN) is None


def test_manifest_is_written_after_the_file(
    stack: Stack, tmp_path: Path, identifier: str
) -> None:
    names: list[str] = []

    class Watched(Storage):
        """A store that notes the order of writing."""

        def write(
            self, bucket: Any, owner: str, identifier: str, name: str, content: Any
        ) -> None:
            names.append(name)
            super().write(bucket, owner, identifier, name, content)

    publish(Watched(stack.settings()), stack, tmp_path, "fit", identifier, 1)
    assert names == ["1/file", "1/manifest.json"]


def test_failing_write_of_the_file_leaves_no_manifest(
    storage: Storage, stack: Stack, tmp_path: Path, identifier: str
) -> None:
    class Failing(Storage):
        """A store that fails in the midst of publishing."""

        def write(
            self, bucket: Any, owner: str, identifier: str, name: str, content: Any
        ) -> None:
            if name.endswith("/file"):
                raise StoreUnavailable
            super().write(bucket, owner, identifier, name, content)

    with pytest.raises(StoreUnavailable):
        publish(Failing(stack.settings()), stack, tmp_path, "fit", identifier, 1)
    assert storage.names("models", "acme", identifier) == []


# Records


@each_kind
def test_record_is_found_by_the_id_alone(
    kind: Kind, storage: Storage, identifier: str
) -> None:
    record = {
        "kind": kind,
        "status": "failed",
        "attempts": 1,
        "error": {"detail": "größe"},
    }
    records.write_record(storage, JobRef("acme", kind, identifier), record)
    assert records.read_record(storage, "acme", identifier) == record
    assert records.read_record(storage, "other", identifier) is None


def test_manifest_answers_for_a_job_without_a_record(
    storage: Storage, stack: Stack, tmp_path: Path, identifier: str
) -> None:
    assert records.read_record(storage, "acme", identifier) is None
    publish(storage, stack, tmp_path, "fit", identifier, 1)
    record = records.read_record(storage, "acme", identifier) or {}
    assert (record["id"], record["status"]) == (identifier, "finished")


def test_last_record_counts_where_no_attempt_finished(
    storage: Storage, identifier: str
) -> None:
    for number in (10, 9, 2):
        records.write_record(
            storage, JobRef("acme", "fit", identifier), {"attempts": number}
        )
    assert records.read_record(storage, "acme", identifier) == {"attempts": 10}


def test_record_of_the_finished_attempt_counts_before_that_of_a_later_failure(
    storage: Storage, stack: Stack, tmp_path: Path, identifier: str
) -> None:
    for number, status in ((1, "failed"), (2, "finished"), (3, "failed")):
        records.write_record(
            storage,
            JobRef("acme", "fit", identifier),
            {"attempts": number, "status": status},
        )
    publish(storage, stack, tmp_path, "fit", identifier, 2)
    assert records.read_record(storage, "acme", identifier) == {
        "attempts": 2,
        "status": "finished",
    }


@each_kind
def test_what_an_attempt_writes_after_another_has_taken_its_place_never_counts(
    kind: Kind, storage: Storage, stack: Stack, tmp_path: Path, identifier: str
) -> None:
    assert not publications.start_again(storage, JobRef("acme", kind, identifier), 2)
    with pytest.raises(WorkerLost):
        publish(storage, stack, tmp_path, kind, identifier, 1)
    assert storage.names(BUCKETS[kind], "acme", identifier) == ["2/started"]
    assert publications.find(storage, JobRef("acme", kind, identifier)) is None
    publish(storage, stack, tmp_path, kind, identifier, 2)
    found = publications.find(storage, JobRef("acme", kind, identifier))
    assert found is not None
    assert found.attempt == 2


@each_kind
def test_an_attempt_after_one_that_has_published_has_nothing_to_do(
    kind: Kind, storage: Storage, stack: Stack, tmp_path: Path, identifier: str
) -> None:
    publish(storage, stack, tmp_path, kind, identifier, 1)
    assert publications.start_again(storage, JobRef("acme", kind, identifier), 2)
    found = publications.find(storage, JobRef("acme", kind, identifier))
    assert found is not None
    assert found.attempt == 1


def test_record_that_counts_is_that_of_who_ended_the_job(
    storage: Storage, stack: Stack, tmp_path: Path, identifier: str
) -> None:
    publish(storage, stack, tmp_path, "fit", identifier, 1)
    # The first attempt died before Redis learned of its end; the second one found what it had
    # published.
    for number in (1, 2):
        record = {"attempts": number, "status": "finished"}
        records.write_record(storage, JobRef("acme", "fit", identifier), record)
    assert records.read_record(storage, "acme", identifier) == {
        "attempts": 2,
        "status": "finished",
    }
