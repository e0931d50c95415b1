"""The hash of a job in Redis: what is parsed, what is written, and what a damaged field does."""

from __future__ import annotations

import json

import pytest

from rowcast.ids import new_id
from rowcast.jobs.estimates import Work
from rowcast.jobs.fields import JobFields

JOB_ID = new_id()
HASH = {b"owner": b"ann", b"kind": b"fit", b"status": b"queued", b"enqueued": b"1.5"}


def parsed(**more: str) -> JobFields | None:
    fields = {name.encode(): text.encode() for name, text in more.items()}
    return JobFields.parse(JOB_ID, {**HASH, **fields})


def test_what_is_submitted_is_parsed_again() -> None:
    job = JobFields(
        id=JOB_ID,
        owner="ann",
        kind="fit",
        work=Work("fit", "boosting", 100, 3, 0.5),
        expected_s=2.5,
        is_expected=True,
    )
    raw = {name.encode(): str(value).encode() for name, value in job.as_hash().items()}
    assert JobFields.parse(JOB_ID, {**HASH, **raw}) == job.model_copy(
        update={"enqueued": 1.5}
    )


def test_what_scripts_write_is_parsed() -> None:
    errors = [json.dumps({"attempt": n, "code": "worker_lost"}) for n in (1, 2)]
    job = parsed(attempt="3", attempt_errors="\n".join(errors), started="2.25")
    assert job is not None
    assert (job.attempt, job.started) == (3, 2.25)
    assert [error["attempt"] for error in job.attempt_errors] == [1, 2]


def test_unknown_job_has_no_fields() -> None:
    assert JobFields.parse(JOB_ID, {}) is None


@pytest.mark.parametrize("name", ["owner", "kind"])
def test_hash_of_another_program_has_no_fields(name: str) -> None:
    others = {key: text for key, text in HASH.items() if key != name.encode()}
    assert JobFields.parse(JOB_ID, others) is None


@pytest.mark.parametrize(
    "name",
    ["priority", "lane", "work", "progress", "attempt_errors", "started", "result_ttl"],
)
def test_damaged_field_has_its_default_and_the_job_is_not_lost(name: str) -> None:
    job = parsed(**{name: "?"})
    plain = parsed()
    assert job is not None
    assert job == plain
