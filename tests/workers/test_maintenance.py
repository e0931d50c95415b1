"""Maintenance as a process of its own, apart from the workers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.breaking import kill
from tests.support import ROOT
from tests.support.stack import Stack, StartStack
from tests.support.tables import slow_table
from tests.support.waiting import eventually

TTL_S = 4


@contextmanager
def maintaining(stack: Stack) -> Iterator[str]:
    """Run `maintenance.py` with the environment of the stack's workers; yield its name."""
    environment = stack.part("worker").environ()
    with subprocess.Popen(
        [sys.executable, "maintenance.py"], cwd=ROOT, env=environment
    ) as process:
        yield str(process.pid)
        process.terminate()
    assert process.returncode == 0


def is_healthy(stack: Stack) -> bool:
    found = subprocess.run(
        [sys.executable, ROOT / "deploy" / "health" / "maintenance.py"],
        env={"REDIS_URL": stack.settings().redis_url.get_secret_value()},
        capture_output=True,
        check=False,
    )
    return found.returncode == 0


def test_maintenance_apart_from_the_workers_recovers_their_lost_jobs(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1, MAINTENANCE="false", WORKER_TTL_S=str(TTL_S))
    assert not is_healthy(stack)
    job = stack.fit(slow_table(), validation="none", params='{"max_iter": 60}')
    horse = eventually(stack.horses, timeout_s=40)[0]
    kill(horse.parent(), horse)
    with maintaining(stack):
        status = stack.finished(job)
        assert [cause["code"] for cause in status["earlier"]] == ["worker_lost"]
        eventually(lambda: is_healthy(stack))
