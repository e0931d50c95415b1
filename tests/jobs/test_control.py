"""What an owner can do with jobs: cancel them, order them, bound them, predict before the model is
there."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rowcast.jobs import estimates
from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import slow_table, table
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def one(start_stack: StartStack) -> Stack:
    """Return a stack with one worker, so that a slow job keeps the others waiting."""
    return start_stack(workers=1, SHORT_WORKERS="0")


def slow_fit(stack: Stack, **params: str) -> str:
    """Return a fit that has started, goes on for long, and is expected to."""
    job = stack.fit(
        slow_table(), validation="cv", params='{"max_iter": 10000}', **params
    )
    eventually(lambda: stack.status(job)["status"] == "started" and stack.horses())
    return job


def canceled(stack: Stack, job: str) -> dict[str, object]:
    answer = stack.post("/cancel", id=job)
    assert answer.status_code == 200, answer.text
    status: dict[str, object] = answer.json()
    assert status["status"] == "canceled"
    return status


def test_a_canceled_running_job_frees_its_core_within_a_second(one: Stack) -> None:
    job = slow_fit(one)
    (horse,) = one.horses()
    canceled(one, job)
    eventually(
        lambda: not horse.is_running() or horse.status() == "zombie", timeout_s=3
    )
    status = one.wait(job)
    assert (status["status"], status["error"]) == ("canceled", None)
    one.finished(one.fit(table(100, 3)))


def test_a_canceled_job_stays_canceled_and_leaves_only_its_record(one: Stack) -> None:
    job = slow_fit(one)
    status = canceled(one, job)
    eventually(lambda: not one.horses())
    assert canceled(one, job) == status
    assert one.storage().names("models", "default", job) == ["canceled"]
    one.redis().flushall()
    assert one.status(job) == status
    assert one.get(f"/models/{job}").json()["code"] == "model_failed"


def test_a_canceled_job_never_starts(one: Stack) -> None:
    running = slow_fit(one)
    waiting = one.fit(table())
    assert canceled(one, waiting)["attempts"] == 0
    canceled(one, running)
    one.finished(one.fit(table(100, 3)))
    assert one.status(waiting)["status"] == "canceled"


def test_canceling_a_job_that_has_ended_changes_nothing(one: Stack) -> None:
    finished = one.fitted(table(100, 3))
    failed = one.fit(table(100, 3).assign(y=1.5), task="classification")
    before = [one.finished(finished), one.wait(failed)]
    for job in (finished, failed):
        answer = one.post("/cancel", id=job)
        assert (answer.status_code, answer.json()["code"]) == (409, "job_ended")
    assert [one.status(finished), one.status(failed)] == before
    assert one.get(f"/models/{finished}").status_code == 200


def test_a_job_that_nobody_knows_cannot_be_canceled(one: Stack) -> None:
    answer = one.post("/cancel", id="01a20767-aca3-73f1-8125-5e2a6f7d6e75")
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


def test_a_result_that_was_canceled_is_a_409(one: Stack, big_rows: bytes) -> None:
    model = one.fitted(table(500, 3), params='{"max_iter": 1000}')
    job = submitted(
        one.post("/predict", dataset_id=one.upload(big_rows), model_id=model)
    )
    eventually(lambda: one.status(job)["status"] == "started")
    canceled(one, job)
    answer = one.get("/result", id=job)
    assert (answer.status_code, answer.json()["code"]) == (409, "job_canceled")


@pytest.fixture(scope="module")
def big_rows() -> bytes:
    """Return a table that takes seconds to predict."""
    from tests.support.tables import parquet

    return parquet(table(400_000, 3))


def test_many_cancels_at_once_agree(one: Stack) -> None:
    running = slow_fit(one)
    waiting = [one.fit(table(100, 3)) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job: canceled(one, job), [running, *waiting] * 3))
    one.finished(one.fit(table(100, 3)))


def test_a_prediction_may_be_submitted_before_its_model_is_there(one: Stack) -> None:
    fit = one.fit(slow_table(), validation="none")
    job = submitted(
        one.post("/predict", dataset_id=one.upload(slow_table()), model_id=fit)
    )
    status = one.status(job)
    assert (status["status"], status["started_at"]) == ("queued", None)
    # While it waits it holds no worker: one that was submitted later runs before it can.
    assert one.status(fit)["status"] in ("queued", "started")
    assert len(one.result(job)) == 3_000
    assert one.status(fit)["ended_at"] <= one.status(job)["started_at"]


def test_what_shows_only_in_the_model_is_the_failure_of_a_job_that_waited_for_it(
    one: Stack,
) -> None:
    fit = slow_fit(one)
    canceled(one, fit)
    fit = one.fit(slow_table(), validation="none")
    rows = one.upload(table(100, 3).rename(columns=str.upper))
    jobs = [
        submitted(one.post("/predict", dataset_id=rows, model_id=fit)),
        submitted(
            one.post("/predict", dataset_id=rows, model_id=fit, output="quantiles")
        ),
    ]
    causes = [one.wait(job)["error"]["code"] for job in jobs]
    assert causes == ["invalid_table", "invalid_request"]


@pytest.mark.parametrize("how", ["canceled", "failed"])
def test_the_dependants_of_a_fit_without_a_model_end_dependency_failed(
    one: Stack, how: str
) -> None:
    blocker = slow_fit(one)
    fit = one.fit(table(200, 3).assign(y="only one class"))
    jobs = [one.predict(table(100, 3), fit) for _ in range(2)]
    if how == "canceled":
        canceled(one, fit)
    canceled(one, blocker)
    for job in jobs:
        status = one.wait(job)
        assert (status["status"], status["error"]["code"]) == (
            "failed",
            "dependency_failed",
        )
        assert fit in status["error"]["detail"]
        eventually(
            lambda it=job: (
                one.storage().names("results", "default", it) == ["record/0.json"]
            )
        )


def test_a_job_may_ask_for_less_time_and_not_for_more(one: Stack) -> None:
    job = one.fit(
        slow_table(), validation="none", params='{"max_iter": 2000}', timeout_s="1"
    )
    status = one.wait(job)
    assert (status["status"], status["error"]["code"]) == ("failed", "timed_out")
    assert "1 s" in status["error"]["detail"]
    answer = one.post("/fit", id=one.upload(table()), timeout_s="3601")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "3600" in answer.json()["detail"]


def test_priority_orders_the_jobs_of_an_owner(one: Stack) -> None:
    blocker = slow_fit(one)
    jobs = {
        priority: one.fit(table(100, 3), priority=priority)
        for priority in ("low", "normal", "high")
    }
    assert [
        one.status(jobs[each])["position"] for each in ("high", "normal", "low")
    ] == [0, 1, 2]
    canceled(one, blocker)
    started = {each: one.finished(job)["started_at"] for each, job in jobs.items()}
    assert started["high"] < started["normal"] < started["low"]


def test_owners_take_turns(start_stack: StartStack) -> None:
    stack = start_stack(
        workers=1, SHORT_WORKERS="0", API_KEYS="ann:key-of-ann,bob:key-of-bob"
    )
    ann = {"Authorization": "Bearer key-of-ann"}
    stack.headers = ann
    dataset = stack.upload(table(100, 3))
    with ThreadPoolExecutor(4) as pool:
        of_ann = list(
            pool.map(lambda _: submitted(stack.post("/fit", id=dataset)), range(200))
        )
    stack.headers = {"Authorization": "Bearer key-of-bob"}
    of_bob = stack.fit(table(100, 3))
    enqueued_at = stack.finished(of_bob)["enqueued_at"]
    started_at = stack.status(of_bob)["started_at"]
    stack.headers = ann
    statuses = [stack.status(job) for job in of_ann]
    starts = [status["started_at"] for status in statuses if status["started_at"]]
    assert len([each for each in starts if enqueued_at < each < started_at]) <= 2
    stack.stop()


def test_a_queue_that_is_full_is_a_429_and_loses_nothing(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1, SHORT_WORKERS="0", MAX_QUEUED_PER_OWNER="3")
    blocker = slow_fit(stack)
    dataset = stack.upload(table(100, 3))
    jobs = [submitted(stack.post("/fit", id=dataset)) for _ in range(3)]
    answer = stack.post("/fit", id=dataset)
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer.headers["Retry-After"]) >= 1
    canceled(stack, blocker)
    for job in jobs:
        stack.finished(job)
    stack.finished(submitted(stack.post("/fit", id=dataset)))
    stack.stop()


def test_a_job_that_stands_nowhere_is_put_back(one: Stack) -> None:
    blocker = slow_fit(one)
    job = one.fit(table(100, 3))
    connection = one.redis()
    for key in connection.scan_iter("rowcast:lane:*"):
        connection.delete(key)
    canceled(one, blocker)
    started = time.monotonic()
    one.finished(job)
    assert time.monotonic() - started < 30


def test_without_workers_for_short_jobs_the_lanes_take_turns(one: Stack) -> None:
    running = slow_fit(one)
    rows = one.upload(slow_table())
    long = [
        submitted(
            one.post("/fit", id=rows, params='{"max_iter": 10000}', validation="cv")
        )
        for _ in range(2)
    ]
    short = one.fit(table(100, 3), learner="baseline")
    queue = [one.redis().hget(f"rq:job:{job}", "lane") for job in (*long, short)]
    assert queue == [b"long", b"long", b"short"]
    canceled(one, running)
    assert one.finished(short)
    assert "queued" in [one.status(job)["status"] for job in long]
    for job in long:
        canceled(one, job)


def test_a_job_that_was_wrongly_expected_to_be_short_makes_way_for_those_that_are(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1)
    blocker = slow_fit(stack)
    # As if earlier jobs of that size had been short.
    effort = estimates.effort_of("boosting", {"max_iter": 3000}, "none")
    work = estimates.Work("fit", "boosting", 3_000, 21, effort)
    estimates.note(stack.redis(), work, 0.5)
    job = stack.fit(slow_table(), validation="none", params='{"max_iter": 3000}')
    eventually(lambda: stack.status(job)["status"] == "started")
    short = stack.fit(table(100, 3))
    stack.finished(short)
    # It waits behind the other long one again, and that was no death.
    status = stack.status(job)
    assert (status["status"], status["attempts"]) == ("queued", 1)
    assert [cause["code"] for cause in status["earlier"]] == ["not_short"]
    assert stack.status(blocker)["status"] == "started"
    canceled(stack, job)
    canceled(stack, blocker)
    stack.stop()
