"""What a worker sees of its running job: memory, scratch space and progress."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.stack import Stack, StartStack
from tests.support.tables import slow_table, table
from tests.support.waiting import eventually


def test_a_fit_with_too_little_memory_ends_out_of_memory_and_its_worker_lives(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1, SHORT_WORKERS="0", JOB_MEMORY_BYTES="250000000")
    stack.finished(stack.fit(table(100, 3)))
    workers = {child.pid for child in stack.part("worker").children()}
    big = pd.DataFrame(
        np.random.default_rng(0).random((1_000_000, 30)),
        columns=[f"c{i}" for i in range(30)],
    )
    status = stack.wait(
        stack.fit(big.assign(y=1.0 * (big["c0"] > 0.5)), validation="none")
    )
    assert (status["status"], status["error"]["code"]) == ("failed", "out_of_memory")
    assert "250 MB" in status["error"]["detail"]
    assert status["attempts"] == 1
    stack.finished(stack.fit(table(100, 3)))
    assert {child.pid for child in stack.part("worker").children()} == workers
    stack.stop()


def test_a_job_whose_files_take_too_much_space_ends_scratch_full(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1, SHORT_WORKERS="0", JOB_SCRATCH_BYTES="100000")
    slow = slow_table()
    status = stack.wait(stack.fit(slow, validation="none", params='{"max_iter": 2000}'))
    assert (status["status"], status["error"]["code"]) == ("failed", "scratch_full")
    eventually(lambda: not list((stack.data / "scratch").glob("job-*")))
    stack.finished(stack.fit(table(100, 3)))
    stack.stop()


def test_a_running_fit_reports_its_progress(stack: Stack) -> None:
    job = stack.fit(slow_table(), validation="none", params='{"max_iter": 400}')
    seen: list[dict[str, Any]] = []

    def has_iterated() -> bool:
        progress = stack.status(job)["progress"]
        if progress:
            seen.append(progress)
        return bool(
            progress
            and progress["iterations_done"]
            and progress["iterations_done"] > 20
        )

    eventually(has_iterated, timeout_s=40)
    assert seen[-1]["phase"] == "fitting"
    assert seen[-1]["iterations_total"] == 400
    assert 0 < seen[-1]["percent"] < 100
    assert [each["percent"] for each in seen] == sorted(
        each["percent"] for each in seen
    )
    # No earlier job of this kind is known, so the progress gives the estimate.
    assert stack.status(job)["eta_s"] > 0
    stack.post("/cancel", id=job).raise_for_status()
    assert (stack.status(job)["progress"], stack.status(job)["eta_s"]) == (None, None)


def test_earlier_jobs_give_the_estimate_of_a_job_of_similar_size(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1, SHORT_WORKERS="0")
    dataset = stack.upload(slow_table())

    def fit() -> str:
        params = '{"max_iter": 30}'
        answer = stack.post("/fit", id=dataset, validation="none", params=params)
        return str(answer.json()["id"])

    took_s = []
    for _ in range(2):
        status = stack.finished(fit())
        took_s.append(status["ended_at"] - status["started_at"])
    job = fit()
    first = eventually(lambda: stack.status(job)["eta_s"])
    assert first == pytest.approx(took_s[-1], rel=0.9)
    stack.finished(job)
    stack.stop()
