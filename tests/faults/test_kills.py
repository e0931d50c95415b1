"""Whatever process is killed: its job runs again or ends with the cause, and alone."""

from __future__ import annotations

import fcntl
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from client import Client
from tests.faults.breaking import is_alive, kill, stopped, tree
from tests.support.stack import Stack, StartStack
from tests.support.tables import slow_table, table
from tests.support.waiting import eventually

pytestmark = pytest.mark.faults
# Generous, because the machine may be busy, and a pool that was killed first starts again.
MARGIN_S = 30.0
TTL_S = 4


@pytest.fixture(scope="module")
def workers(start_stack: StartStack) -> Stack:
    """Return a stack whose parts these tests kill; it notices silent workers soon."""
    return start_stack(WORKER_TTL_S=str(TTL_S))


def long_fit(stack: Stack) -> str:
    """Return a fit that runs for some seconds."""
    return stack.fit(slow_table(), validation="none", params='{"max_iter": 40}')


def horse_of(stack: Stack, job: str) -> psutil.Process:
    """Return the only work horse, which runs this job."""
    found = eventually(
        lambda: stack.status(job)["status"] == "started" and stack.horses(),
        timeout_s=40,
    )
    assert len(found) == 1
    return found[0]


def noticed_after_s(status: dict[str, Any], killed_at: float) -> float:
    """Return how many seconds passed before the job's only lost attempt was noticed."""
    (cause,) = status["earlier"]
    assert cause["code"] == "worker_lost"
    return float(cause["at"] - killed_at)


def test_a_killed_horse_is_noticed_within_two_seconds(workers: Stack) -> None:
    job = long_fit(workers)
    horse = horse_of(workers, job)
    killed_at = time.time()
    kill(horse)
    status = workers.finished(job)
    assert status["attempts"] == 2
    assert noticed_after_s(status, killed_at) < 2


@pytest.mark.parametrize("killed", ["worker", "worker and horse", "pool"])
def test_a_killed_worker_ends_its_horse_and_the_job_runs_again(
    workers: Stack, killed: str
) -> None:
    job = long_fit(workers)
    horse = horse_of(workers, job)
    worker = horse.parent()
    killed_at = time.time()
    kill(
        *{
            "worker": [worker],
            "worker and horse": [worker, horse],
            "pool": [worker.parent()],
        }[killed]
    )
    eventually(lambda: not is_alive(horse), timeout_s=15)
    status = workers.finished(job)
    assert status["attempts"] == 2
    assert noticed_after_s(status, killed_at) < TTL_S + MARGIN_S


def test_when_all_processes_of_the_host_are_killed_nothing_is_lost(
    start_stack: StartStack,
) -> None:
    stack = start_stack()
    model = stack.fitted(table())
    result = stack.predict(table(), model)
    before = stack.result(result)
    job = long_fit(stack)
    horse_of(stack, job)
    waiting = [stack.fit(table(seed=seed)) for seed in range(4)] + [
        stack.predict(slow_table(), job)
    ]
    kill(*tree(stack.process.pid))
    stack.process.communicate()
    again = start_stack(stack.data)
    started_at = time.time()
    assert again.result(result).equals(before)
    for each in waiting:
        assert again.finished(each)["attempts"] in (1, 2)
    status = again.status(job)
    assert (status["status"], status["attempts"]) == ("finished", 2)
    assert noticed_after_s(status, started_at) < 15 + MARGIN_S
    again.stop()


def test_a_job_that_always_kills_its_horse_ends_worker_lost(workers: Stack) -> None:
    job = long_fit(workers)
    for attempt in (1, 2, 3):
        eventually(lambda n=attempt: workers.status(job)["attempts"] == n)
        kill(eventually(workers.horses)[0])
    status = workers.wait(job)
    assert (status["status"], status["error"]["code"], status["attempts"]) == (
        "failed",
        "worker_lost",
        3,
    )
    assert [cause["attempt"] for cause in status["earlier"]] == [1, 2, 3]
    # An attempt that was only stalled cannot publish any more.
    assert workers.storage().names("models", "default", job)[-2:] == [
        "4/started",
        "record/4.json",
    ]


