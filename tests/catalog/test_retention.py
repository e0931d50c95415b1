"""What is older than its setting goes, and nothing else does."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rowcast.catalog import expiry, retention
from rowcast.config import Settings
from rowcast.ids import new_id
from rowcast.store import publications, records
from rowcast.store.object_store import Storage
from rowcast.store.publications import TOMBSTONE, JobRef
from server import create_app
from tests.support.ids import id_at
from tests.support.stack import Stack

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC).timestamp()
DAY_S = expiry.DAY_S

IsNeeded = Callable[[str, Collection[str]], set[str]]


@pytest.fixture
def kept(stack: Stack) -> Settings:
    """Return settings with buckets of a single test, where whatever is not said stays for ever."""
    name = f"kept-{new_id()}"
    buckets = {
        f"{kind}_bucket": f"{name}-{kind}" for kind in ("datasets", "models", "results")
    }
    settings = stack.settings(**buckets)
    Storage(settings).ensure_buckets()
    return settings


@pytest.fixture
def storage(kept: Settings) -> Storage:
    return Storage(kept)


def nothing(owner: str, ids: Collection[str]) -> set[str]:
    return set()


def sweep(
    storage: Storage,
    settings: Settings,
    is_needed: IsNeeded = nothing,
    *,
    now: float = NOW,
    **days: float,
) -> int:
    names = {f"retain_{kind}_days": value for kind, value in days.items()}
    return retention.sweep(
        storage, settings.model_copy(update=names), is_needed, now=now, limit_s=60
    )


def aged(days: float, number: int = 0) -> str:
    """Return an id that was minted so many days ago."""
    return id_at(datetime.fromtimestamp(NOW - days * DAY_S, UTC), number)


def put_dataset(storage: Storage, days: float, owner: str = "ann") -> str:
    identifier = aged(days)
    storage.write("datasets", owner, identifier, "data", b"a,y\n1,2\n")
    return identifier


def put_model(storage: Storage, identifier: str, made_days_ago: float) -> str:
    manifest = json.dumps(
        {"created_at": NOW - made_days_ago * DAY_S, "id": identifier}
    ).encode()
    storage.write("models", "ann", identifier, "1/model.joblib", b"x")
    storage.write("models", "ann", identifier, "1/manifest.json", manifest)
    storage.write(
        "models", "ann", identifier, "record/1.json", b'{"status": "finished"}'
    )
    return identifier


def put_result(
    storage: Storage, identifier: str, model_id: str, made_days_ago: float
) -> str:
    made_at = NOW - made_days_ago * DAY_S
    manifest = json.dumps({"created_at": made_at, "model_id": model_id}).encode()
    storage.write("results", "ann", model_id, publications.note_of(identifier), b"")
    storage.write("results", "ann", identifier, "1/result.parquet", b"x")
    storage.write("results", "ann", identifier, "1/manifest.json", manifest)
    return identifier


def put_failure(storage: Storage, identifier: str, ended_days_ago: float) -> str:
    record = {
        "status": "failed",
        "ended_at": NOW - ended_days_ago * DAY_S,
        "log": ["a line"],
    }
    storage.write(
        "models", "ann", identifier, "record/1.json", json.dumps(record).encode()
    )
    return identifier


def is_there(
    storage: Storage, bucket: Any, identifier: str, owner: str = "ann"
) -> bool:
    return bool(set(storage.names(bucket, owner, identifier)) - {TOMBSTONE})


def test_each_removal_is_a_line_of_the_audit_log(
    storage: Storage, kept: Settings, tmp_path: Path
) -> None:
    old, young = put_dataset(storage, 31), put_dataset(storage, 29)
    path = tmp_path / "audit.log"
    audited = kept.model_copy(update={"audit_log": str(path)})
    assert sweep(storage, audited, datasets=30) == 1
    (line,) = map(json.loads, path.read_text().splitlines())
    assert line.pop("time")
    assert line == {
        "action": "retention datasets",
        "outcome": "done",
        "owner": "ann",
        "object": old,
    }
    assert is_there(storage, "datasets", young)


def test_nothing_is_removed_unasked(storage: Storage, kept: Settings) -> None:
    dataset, model = put_dataset(storage, 3000), put_model(storage, aged(3000), 3000)
    failure = put_failure(storage, aged(3000, 1), 3000)
    assert sweep(storage, kept) == 0
    assert is_there(storage, "datasets", dataset)
    assert is_there(storage, "models", model)
    assert is_there(storage, "models", failure)


@pytest.mark.parametrize(
    "days", [30, 1, 2 / DAY_S], ids=["a month", "a day", "two seconds"]
)
def test_datasets_older_than_the_setting_are_removed(
    days: float, storage: Storage, kept: Settings
) -> None:
    old, young = (
        put_dataset(storage, days * 1.5),
        put_dataset(storage, days * 0.5, "bob"),
    )
    assert sweep(storage, kept, datasets=days) == 1
    assert not is_there(storage, "datasets", old)
    assert is_there(storage, "datasets", young, "bob")


def test_a_dataset_that_a_job_needs_stays_until_the_job_has_ended(
    storage: Storage, kept: Settings
) -> None:
    needed, other = put_dataset(storage, 9), put_dataset(storage, 8)
    asked: list[tuple[str, set[str]]] = []

    def is_needed(owner: str, ids: Collection[str]) -> set[str]:
        asked.append((owner, set(ids)))
        return {needed}

    assert sweep(storage, kept, is_needed, datasets=7) == 1
    assert is_there(storage, "datasets", needed)
    assert not is_there(storage, "datasets", other)
    # A day at a time, in any order; sets themselves have none.
    assert sorted((owner, *ids) for owner, ids in asked) == sorted(
        [("ann", needed), ("ann", other)]
    )
    assert sweep(storage, kept, datasets=7) == 1


def test_a_result_that_was_made_late_is_kept_from_its_making_on(
    storage: Storage, kept: Settings
) -> None:
    model = put_model(storage, aged(50), 50)
    late = put_result(storage, aged(40, 1), model, made_days_ago=5)
    old = put_result(storage, aged(40, 2), model, made_days_ago=39)
    assert sweep(storage, kept, results=30) == 1
    assert is_there(storage, "results", late)
    assert not is_there(storage, "results", old)
    # A deletion of the model finds by the notes what it must take along.
    assert publications.results_of(storage, "ann", model) == [late]


def test_what_a_job_publishes_while_it_is_asked_for_stays(
    storage: Storage, kept: Settings
) -> None:
    identifier = aged(40)
    storage.write("models", "ann", identifier, "1/model.joblib", b"x")

    def ends_now(owner: str, ids: Collection[str]) -> set[str]:
        put_model(storage, identifier, made_days_ago=0)
        return set()

    assert sweep(storage, kept, ends_now, models=30, records=30) == 0
    assert publications.find(storage, JobRef("ann", "fit", identifier))


def test_records_without_a_model_go_by_their_own_setting(
    storage: Storage, kept: Settings
) -> None:
    model = put_model(storage, aged(90), 90)
    failure = put_failure(storage, aged(90, 1), ended_days_ago=89)
    recent = put_failure(storage, aged(90, 2), ended_days_ago=2)
    assert sweep(storage, kept, records=30) == 1
    assert records.read_record(storage, "ann", failure) is None
    assert records.read_record(storage, "ann", recent)
    assert records.read_record(storage, "ann", model)
    assert publications.find(storage, JobRef("ann", "fit", model))


def test_a_model_that_is_asked_to_go_leaves_results_that_are_kept(
    storage: Storage, kept: Settings
) -> None:
    model = put_model(storage, aged(90), 90)
    result = put_result(storage, aged(60), model, 60)
    assert sweep(storage, kept, models=80) == 1
    assert publications.find(storage, JobRef("ann", "fit", model)) is None
    assert publications.find(storage, JobRef("ann", "predict", result))


def test_a_damaged_manifest_does_not_stop_the_sweep(
    storage: Storage, kept: Settings
) -> None:
    storage.write("models", "ann", aged(90), "1/manifest.json", b"{")
    old = put_model(storage, aged(90, 1), 90)
    assert sweep(storage, kept, models=80) == 2
    assert not is_there(storage, "models", old)


def test_a_removal_that_was_cut_off_is_finished(
    storage: Storage, kept: Settings
) -> None:
    model = put_model(storage, aged(40), made_days_ago=1)
    storage.write("models", "ann", model, TOMBSTONE, b"")
    assert sweep(storage, kept, models=30) == 1
    assert storage.names("models", "ann", model) == [TOMBSTONE]


def test_tombstones_go_a_day_later_but_on_the_newest_day(
    storage: Storage, kept: Settings
) -> None:
    old, newest = put_dataset(storage, 9), put_dataset(storage, 8)
    sweep(storage, kept, datasets=7)
    assert storage.names("datasets", "ann", old) == [TOMBSTONE]
    # Tombstones are as old as their objects, which the store has just written.
    sweep(storage, kept, now=time.time(), datasets=7)
    assert storage.names("datasets", "ann", old) == [TOMBSTONE]
    sweep(storage, kept, now=time.time() + DAY_S + 60, datasets=7)
    assert storage.names("datasets", "ann", old) == []
    assert storage.names("datasets", "ann", newest) == [TOMBSTONE]


def test_notes_of_predictions_that_came_to_nothing_are_removed(
    storage: Storage, kept: Settings
) -> None:
    model, running, fresh = aged(90), aged(50, 1), aged(2)
    result = put_result(storage, aged(50), model, made_days_ago=1)
    for identifier in (running, aged(50, 2), fresh):
        storage.write("results", "ann", model, publications.note_of(identifier), b"")
    sweep(storage, kept, lambda owner, ids: {running} & set(ids), results=30)
    assert sorted(publications.results_of(storage, "ann", model)) == sorted(
        [result, running, fresh]
    )


def test_foreign_objects_are_left_alone(storage: Storage, kept: Settings) -> None:
    path = "ann/2020-01-01/00/not an id/data"
    storage._client.put_object(kept.datasets_bucket, path, io.BytesIO(b""), 0)
    storage._client.put_object(
        kept.datasets_bucket, "ann/2020-99-99/x", io.BytesIO(b""), 0
    )
    assert sweep(storage, kept, datasets=1) == 0
    assert len(storage.keys("datasets")) == 2


def test_several_sweeps_at_once_remove_all_there_is(
    storage: Storage, kept: Settings
) -> None:
    for days in range(10, 40):
        put_dataset(storage, days)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: sweep(Storage(kept), kept, datasets=7), range(3)))
    assert {key.rpartition("/")[2] for key in storage.keys("datasets")} == {TOMBSTONE}


def test_a_sweep_ends_in_time_and_later_ones_do_the_rest(
    storage: Storage, kept: Settings
) -> None:
    for days in (10, 20, 30):
        put_dataset(storage, days)
    settings = kept.model_copy(update={"retain_datasets_days": 7})
    removed = [retention.sweep(storage, settings, nothing, now=NOW, limit_s=0)]
    assert removed == [1]
    while sum(removed) < 3:
        removed.append(retention.sweep(storage, settings, nothing, now=NOW, limit_s=0))
        assert len(removed) < 1000


def test_a_store_that_is_away_ends_the_sweep_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(
        s3_access_key="access-key", s3_secret_key="secret-key", retain_datasets_days=1
    )
    assert (
        retention.sweep(Storage(settings), settings, nothing, now=NOW, limit_s=60) == 0
    )
    assert "removed later" in caplog.text


def test_uploads_beside_a_sweep_succeed(storage: Storage, kept: Settings) -> None:
    old = [new_id() for _ in range(40)]
    for identifier in old:
        storage.write("datasets", "ann", identifier, "data", b"x")
    done = threading.Event()

    def sweep_again_and_again() -> None:
        tomorrow = time.time() + 2 * DAY_S
        while not done.is_set():
            # The ids above and those below are as old: those of jobs are needed, as those below.
            sweep(
                Storage(kept),
                kept,
                lambda _, ids: set(ids) - set(old),
                now=tomorrow,
                datasets=1,
            )

    with ThreadPoolExecutor(1) as pool:
        sweeps = pool.submit(sweep_again_and_again)
        try:
            fresh = [new_id() for _ in range(200)]
            for identifier in fresh:
                storage.write("datasets", "ann", identifier, "data", b"x")
        finally:
            done.set()
        sweeps.result()
    assert all(is_there(storage, "datasets", identifier) for identifier in fresh)
    assert not any(is_there(storage, "datasets", identifier) for identifier in old)


def test_answers_say_when_something_goes(stack: Stack, model_id: str) -> None:
    dataset = stack.upload(b"a,y\n1,2\n")
    asked = stack.settings(retain_datasets_days=0.5, retain_models_days=2)
    caller = create_app(asked).test_client()
    listed: Any = caller.get("/datasets?limit=1").json
    (line,) = listed["datasets"]
    minted_at = expiry.of_id(dataset, 1) or 0
    assert line["id"] == dataset
    assert line["expires_at"] == pytest.approx(minted_at - DAY_S / 2)
    model: Any = caller.get(f"/models/{model_id}").json
    assert model["expires_at"] == pytest.approx(model["created_at"] + 2 * DAY_S)


def test_what_stays_for_ever_expires_at_no_time(stack: Stack, model_id: str) -> None:
    stack.upload(b"a,y\n1,2\n")
    assert stack.get("/datasets", limit=1).json()["datasets"][0]["expires_at"] is None
    assert stack.get(f"/models/{model_id}").json()["expires_at"] is None
