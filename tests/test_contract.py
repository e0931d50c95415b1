"""What `make contract` counts, and which answers it calls a problem."""

from __future__ import annotations

import pytest

from tests.faults.contract import Answer, Found


def found(*answers: Answer) -> Found:
    result = Found()
    result.answers.update(answers)
    return result


@pytest.mark.parametrize(
    ("status", "code"), [(404, "job_not_found"), (414, "uri_too_long"), (200, "")]
)
def test_documented_answers_are_no_problem(status: int, code: str) -> None:
    assert not found(Answer("coverage", "GET /status", status, code)).problems


@pytest.mark.parametrize(
    ("status", "code"),
    [(418, "teapot"), (414, "invalid_request"), (404, ""), (0, "")],
)
def test_status_without_a_documented_code_is_a_problem(status: int, code: str) -> None:
    (problem,) = found(Answer("coverage", "GET /status", status, code)).problems
    assert problem == f"GET /status: {status} {code!r} is not documented"


def test_operation_that_random_requests_never_reach_is_a_problem() -> None:
    result = found(
        Answer("fuzzing", "GET /status", 200, ""),
        Answer("fuzzing", "GET /keys", 403, "forbidden"),
    )
    assert result.problems == ["GET /keys never succeeded"]


def test_all_requests_count() -> None:
    answer = Answer("fuzzing", "GET /status", 200, "")
    result = found(answer, answer, answer._replace(phase="coverage"))
    assert (result.n_requests, result.n_fuzzed("GET /status")) == (3, 2)