def test_a_job_that_always_kills_its_worker_ends_worker_lost_and_costs_others_nothing(
    workers: Stack,
) -> None:
    job = long_fit(workers)
    others = []
    for attempt in (1, 2, 3):
        eventually(lambda n=attempt: workers.status(job)["attempts"] == n, timeout_s=60)
        kill(horse_of(workers, job).parent())
        others += [workers.fit(table(100, 3, seed)) for seed in range(3)]
        assert [workers.finished(other)["earlier"] for other in others[-3:]] == [
            [],
            [],
            [],
        ]
    status = workers.wait(job)
    assert (status["status"], status["error"]["code"], status["attempts"]) == (
        "failed",
        "worker_lost",
        3,
    )
    workers.finished(workers.fit(table(100, 3)))


def test_a_job_whose_horse_dies_after_publishing_has_finished(workers: Stack) -> None:
    job = long_fit(workers)
    horse = horse_of(workers, job)
    workers.redis().hset(f"rq:job:{job}", "max_attempts", 1)
    workers.storage().write("models", "default", job, "1/manifest.json", b"{}")
    kill(horse)
    assert workers.finished(job)["error"] is None
    assert workers.storage().names("models", "default", job) == [
        "1/manifest.json",
        "record/2.json",
    ]


@pytest.mark.parametrize("part", ["redis", "store", "server", "worker"])
def test_a_killed_part_comes_back_and_the_queued_jobs_run(
    workers: Stack, part: str
) -> None:
    jobs = [workers.fit(table(seed=seed)) for seed in range(6)]
    victim = workers.part(part)
    kill(victim)
    eventually(lambda: workers.part(part).pid != victim.pid)
    eventually(lambda: workers.get("/readyz").status_code == 200)
    for job in jobs:
        workers.finished(job)


def test_killing_redis_during_a_fit_costs_no_attempt(workers: Stack) -> None:
    job = long_fit(workers)
    horse_of(workers, job)
    for _ in range(2):
        victim = workers.part("redis")
        kill(victim)
        eventually(lambda killed=victim.pid: workers.part("redis").pid != killed)
    status = workers.finished(job)
    assert (status["attempts"], status["earlier"]) == (1, [])


def test_clients_that_wait_get_their_answer_although_the_server_is_killed(
    workers: Stack,
) -> None:
    def wait(job: str) -> str:
        with Client(workers.url) as client:
            return str(client.wait(job)["status"])

    jobs = [long_fit(workers) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(wait, job) for job in jobs * 2]
        horse_of_any = eventually(workers.horses)
        assert horse_of_any
        for _ in range(2):
            victim = workers.part("server")
            kill(victim)
            eventually(lambda killed=victim.pid: workers.part("server").pid != killed)
            eventually(lambda: workers.get("/healthz").status_code == 200)
    assert [answer.result() for answer in answers] == ["finished"] * 4


def test_workers_that_start_before_redis_wait_for_it(workers: Stack) -> None:
    pool = workers.part("worker")
    with stopped(workers.part("redis")):
        kill(pool)
        eventually(lambda: workers.part("worker").pid != pool.pid)
        # The workers have started, beside maintenance and the signer, and ask Redis.
        eventually(lambda: len(workers.part("worker").children()) == 5, timeout_s=40)
        time.sleep(1)
    workers.finished(str(eventually(lambda: workers.fit(table()))))


def test_a_worker_told_to_stop_stops_although_redis_is_away(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1)
    with stopped(stack.part("redis")):
        workers = stack.part("worker").children()
        stack.part("worker").send_signal(signal.SIGTERM)
        eventually(
            lambda: not any(is_alive(worker) for worker in workers), timeout_s=40
        )
    stack.stop()


def test_a_process_stopped_while_it_takes_a_core_delays_no_other(
    workers: Stack,
) -> None:
    with (workers.data / "cores" / "allocation").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        workers.finished(workers.fit(table()))


def test_no_scratch_folder_is_left(workers: Stack) -> None:
    workers.finished(workers.fit(table()))
    eventually(lambda: not list(Path(workers.data / "scratch").glob("*/")))
