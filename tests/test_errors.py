"""Every error has its own code, the documented status, and a hint that says what to do."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from rowcast import errors
from rowcast.errors import InvalidTable, JobFailure, RowcastError, all_errors

STATUS_OF_CODE = {
    "invalid_request": 400,
    "not_a_prediction": 400,
    "untrusted_host": 400,
    "unauthorized": 401,
    "cross_site_request": 403,
    "forbidden": 403,
    "key_not_found": 404,
    "not_found": 404,
    "dataset_not_found": 404,
    "model_not_found": 404,
    "job_not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "request_timeout": 408,
    "not_finished": 409,
    "model_not_ready": 409,
    "model_failed": 409,
    "job_canceled": 409,
    "idempotency_conflict": 409,
    "keys_not_used": 409,
    "dataset_changed": 409,
    "dataset_damaged": 409,
    "model_untrusted": 409,
    "model_incompatible": 409,
    "timed_out": 409,
    "out_of_memory": 409,
    "scratch_full": 409,
    "worker_lost": 409,
    "dependency_failed": 409,
    "job_ended": 409,
    "fit_ended": 409,
    "queue_full": 429,
    "rate_limited": 429,
    "quota_exceeded": 413,
    "dataset_too_large": 413,
    "request_too_large": 413,
    "model_too_large": 413,
    "uri_too_long": 414,
    "headers_too_large": 431,
    "unsupported_media_type": 415,
    "invalid_table": 422,
    "table_too_complex": 422,
    "too_many_rows": 422,
    "internal_error": 500,
    "object_damaged": 500,
    "online_worker_lost": 500,
    "not_ready": 503,
    "store_unavailable": 503,
    "queue_unavailable": 503,
    "no_online_worker": 503,
    "no_inspector": 503,
    "server_busy": 503,
    "signer_unavailable": 503,
}

each_error = pytest.mark.parametrize(
    "error", list(all_errors()), ids=lambda error: error.__name__
)


def test_codes_and_their_statuses_are_those_of_the_contract() -> None:
    assert {error.code: error.status for error in all_errors()} == STATUS_OF_CODE


def test_every_code_belongs_to_one_class() -> None:
    assert Counter(error.code for error in all_errors()).most_common(1)[0][1] == 1


@each_error
def test_docstring_of_the_module_draws_every_error_under_its_parent(
    error: type[RowcastError],
) -> None:
    names = re.findall(
        r"^([│├└─ ]*)(\w+)", str(errors.__doc__).partition("\n\n")[2], re.MULTILINE
    )
    depth_of = {name: len(branch) for branch, name in names}
    (parent,) = error.__bases__
    assert depth_of[error.__name__] == depth_of[parent.__name__] + 4


@each_error
def test_every_error_says_what_is_wrong_and_what_to_do(
    error: type[RowcastError],
) -> None:
    cause = error().cause()
    assert cause["detail"].strip()
    assert cause["hint"].endswith(".")


@each_error
def test_problem_has_the_members_of_the_contract(error: type[RowcastError]) -> None:
    problem = json.loads(
        json.dumps(error("This is wrong.", errors=["a", "b"]).problem("request-1"))
    )
    assert problem == {
        "type": f"urn:rowcast:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": "This is wrong.",
        "hint": error.hint,
        "errors": ["a", "b"],
        "request_id": "request-1",
    }


def test_hint_of_the_case_goes_before_that_of_the_class() -> None:
    assert InvalidTable("Wrong.", hint="Do this.").cause()["hint"] == "Do this."


def test_error_reads_as_its_detail() -> None:
    assert str(InvalidTable("The table is empty.")) == "The table is empty."


def test_list_of_problems_belongs_to_one_error_alone() -> None:
    problems = ["a"]
    first, second = InvalidTable("Wrong.", errors=problems), InvalidTable("Wrong.")
    problems.append("b")
    assert (first.errors, second.errors) == (["a"], [])


def test_failure_of_a_job_is_the_cause_in_its_record_and_conflicts_with_asking_for_its_result() -> (
    None
):
    cause = InvalidTable("Wrong.", hint="Do this.", errors=["a"]).cause()
    failure = JobFailure.of(cause)
    assert failure.cause() == cause
    assert failure.problem()["status"] == 409
    assert JobFailure.code != "invalid_table"


def test_what_a_caller_makes_long_is_cut() -> None:
    error = InvalidTable("d" * 5_000, hint="h" * 5_000, errors=["e" * 5_000])
    texts = [error.detail, error.hint, error.errors[0]]
    assert [(len(text), text[-4:]) for text in texts] == [
        (errors.MAX_DETAIL_CHARACTERS, f"{name}...") for name in "dhe"
    ]


@pytest.mark.parametrize(
    ("problem", "n_listed"), [("short", 100), ("p" * 500, 33)], ids=["many", "long"]
)
def test_only_the_first_problems_are_listed(problem: str, n_listed: int) -> None:
    listed = InvalidTable("Bad.", errors=[problem] * 5_000).errors
    assert len(listed) == n_listed
    assert set(listed[:-1]) == {problem}
    assert listed[-1] == f"There are {5_000 - n_listed + 1:,} more problems."


def test_100_problems_are_all_listed() -> None:
    problems = [f"problem {number}" for number in range(errors.MAX_ERRORS)]
    assert InvalidTable("Bad.", errors=problems).errors == problems
