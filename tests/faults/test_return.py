"""After outages of a minute no job is lost or done twice, and nothing half-written is visible."""

from __future__ import annotations

import pytest

from tests.faults.long_outages import Seen, begin
from tests.support.stack import StartStack


@pytest.fixture
def redis_hangs(start_lasting_stack: StartStack) -> Seen:
    return begin(start_lasting_stack)["redis_hangs"].seen.result()


@pytest.fixture
def store_hangs(start_lasting_stack: StartStack) -> Seen:
    return begin(start_lasting_stack)["store_hangs"].seen.result()


@pytest.fixture
def store_is_down(start_lasting_stack: StartStack) -> Seen:
    return begin(start_lasting_stack)["store_is_down"].seen.result()


def ends(statuses: list[dict[str, object]]) -> list[object]:
    return [status["status"] for status in statuses]


def test_fits_that_end_while_redis_hangs_are_not_run_again(redis_hangs: Seen) -> None:
    assert ends(redis_hangs["running"]) == ["finished"] * 2
    assert [
        (status["attempts"], status["earlier"]) for status in redis_hangs["running"]
    ] == [(1, [])] * 2


def test_jobs_that_wait_while_redis_hangs_run_afterwards(redis_hangs: Seen) -> None:
    assert ends(redis_hangs["waiting"]) == ["finished"] * 3
    assert [status["earlier"] for status in redis_hangs["waiting"]] == [[]] * 3


def test_clients_that_wait_while_redis_hangs_get_their_answer(
    redis_hangs: Seen,
) -> None:
    assert redis_hangs["answers"] == ["finished"] * 2


def test_a_fit_to_be_published_while_the_store_hangs_is_not_fitted_again(
    store_hangs: Seen,
) -> None:
    status = store_hangs["published"]
    assert (status["status"], status["attempts"], status["earlier"]) == (
        "finished",
        1,
        [],
    )


def test_jobs_that_wait_while_the_store_hangs_run_afterwards(store_hangs: Seen) -> None:
    assert ends(store_hangs["waiting"]) == ["finished"] * 2


def test_a_download_during_which_the_store_hangs_is_whole(store_hangs: Seen) -> None:
    assert store_hangs["is_whole"]


def test_an_upload_that_the_death_of_the_store_broke_off_is_invisible(
    store_is_down: Seen,
) -> None:
    assert store_is_down["half of an upload"] == []
    arrived, sent = store_is_down["bytes"]
    assert arrived == sent


def test_a_fit_whose_model_was_half_uploaded_when_the_store_died_is_not_fitted_again(
    store_is_down: Seen,
) -> None:
    status = store_is_down["published"]
    assert (status["status"], status["attempts"], status["earlier"]) == (
        "finished",
        1,
        [],
    )
    assert len(store_is_down["result"]) == 3_000


def test_jobs_that_start_while_the_store_is_down_wait_for_it(
    store_is_down: Seen,
) -> None:
    assert ends(store_is_down["waiting"]) == ["finished"] * 2
    causes = {
        cause["code"]
        for status in store_is_down["waiting"]
        for cause in status["earlier"]
    }
    assert causes <= {"store_unavailable"}


def test_jobs_that_end_while_the_store_is_down_end_immediately_and_are_stored_later(
    store_is_down: Seen,
) -> None:
    failed, canceled = store_is_down["failed in it"], store_is_down["canceled in it"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "timed_out")
    assert canceled["status"] == "canceled"
    assert store_is_down["as stored"] == [failed, canceled]
