"""The end of a job: it happens once, and Redis and the store agree on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from rowcast import errors
from rowcast.config import Settings
from rowcast.ids import new_id
from rowcast.jobs import completion, publishing
from rowcast.jobs.context import Run
from rowcast.jobs.estimates import Work
from rowcast.jobs.fields import JobFields
from rowcast.jobs.queue import LANES, AttemptError
from rowcast.jobs.service import Jobs, Submission
from rowcast.jobs.status import final_record
from rowcast.store import publications
from rowcast.store.object_store import Storage
from rowcast.store.publications import JobRef
from rowcast.workers.attempt import Attempt
from rowcast.workers.maintenance import Maintenance
from rowcast.workers.report_pipe import ReportPipe
from tests.support.signing import unsigned
from tests.support.stack import Stack

UNKNOWN = "01a20767-aca3-73f1-8125-5e2a6f7d6e75"
SILENT = errors.WorkerLost("The worker sent no heartbeat.")
# Nothing listens there.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def settings(stack: Stack) -> Settings:
    return stack.settings(max_attempts=1)


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage(settings)


@pytest.fixture
def jobs(connection: redis.Redis, settings: Settings, storage: Storage) -> Jobs:
    return Jobs(connection, settings, storage)


def submit(
    jobs: Jobs, kind: publications.Kind = "fit", waits_for: str | None = None
) -> str:
    job_id = new_id()
    arguments = {"dataset_id": UNKNOWN, "model_id": waits_for or job_id, "options": {}}
    work = Work(kind, "boosting", 100, 3)
    jobs.submit(
        Submission(
            JobRef("ann", kind, job_id), arguments, "r1", work, waits_for=waits_for
        )
    )
    return job_id


def started(jobs: Jobs) -> str:
    job_id = submit(jobs)
    assert jobs.queue.take("test", LANES, 60) == job_id
    assert jobs.queue.confirm_start(job_id, 1, 60)
    return job_id


def known(jobs: Jobs, job_id: str) -> JobFields:
    """Return the fields of a job that Redis knows."""
    job = jobs.queue.job(job_id)
    assert job is not None
    return job


def give_up(jobs: Jobs, storage: Storage, job_id: str) -> None:
    """Take the only attempt that the job has for dead."""
    completion.give_up(jobs.queue, storage, known(jobs, job_id), SILENT, ttl_s=60)


def publish(settings: Settings, storage: Storage, folder: Path, job_id: str) -> None:
    (folder / "model.joblib").write_bytes(b"a model")
    job = JobRef("ann", "fit", job_id)
    run = Run(job, 1, settings, storage, folder, lambda: False, storage, unsigned)
    publishing.publish(run, folder / "model.joblib", {"target": "y"})


def end_late(jobs: Jobs, storage: Storage, job: JobFields) -> bool:
    return bool(completion.end(jobs.queue, storage, job, "finished", attempt=1))


def run(jobs: Jobs, job_id: str, settings: Settings, work: Callable[[], None]) -> None:
    """Run the first attempt of a job, in this process."""
    with Path(os.devnull).open("wb") as nobody:
        Attempt(
            known(jobs, job_id),
            settings,
            jobs.queue,
            jobs.queue,
            work,
            ReportPipe(nobody.fileno()),
            unsigned,
            lambda _folders: None,
            10**9,
        ).run()


def forgotten(jobs: Jobs, job_id: str) -> dict[str, Any]:
    """Return the status once Redis does not know the job any more."""
    jobs.queue.connection.flushall()
    status = jobs.status("ann", job_id)
    assert status is not None
    return status


def test_the_last_attempt_cannot_finish_a_job_that_has_failed_because_of_it(
    jobs: Jobs, settings: Settings, storage: Storage, tmp_path: Path
) -> None:
    job_id = started(jobs)
    job = known(jobs, job_id)
    give_up(jobs, storage, job_id)
    failed = jobs.status("ann", job_id)
    assert failed is not None
    assert failed["error"]["code"] == "worker_lost"
    with pytest.raises(errors.WorkerLost):
        publish(settings, storage, tmp_path, job_id)
    assert not end_late(jobs, storage, job)
    assert publications.find(storage, JobRef("ann", "fit", job_id)) is None
    assert forgotten(jobs, job_id) == failed
    assert storage.names("models", "ann", job_id) == ["2/started", "record/2.json"]


def test_an_attempt_that_is_given_up_for_the_last_time_holds_its_job_no_more(
    jobs: Jobs, storage: Storage
) -> None:
    job_id = started(jobs)
    job = known(jobs, job_id)
    cause = AttemptError("worker_lost", "The worker sent no heartbeat.")
    assert jobs.queue.give_up(job_id, 1, cause, max_attempts=1, ttl_s=60) == 2
    assert jobs.queue.give_up(job_id, 1, cause, max_attempts=1, ttl_s=60) is None
    assert not jobs.queue.is_ours(job_id, 1)
    assert not jobs.queue.renew_lease(job_id, 1, 60)
    assert not end_late(jobs, storage, job)
    assert known(jobs, job_id).crashes == 1
    # Who comes next ends it.
    give_up(jobs, storage, job_id)
    assert known(jobs, job_id).status == "failed"


def test_a_job_that_published_before_it_was_given_up_has_finished(
    jobs: Jobs, settings: Settings, storage: Storage, tmp_path: Path
) -> None:
    job_id = started(jobs)
    publish(settings, storage, tmp_path, job_id)
    give_up(jobs, storage, job_id)
    assert publications.find(storage, JobRef("ann", "fit", job_id)) is not None
    assert forgotten(jobs, job_id)["status"] == "finished"


def test_a_failure_does_not_wait_for_a_store_that_is_away(
    jobs: Jobs, stack: Stack, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise errors.InvalidTable("The table is none.")

    job_id = started(jobs)
    away = stack.settings(
        s3_endpoint=NOWHERE, scratch_dir=str(tmp_path), outage_wait_s=60
    )
    begun = time.monotonic()
    run(jobs, job_id, away, refuse)
    assert time.monotonic() - begun < 4
    assert known(jobs, job_id).status == "failed"
    completion.store_late(jobs.queue, stack.storage())
    assert forgotten(jobs, job_id)["error"]["code"] == "invalid_table"


@pytest.mark.parametrize(
    ("fault", "code", "detail"),
    [
        (
            ZeroDivisionError("a cell"),
            "internal_error",
            "failed (ZeroDivisionError); its request_id is r1.",
        ),
        (MemoryError("a cell"), "out_of_memory", "MB; the limit is 1,000 MB."),
    ],
)
def test_a_fault_is_told_with_what_an_operator_needs_to_find_it(
    jobs: Jobs,
    stack: Stack,
    tmp_path: Path,
    fault: Exception,
    code: str,
    detail: str,
) -> None:
    def fail() -> None:
        raise fault

    job_id = started(jobs)
    run(jobs, job_id, stack.settings(scratch_dir=str(tmp_path)), fail)
    status = jobs.status("ann", job_id)
    assert status is not None
    assert status["error"]["code"] == code
    assert status["error"]["detail"].endswith(detail)


def test_canceling_a_fit_does_not_take_as_long_as_its_many_predictions(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "ORPHANS_S", 0.0)
    fit = submit(jobs)
    waiting = {submit(jobs, "predict", waits_for=fit) for _ in range(100)}
    jobs.cancel("ann", fit)
    assert set(jobs.queue.orphaned()) == waiting
    completion.end_orphaned(jobs.queue)
    assert {known(jobs, job_id).status for job_id in waiting} == {"failed"}


def test_canceling_a_fit_while_the_store_is_away_leaves_its_predictions_to_maintenance(
    jobs: Jobs, stack: Stack
) -> None:
    fit = submit(jobs)
    waiting = submit(jobs, "predict", waits_for=fit)
    away = Storage(stack.settings(s3_endpoint=NOWHERE))
    assert completion.cancel(jobs.queue, away, known(jobs, fit))
    assert jobs.queue.orphaned() == [waiting]


def test_a_job_that_cannot_be_helped_does_not_keep_others_from_being_recovered(
    jobs: Jobs, settings: Settings, storage: Storage
) -> None:
    maintenance = Maintenance(settings)
    maintenance._impatient_queue, maintenance._impatient_storage = jobs.queue, storage
    damaged, lost = started(jobs), started(jobs)
    jobs.queue.connection.hdel(f"rq:job:{damaged}", "attempt")
    jobs.queue.connection.zadd("rowcast:running", {damaged: 0, lost: 1})
    maintenance.recover()
    assert known(jobs, lost).status == "failed"


def test_workers_that_were_killed_are_struck_from_the_list(jobs: Jobs) -> None:
    connection = jobs.queue.connection
    connection.hset("rq:worker:living", "birth", "now")
    for key in ("rq:workers", "rq:workers:rowcast"):
        connection.sadd(key, "rq:worker:living", "rq:worker:killed")
    jobs.queue.forget_dead_workers()
    for key in ("rq:workers", "rq:workers:rowcast"):
        assert connection.smembers(key) == {b"rq:worker:living"}


def test_last_words_of_an_attempt_that_gave_its_job_back_are_in_the_log(
    jobs: Jobs,
) -> None:
    job_id = started(jobs)
    jobs.queue.requeue(
        job_id, 1, AttemptError("worker_stopped", "The worker was told to stop.")
    )
    assert not jobs.queue.renew_lease(
        job_id, 1, 60, "", ["The job goes back to the queue."]
    )
    assert jobs.log("ann", job_id) == ["The job goes back to the queue."]
    assert jobs.queue.take("test", LANES, 60) == job_id
    jobs.queue.renew_lease(job_id, 1, 60, "", ["Too late."])
    assert jobs.log("ann", job_id) == ["The job goes back to the queue."]


def test_a_worker_that_could_not_speak_for_long_is_still_heard(jobs: Jobs) -> None:
    job_id = started(jobs)
    assert jobs.queue.renew_lease(
        job_id, 1, 60, "", [f"line {n}" for n in range(10_000)]
    )
    assert jobs.log("ann", job_id) == [f"line {n}" for n in range(9_500, 10_000)]


def test_a_record_that_cannot_be_written_does_not_hold_up_the_others(
    jobs: Jobs, storage: Storage, stack: Stack
) -> None:
    ended = [submit(jobs) for _ in range(3)]
    for job_id in ended:
        job = jobs.queue.job(job_id)
        assert job
        record = final_record(job, "failed", SILENT.cause(), time.time())
        jobs.queue.finish(job_id, "failed", record, 60, attempt=None, stored=False)
    # A file in the place of the folder of the first one's records.
    bad = min(ended)
    storage.write("models", "ann", bad, "record", b"in the way")

    completion.store_late(jobs.queue, stack.storage())
    assert jobs.queue.unrecorded() == [bad]
    assert forgotten(jobs, max(ended))["status"] == "failed"
