"""A backup of a running stack restores what there was, and a damaged one changes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis
import requests
import rq

from rowcast import backup
from rowcast.backup import BackupError
from rowcast.backup import folder as folders
from rowcast.config import Settings
from rowcast.ids import new_id
from rowcast.store import publications
from rowcast.store.object_store import Storage
from tests.support import ROOT
from tests.support.stack import STORE, Stack, StartStack
from tests.support.tables import slow_table, table


@pytest.fixture
def place(stack: Stack) -> Iterator[Callable[[], Settings]]:
    """Return a function that makes a new place: empty buckets and an empty Redis database."""
    url = stack.settings().redis_url.get_secret_value().removesuffix("/0")
    databases = iter(range(5, 15))
    used: list[Any] = []

    def make() -> Settings:
        used.append(redis.Redis.from_url(f"{url}/{next(databases)}"))
        used[-1].flushdb()
        number = used[-1].connection_pool.connection_kwargs["db"]
        kinds = ("datasets", "models", "results")
        buckets = {f"{kind}_bucket": f"place-{new_id()}" for kind in kinds}
        return stack.settings(redis_url=f"{url}/{number}", **buckets)

    yield make
    for connection in used:
        connection.flushdb()
        connection.close()


def storage_of(settings: Settings) -> Storage:
    storage = Storage(settings)
    storage.ensure_buckets()
    return storage


def redis_of(settings: Settings) -> Any:
    return redis.Redis.from_url(settings.redis_url.get_secret_value())


def save(
    settings: Settings, folder: Path, storage: Storage | None = None
) -> dict[str, Any]:
    with redis_of(settings) as connection:
        return backup.save(folder, storage or storage_of(settings), connection)


def restore(settings: Settings, folder: Path, *, merge: bool = False) -> dict[str, Any]:
    with redis_of(settings) as connection:
        return backup.restore(folder, Storage(settings), connection, merge=merge)


def keys_of(settings: Settings) -> set[bytes]:
    with redis_of(settings) as connection:
        return set(connection.keys("*"))


def objects_of(settings: Settings) -> dict[str, set[str]]:
    return {bucket: set(Storage(settings).keys(bucket)) for bucket in backup.BUCKETS}


@pytest.fixture
def filled(place: Callable[[], Settings]) -> Settings:
    """Return a place with a dataset, a model, and one key of each type in Redis."""
    settings = place()
    storage = storage_of(settings)
    storage.write("datasets", "ann", new_id(), "data", b"a,y\n1,2\n")
    put_model(storage, new_id())
    with redis_of(settings) as connection:
        connection.hset("rq:job:1", mapping={"status": "queued", "data": b"\x00\xff"})
        connection.rpush("rq:queue:rowcast", "1", "2")
        connection.zadd("rowcast:running", {"1": 12.5})
        connection.set("rowcast:idempotency:k", "answer", px=3_600_000)
    return settings


def put_model(storage: Storage, identifier: str) -> str:
    storage.write("models", "ann", identifier, "1/model.joblib", b"pickled")
    storage.write("models", "ann", identifier, "1/manifest.json", b"{}")
    storage.write("models", "ann", identifier, "record/1.json", b"{}")
    return identifier


@pytest.fixture
def saved(filled: Settings, tmp_path: Path) -> Path:
    save(filled, tmp_path / "copy")
    return tmp_path / "copy"


def test_objects_and_keys_come_back_as_they_were(
    filled: Settings, saved: Path, place: Callable[[], Settings]
) -> None:
    target = place()
    index = restore(target, saved)
    assert (len(index["objects"]), index["n_keys"]) == (4, 4)
    assert objects_of(target) == objects_of(filled)
    (dataset,) = objects_of(target)["datasets"]
    dataset_id = dataset.split("/")[3]
    data = Storage(target).read("datasets", "ann", dataset_id, "data")
    assert data == b"a,y\n1,2\n"

    job = {b"status": b"queued", b"data": b"\x00\xff"}
    with redis_of(target) as connection:
        assert connection.hgetall("rq:job:1") == job
        assert connection.lrange("rq:queue:rowcast", 0, -1) == [b"1", b"2"]
        running = connection.zrange("rowcast:running", 0, -1, withscores=True)
        assert running == [(b"1", 12.5)]
        assert 3_500_000 < connection.pttl("rowcast:idempotency:k") <= 3_600_000
        assert connection.pttl("rq:job:1") == -1


def test_keys_that_have_expired_since_are_not_restored(
    filled: Settings, place: Callable[[], Settings], tmp_path: Path
) -> None:
    with redis_of(filled) as connection:
        connection.pexpire("rowcast:idempotency:k", 200)
        backup.save(tmp_path / "copy", storage_of(filled), connection)
        while connection.exists("rowcast:idempotency:k"):
            pass
    target = place()
    restore(target, tmp_path / "copy")
    assert keys_of(target) == {b"rq:job:1", b"rq:queue:rowcast", b"rowcast:running"}


def test_keys_of_workers_and_of_other_programs_are_not_saved(
    filled: Settings, place: Callable[[], Settings], tmp_path: Path
) -> None:
    with redis_of(filled) as connection:
        connection.sadd("rq:workers", "rq:worker:a")
        connection.sadd("rq:workers:rowcast", "rq:worker:a")
        connection.hset("rq:worker:a", "hostname", "gone")
        connection.set("somebody:else", "x")
    save(filled, tmp_path / "copy")
    target = place()
    restore(target, tmp_path / "copy")
    restored = keys_of(target)
    assert b"rq:job:1" in restored
    assert not [key for key in restored if key.startswith((b"rq:worker", b"somebody"))]


@pytest.mark.parametrize("is_changed", [False, True], ids=["unchanged", "changed"])
def test_a_restored_job_expects_its_dataset_as_restored_unless_it_had_changed(
    is_changed: bool, filled: Settings, place: Callable[[], Settings], tmp_path: Path
) -> None:
    (key,) = objects_of(filled)["datasets"]
    dataset_id, job_id = key.split("/")[3], new_id()
    noted = vars(Storage(filled).version("datasets", "ann", dataset_id, "data"))
    options = {
        "target": "y",
        "dataset": {**noted, "tag": "another"} if is_changed else noted,
    }
    with redis_of(filled) as connection:
        rq.Queue("rowcast", connection=connection, serializer="json").enqueue_call(
            "ml.fit",
            kwargs={"dataset_id": dataset_id, "model_id": job_id, "options": options},
            job_id=job_id,
        )
        connection.hset(f"rq:job:{job_id}", mapping={"owner": "ann", "kind": "fit"})
    save(filled, tmp_path / "copy")
    target = place()
    target_storage = storage_of(target)
    restore(target, tmp_path / "copy")
    with redis_of(target) as connection:
        job = rq.job.Job.fetch(job_id, connection=connection, serializer="json")
    now = vars(target_storage.version("datasets", "ann", dataset_id, "data"))
    assert job.kwargs["options"] == {
        "target": "y",
        "dataset": options["dataset"] if is_changed else now,
    }


def test_only_its_owner_can_read_a_backup(saved: Path) -> None:
    modes = {path: path.stat().st_mode & 0o777 for path in [saved, *saved.rglob("*")]}
    assert all(
        mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items()
    ), modes


def an_object(folder: Path) -> Path:
    return next(path for path in (folder / "objects").rglob("*") if path.is_file())


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "changed object": (
        lambda folder: an_object(folder).write_bytes(b"other"),
        "objects/.* is not what was",
    ),
    "missing object": (
        lambda folder: an_object(folder).unlink(),
        "objects/.* is missing",
    ),
    "changed keys": (
        lambda folder: (folder / "redis.jsonl").write_text(""),
        r"redis\.jsonl is not what was",
    ),
    "missing keys": (
        lambda folder: (folder / "redis.jsonl").unlink(),
        r"redis\.jsonl is missing",
    ),
    "no index": (
        lambda folder: (folder / "index.json").unlink(),
        r"was not finished: it has no index\.json",
    ),
    "changed index": (
        lambda folder: (folder / "index.json").write_text(
            (folder / "index.json")
            .read_text()
            .replace("/ann/", "/bob/")
            .replace('"ann/', '"bob/')
        ),
        r"index\.json is not what was saved",
    ),
    "half an index": (
        lambda folder: (folder / "index.json").write_text(
            (folder / "index.json").read_text()[:-20]
        ),
        r"index\.json is not what was saved",
    ),
    "nothing": (shutil.rmtree, "does not exist"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_backup_is_refused_and_changes_nothing(
    damage: Callable[[Path], Any],
    words: str,
    saved: Path,
    place: Callable[[], Settings],
) -> None:
    damage(saved)
    target = place()
    with pytest.raises(BackupError, match=words):
        restore(target, saved)
    assert not keys_of(target)
    assert not any(objects_of(target).values())


def test_keys_of_a_newer_redis_are_refused_before_anything_changes(
    saved: Path, place: Callable[[], Settings]
) -> None:
    lines = [
        json.loads(line) for line in (saved / "redis.jsonl").read_text().splitlines()
    ]
    # The last ten bytes of a dump are its version and a checksum.
    changed = [{**line, "value": "AAAAAAAAAAAAAAAAAAAAAAAA"} for line in lines]
    (saved / "redis.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in changed)
    )
    index = json.loads((saved / "index.json").read_text())["index"]
    index["files"]["redis.jsonl"] = folders.digest(saved / "redis.jsonl")
    (saved / "index.json").unlink()
    folders.write_index(saved, index)
    target = place()
    with pytest.raises(BackupError, match="cannot read the keys"):
        restore(target, saved)
    assert not any(objects_of(target).values())


def test_a_store_or_redis_with_data_is_refused_without_merge(
    filled: Settings, saved: Path, place: Callable[[], Settings]
) -> None:
    keys, objects = keys_of(filled), objects_of(filled)
    with pytest.raises(BackupError, match="models, the bucket of datasets, Redis"):
        restore(filled, saved)
    target = place()
    with redis_of(target) as connection:
        connection.set("rowcast:other", "stays")
        connection.set("rq:job:1", "is replaced")
    with pytest.raises(BackupError, match="already data in Redis"):
        restore(target, saved)
    assert not any(objects_of(target).values())
    restore(target, saved, merge=True)
    assert keys_of(target) == keys | {b"rowcast:other"}
    assert objects_of(target) == objects


def test_a_folder_that_is_not_empty_is_not_written_to(
    filled: Settings, saved: Path
) -> None:
    with pytest.raises(BackupError, match="is not empty"):
        save(filled, saved)
    backup.verified(saved)


@pytest.mark.parametrize("at_listing", [0, 1, 2, 3])
def test_a_model_published_during_a_backup_is_saved_whole_or_not_at_all(
    at_listing: int, filled: Settings, place: Callable[[], Settings], tmp_path: Path
) -> None:
    published: list[str] = []

    class Busy(Storage):
        """A store in which a job ends before the n-th listing of the models."""

        n_listings = 0

        def keys(self, bucket: Any) -> list[str]:
            if bucket == "models" and self.n_listings == at_listing:
                published.append(put_model(self, new_id()))
            found = super().keys(bucket)
            self.n_listings += bucket == "models"
            return found

    save(filled, tmp_path / "copy", Busy(filled))
    target = place()
    restore(target, tmp_path / "copy")
    assert len(published) == (at_listing < 3)
    for model_id in published:
        names = Storage(target).names("models", "ann", model_id)
        assert "record/1.json" not in names or "1/manifest.json" in names
        assert "1/manifest.json" not in names or "1/model.joblib" in names
        assert bool(publications.attempts_in(names)) == (at_listing < 2)


def test_an_object_deleted_during_a_backup_is_left_out(
    filled: Settings, place: Callable[[], Settings], tmp_path: Path
) -> None:
    class Emptied(Storage):
        """A store in which every dataset is deleted right after it was listed."""

        def keys(self, bucket: Any) -> list[str]:
            found = super().keys(bucket)
            for key in found if bucket == "datasets" else []:
                owner, _, _, identifier, name = key.split("/")
                self.delete("datasets", owner, identifier, [name])
            return found

    index = save(filled, tmp_path / "copy", Emptied(filled))
    assert {entry["bucket"] for entry in index["objects"]} == {"models"}
    restore(place(), tmp_path / "copy")


# The local stack.


def local(command: str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rowcast.local.backup", command, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


needs_own_store = pytest.mark.skipif(
    "S3_ENDPOINT" in STORE, reason="the tests use another store"
)


@needs_own_store
def test_a_stack_saved_while_jobs_run_is_restored_with_all_of_them(
    start_stack: StartStack, tmp_path: Path
) -> None:
    stack = start_stack(workers=1)
    copy = tmp_path / "copy"
    model = stack.fitted(table())
    result = stack.predict(table(30), model)
    predictions = stack.result(result)
    broken = stack.wait(bad_fit(stack))
    running = stack.fit(slow_table(), validation="none", params='{"max_iter": 40}')
    queued = [stack.fit(table(60, 3, seed)) for seed in range(3)]
    done = local("save", "--data", stack.data, copy)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith("Saved ")
    assert (copy / "included" / "secrets.json").stat().st_mode & 0o777 == 0o600
    stack.kill()
    shutil.rmtree(stack.data)

    done = local("restore", "--data", stack.data, copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Restored ")
    again = start_stack(stack.data, workers=1)
    assert again.status(broken["id"]) == broken
    assert again.status(model)["status"] == "finished"
    pd.testing.assert_frame_equal(again.result(result), predictions)
    for job in queued:
        again.finished(job)
    pd.testing.assert_frame_equal(
        again.result(again.predict(table(30), model)), predictions
    )
    assert again.finished(running)["attempts"] >= 1
    again.stop()

    # A stopped stack is saved too, and an existing data folder is not overwritten.
    done = local("save", "--data", stack.data, tmp_path / "later")
    assert done.returncode == 0, done.stderr
    later = backup.verified(tmp_path / "later")
    assert len(later["objects"]) > len(backup.verified(copy)["objects"])
    refused = local("restore", "--data", stack.data, copy)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr


def bad_fit(stack: Stack) -> str:
    """Submit a fit that fails: its dataset is replaced after the fit was checked."""
    dataset = stack.get("/upload").json()
    first, second = b"a,y\n" + b"1,2\n" * 20, b"a,y\n" + b"1,3\n" * 30
    requests.put(dataset["url"], data=first, timeout=10).raise_for_status()
    with stack.frozen():
        job = stack.post("/fit", id=dataset["id"]).json()["id"]
        requests.put(dataset["url"], data=second, timeout=10).raise_for_status()
    return str(job)


@needs_own_store
def test_a_failed_restore_leaves_no_data_folder(
    start_stack: StartStack, tmp_path: Path
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    copy.joinpath("included").mkdir(parents=True)
    keys = dict.fromkeys(
        ("s3_access_key", "s3_secret_key", "redis_password"), "0123456789abcdef"
    )
    (copy / "included" / "secrets.json").write_text(
        json.dumps({**keys, "signing_key": "x" * 16})
    )
    started = time.monotonic()
    done = local("restore", "--data", data, copy)
    assert done.returncode == 1
    assert f"The backup {copy} was not finished" in done.stderr
    assert not data.exists()
    assert time.monotonic() - started < 30


def test_a_folder_without_a_stack_is_not_saved(tmp_path: Path) -> None:
    done = local("save", "--data", tmp_path, tmp_path / "copy")
    assert done.returncode == 1
    assert "is not the data folder of a Rowcast stack" in done.stderr
    assert not (tmp_path / "copy").exists()


def test_a_store_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rowcast.backup", "restore", str(tmp_path / "none")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr == f"rowcast.backup: Folder {tmp_path / 'none'} does not exist.\n"
    )
