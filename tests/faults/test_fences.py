"""Only one attempt counts: one that was given up, and continues later, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.faults.breaking import Gate, is_alive, resume
from tests.faults.external_store import ExternalStore
from tests.support.stack import Stack, StartStack
from tests.support.tables import slow_table, table
from tests.support.waiting import eventually

KEY = "rq:job:{}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExternalStore]:
    """Return a store that stacks reach through a gate."""
    with ExternalStore(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture(scope="module")
def gated(start_stack: StartStack, store: ExternalStore) -> Stack:
    """Return a stack that notices lost workers soon, and reaches its store through a gate."""
    return start_stack(workers=2, SHORT_WORKERS="0", WORKER_TTL_S="3", **store.settings)


@pytest.fixture
def gate(store: ExternalStore) -> Iterator[Gate]:
    yield store.gate
    store.gate.open()


class StalledWorker:
    """A worker and its work horse, to be stopped in the middle of a fit."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.job = stack.fit(slow_table(), validation="none", params='{"max_iter": 25}')
        self.horse: psutil.Process = eventually(self._find_horse)
        self.worker: psutil.Process = self.horse.parent()

    def _find_horse(self) -> psutil.Process | None:
        """Return the job's work horse; that of the job before may still be about to exit."""
        with self.stack.redis() as connection:
            worker: Any = connection.hget(KEY.format(self.job), "worker")
            pid: Any = connection.hget(f"rq:worker:{(worker or b'').decode()}", "pid")
        horses = [each for each in self.stack.horses() if each.ppid() == int(pid or 0)]
        return horses[0] if horses else None

    def stop(self) -> None:
        self.worker.suspend()
        self.horse.suspend()

    def continue_horse(self) -> None:
        """Let the work horse alone continue to its end: no worker is there to kill it."""
        self.horse.resume()
        eventually(lambda: not is_alive(self.horse), timeout_s=60)

    def continue_both(self) -> None:
        resume(self.horse, self.worker)
        eventually(lambda: not is_alive(self.horse), timeout_s=60)


@pytest.fixture
def stalled(gated: Stack) -> Iterator[StalledWorker]:
    stalled = StalledWorker(gated)
    yield stalled
    resume(stalled.worker, stalled.horse)
    gated.finished(gated.fit(table(100, 3)))


def what_is_seen(stack: Stack, store: ExternalStore, job: str) -> dict[str, Any]:
    """Return all that is visible of a fit, and the versions of its objects that count."""
    model = stack.get(f"/models/{job}").json()
    model.pop("request_id", None)
    storage = store.storage()
    names = storage.names("models", "default", job)
    counted = [name for name in names if not name.startswith(("1/", "record/1"))]
    versions = {
        name: storage.version("models", "default", job, name) for name in counted
    }
    return {"status": stack.status(job), "model": model, "versions": versions}


def test_an_attempt_stalled_for_longer_than_its_lease_changes_nothing_afterwards(
    gated: Stack, store: ExternalStore, gate: Gate, stalled: StalledWorker
) -> None:
    # It has its signature, for which it needs its worker, and has published nothing.
    gate.hold(asked=b"/1/model.joblib HTTP")
    assert gate.is_held.wait(60)
    stalled.stop()
    status = gated.finished(stalled.job)
    assert status["attempts"] == 2
    assert [cause["code"] for cause in status["earlier"]] == ["worker_lost"]
    before = what_is_seen(gated, store, stalled.job)
    assert "2/manifest.json" in before["versions"]
    gate.open()
    stalled.continue_horse()
    # It continued to its end, and removed what it had published too late.
    names = store.storage().names("models", "default", stalled.job)
    assert not [name for name in names if name.startswith("1/")]
    assert what_is_seen(gated, store, stalled.job) == before


def test_a_stalled_attempt_that_continues_while_another_runs_is_killed(
    gated: Stack, stalled: StalledWorker
) -> None:
    stalled.stop()
    other = eventually(
        lambda: (
            gated.status(stalled.job)["attempts"] == 2
            and next(
                (horse for horse in gated.horses() if horse != stalled.horse), None
            )
        )
    )
    stalled.continue_both()
    assert gated.finished(stalled.job)["attempts"] == 2
    eventually(lambda: not is_alive(other))


def test_a_manifest_that_arrives_after_another_attempt_has_taken_over_does_not_count(
    gated: Stack, store: ExternalStore, gate: Gate, stalled: StalledWorker
) -> None:
    gate.hold(asked=b"/1/manifest.json HTTP")
    assert gate.is_held.wait(60)
    # Its file is there, its manifest is on the way.
    stalled.stop()
    assert gated.finished(stalled.job)["attempts"] == 2
    before = what_is_seen(gated, store, stalled.job)
    gate.open()
    eventually(
        lambda: (
            "1/manifest.json" in store.storage().names("models", "default", stalled.job)
        )
    )
    assert what_is_seen(gated, store, stalled.job) == before
    stalled.continue_both()
    assert what_is_seen(gated, store, stalled.job) == before


def test_a_job_that_was_canceled_during_a_stop_stays_canceled(
    gated: Stack, store: ExternalStore, gate: Gate, stalled: StalledWorker
) -> None:
    gate.hold(asked=b"/1/manifest.json HTTP")
    assert gate.is_held.wait(60)
    stalled.stop()
    assert gated.post("/cancel", id=stalled.job).json()["status"] == "canceled"
    before = what_is_seen(gated, store, stalled.job)
    assert before["model"]["code"] == "model_failed"
    gate.open()
    stalled.continue_horse()
    assert what_is_seen(gated, store, stalled.job) == before
    names = store.storage().names("models", "default", stalled.job)
    assert not [name for name in names if name.startswith("1/")]


@pytest.mark.parametrize(
    "name",
    ["model.joblib", "manifest.json"],
    ids=["before it published", "while it published"],
)
def test_an_attempt_that_was_given_up_cannot_finish_its_job(
    gated: Stack,
    store: ExternalStore,
    gate: Gate,
    stalled: StalledWorker,
    name: str,
) -> None:
    gated.redis().hset(KEY.format(stalled.job), "max_attempts", 1)
    gate.hold(asked=f"/1/{name} HTTP".encode())
    assert gate.is_held.wait(60)
    stalled.stop()
    status = gated.wait(stalled.job)
    assert (status["status"], status["error"]["code"], status["attempts"]) == (
        "failed",
        "worker_lost",
        1,
    )
    before = what_is_seen(gated, store, stalled.job)
    assert before["model"]["code"] == "model_failed"
    gate.open()
    stalled.continue_horse()
    names = store.storage().names("models", "default", stalled.job)
    assert not [name for name in names if name.startswith("1/")]
    assert what_is_seen(gated, store, stalled.job) == before
    # The store alone gives the same answer.
    gated.redis().delete(KEY.format(stalled.job))
    assert what_is_seen(gated, store, stalled.job) == before
