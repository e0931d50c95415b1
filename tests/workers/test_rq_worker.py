"""The worker: a job ends in time and in a true state; foreign jobs never run (see tests/faults)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rq import Queue
from rq.job import Job as RqJob

from rowcast.store import documents
from tests.support import ROOT
from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import slow_table, table
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def workers(start_stack: StartStack) -> Stack:
    """Return a stack whose workers these tests kill."""
    return start_stack()


def running(stack: Stack, job: str) -> None:
    eventually(lambda: stack.status(job)["status"] == "started" and stack.horses())


def test_a_job_over_its_time_ends_timed_out(start_stack: StartStack) -> None:
    stack = start_stack(workers=1, JOB_TIMEOUT_S="1")
    status = stack.wait(stack.fit(slow_table(), validation="none"))
    assert (status["status"], status["error"]["code"]) == ("failed", "timed_out")
    assert "1 s" in status["error"]["detail"]
    stack.finished(stack.fit(table(100, 3)))
    stack.stop()


def test_a_job_that_does_not_return_to_python_is_killed_over_its_time(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1, JOB_TIMEOUT_S="2")
    job = stack.fit(slow_table(), validation="none")
    eventually(lambda: (stack.status(job)["progress"] or {}).get("phase") == "fitting")
    # A stopped process is like a loop in C: it handles no signal but a kill.
    stack.horses()[0].send_signal(signal.SIGSTOP)
    assert stack.wait(job, 15)["error"]["code"] == "timed_out"
    stack.stop()


def test_a_job_that_waits_for_the_store_does_not_run_out_of_time(
    workers: Stack,
) -> None:
    dataset, store = workers.upload(table()), workers.part("store")
    with workers.frozen():
        job = submitted(workers.post("/fit", id=dataset, timeout_s=5))
        store.suspend()
    eventually(lambda: workers.status(job)["status"] == "started")
    time.sleep(8)
    store.resume()
    workers.finished(job)


def test_a_stopping_worker_finishes_its_job(start_stack: StartStack) -> None:
    stack = start_stack(workers=1)
    job = stack.fit(slow_table(), validation="none")
    running(stack, job)
    pool = stack.part("worker")
    pool.send_signal(signal.SIGTERM)
    status = stack.finished(job)
    assert status["attempts"] == 1
    stack.stop()


def test_a_worker_stopped_for_longer_than_the_grace_requeues_its_job_uncounted(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1, STOP_GRACE_S="1", MAX_ATTEMPTS="1")
    job = stack.fit(slow_table(), validation="none")
    running(stack, job)
    stack.part("worker").send_signal(signal.SIGTERM)
    eventually(lambda: not stack.horses())
    # The restarted pool runs it. With one attempt allowed, a counted one would have ended it.
    status = stack.finished(job)
    assert status["attempts"] == 2
    assert [cause["code"] for cause in status["earlier"]] == ["worker_stopped"]
    stack.stop()


def test_no_other_function_is_run(workers: Stack, tmp_path: Path) -> None:
    queue = Queue("rowcast", connection=workers.redis(), serializer="json")
    marker = tmp_path / "ran"
    meta = {"kind": "fit", "owner": "default"}
    foreign = queue.enqueue_call("os.mkdir", args=(str(marker),), meta=meta)
    bare = queue.enqueue_call("os.mkdir", args=(str(marker),))
    for job in (foreign, bare):
        eventually(
            lambda j=job: (
                RqJob.fetch(
                    j.id, connection=workers.redis(), serializer="json"
                ).is_failed
            )
        )
    assert not marker.exists()
    workers.finished(workers.fit(table()))


def test_no_callback_that_redis_names_is_run(workers: Stack, tmp_path: Path) -> None:
    job = workers.fit(slow_table(), validation="none")
    waiting = [workers.fit(slow_table(), validation="none") for _ in range(2)]
    connection = workers.redis()
    for name in ("success_callback_name", "failure_callback_name"):
        connection.hset(RqJob.key_for(waiting[1]), name, "os.abort")
    for each in (job, *waiting):
        workers.finished(each)


def test_the_final_record_is_in_the_store_before_the_status_is_final(
    workers: Stack,
) -> None:
    job = workers.fit(table())
    status = workers.finished(job)
    content = workers.storage().read("models", "default", job, "record/1.json")
    record = documents.parsed(content, "record")
    assert {**status, "log": record["log"], "number": 1} == record


def test_a_model_whose_signature_does_not_match_is_refused(
    workers: Stack, tmp_path: Path
) -> None:
    model = workers.fitted(table())
    marker = tmp_path / "unpickled"
    bomb = b"cos\nmkdir\n(S'" + str(marker).encode() + b"'\ntR."
    workers.storage().write("models", "default", model, "1/model.joblib", bomb)
    status = workers.wait(workers.predict(table(), model))
    assert status["error"]["code"] == "model_untrusted"
    assert not marker.exists()


def test_one_job_alone_uses_every_core_and_two_use_one_each(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=2)
    storage = stack.storage()

    def n_threads(job: str) -> int:
        stack.finished(job)
        return int(
            json.loads(storage.read("models", "default", job, "1/manifest.json"))[
                "n_threads"
            ]
        )

    import joblib

    def fit(seed: int) -> str:
        params = '{"max_iter": 10}'
        return stack.fit(table(20_000, 50, seed), params=params, validation="none")

    # The machine is not idle while something else runs, such as other tests.
    eventually(lambda: n_threads(fit(0)) == joblib.cpu_count(), timeout_s=120)
    with stack.frozen():
        jobs = [fit(seed) for seed in range(4)]
    assert [n_threads(job) for job in jobs[:2]] == [1, 1]
    stack.stop()


def computes(process: psutil.Process, seen: list[psutil.Process]) -> bool:
    return process not in seen and process.cpu_times().user > 0.5


def test_job_with_others_behind_it_yields_the_cores_and_a_lone_short_one_does_not(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1)
    dataset = stack.upload(slow_table())

    seen: list[psutil.Process] = []

    def niceness(job: str) -> int:
        eventually(lambda: stack.status(job)["status"] == "started")
        horse = eventually(
            lambda: [each for each in stack.horses() if computes(each, seen)]
        )[0]
        seen.append(horse)
        assert os.getsid(horse.pid) == horse.pid
        return int(horse.nice() - stack.part("worker").nice())

    def fit() -> str:
        params = json.dumps({"max_iter": 40})
        return submitted(stack.post("/fit", id=dataset, params=params, reuse="false"))

    first, second, third = (fit() for _ in range(3))
    assert niceness(first) in (0, 10)
    assert niceness(second) == 10
    assert niceness(third) == 0


def test_horse_on_one_core_starts_neither_a_program_nor_a_thread() -> None:
    code = """
import os, sys
from rowcast.workers import program
import ml
from rowcast.system import cores
from sklearn.ensemble import HistGradientBoostingRegressor
ml.warm_up()
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
before = os.listdir("/proc/self/task")
sys.addaudithook(lambda event, _: os._exit(3) if event == "subprocess.Popen" else None)
with cores.libraries().limit(limits=1):
    HistGradientBoostingRegressor(max_iter=1).fit([[0.0], [1.0]], [0.0, 1.0]).predict([[0.0]])
os._exit(0 if os.listdir("/proc/self/task") == before else 4)
"""
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode
        == 0
    )
