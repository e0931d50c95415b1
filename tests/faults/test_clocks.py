"""The clock of a real Redis runs ahead or is put right, while a job runs and its worker dies."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from tests.faults.breaking import kill
from tests.support import breakable_stack
from tests.support.breakable_stack import set_clock
from tests.support.stack import Stack, StartStack
from tests.support.tables import slow_table
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(
        not breakable_stack.HAS_CLOCK, reason="libfaketime is there for Linux on x86_64"
    ),
]
HOUR_S = 3600.0
# As the setting is by default. The steady clock rests for 6 s after a jump.
TTL_S = 10
QUIET_S = 6
# Generous, because the machine may be busy with other things; and far from an hour.
MARGIN_S = 15.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack")
    set_clock(folder, 0)
    return folder


@pytest.fixture(scope="module")
def clocked(start_stack: StartStack, data: Path) -> Stack:
    """Return a stack whose Redis has a clock that `set_clock` sets."""
    return start_stack(
        data,
        module=breakable_stack.__name__,
        workers=1,
        SHORT_WORKERS="0",
        WORKER_TTL_S=str(TTL_S),
    )


def ahead_s(stack: Stack) -> float:
    """Return by how much the clock of Redis is ahead."""
    seconds, part = stack.redis().time()
    return float(seconds + part / 1e6 - time.time())


def let_pass(stack: Stack, ahead: float) -> None:
    """Set the clock, and wait until the queue goes by it."""
    set_clock(stack.data, ahead)
    eventually(lambda: abs(ahead_s(stack) - ahead) < 1)
    steady = stack.redis().hget("rowcast:steady", "time")
    eventually(lambda: stack.redis().hget("rowcast:steady", "time") != steady)


def running_fit(stack: Stack) -> tuple[str, psutil.Process]:
    """Return a fit that runs for some seconds, and its work horse."""
    job = stack.fit(slow_table(), validation="none", params='{"max_iter": 40}')
    (horse,) = eventually(
        lambda: stack.status(job)["status"] == "started" and stack.horses(),
        timeout_s=60,
    )
    return job, horse


@pytest.mark.parametrize(
    ("before_s", "after_s"), [(HOUR_S, 0), (0, HOUR_S)], ids=["put right", "ahead"]
)
def test_a_dead_worker_is_noticed_although_the_clock_of_redis_was_set(
    clocked: Stack, before_s: float, after_s: float
) -> None:
    let_pass(clocked, before_s)
    job, horse = running_fit(clocked)
    set_clock(clocked.data, after_s)
    eventually(lambda: abs(ahead_s(clocked) - after_s) < 1)
    kill(horse.parent(), horse)
    again = eventually(
        lambda: clocked.status(job)["earlier"],
        timeout_s=TTL_S + QUIET_S + MARGIN_S,
    )
    assert [each["code"] for each in again] == ["worker_lost"]
    status = clocked.finished(job)
    assert status["attempts"] == 2
    assert status["enqueued_at"] <= status["started_at"] <= status["ended_at"]


@pytest.mark.parametrize("after_s", [HOUR_S, 0], ids=["ahead", "put right"])
def test_a_living_worker_keeps_its_job_although_the_clock_of_redis_is_set(
    clocked: Stack, after_s: float
) -> None:
    let_pass(clocked, HOUR_S - after_s)
    job, _ = running_fit(clocked)
    set_clock(clocked.data, after_s)
    status = clocked.finished(job)
    assert (status["attempts"], status["earlier"]) == (1, [])
    assert status["enqueued_at"] <= status["started_at"] <= status["ended_at"]
