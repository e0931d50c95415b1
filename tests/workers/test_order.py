"""The order of a job: read from its hash, sent as a line; hashes that Rowcast did not write."""

from __future__ import annotations

from typing import Any

import pytest
import redis
import rq.job

from rowcast.ids import new_id
from rowcast.jobs import JobFields
from rowcast.workers import order
from rowcast.workers.order import Order

JOB_ID = new_id()
ARGUMENTS = {"dataset_id": "a dataset", "model_id": JOB_ID, "options": {}}
NO_CONNECTION = redis.Redis(host="127.0.0.1", port=9)


def hash_of(function: str = "ml.fit", job_id: str = JOB_ID) -> dict[bytes, bytes]:
    """Return the hash of a fit as Redis holds it."""
    rq_job = rq.job.Job.create(
        function,
        kwargs=ARGUMENTS,
        id=job_id,
        connection=NO_CONNECTION,
        serializer="json",
        timeout=60,
    )
    fields = JobFields(id=job_id, owner="ann", kind="fit")
    written: dict[str, Any] = {**rq_job.to_dict(), **fields.as_hash()}
    written |= {"status": "started", "attempt": 2}
    return {
        name.encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in written.items()
    }


def read(raw: dict[bytes, bytes], job_id: str = JOB_ID) -> Order | None:
    return order.read(job_id, raw, NO_CONNECTION)


def test_order_is_read_from_the_hash_of_a_job() -> None:
    found = read(hash_of())
    assert found is not None
    assert (found.job.id, found.job.owner, found.job.attempt) == (JOB_ID, "ann", 2)
    assert (found.arguments, found.timeout_s) == (ARGUMENTS, 60)


def test_order_survives_its_line() -> None:
    found = read(hash_of())
    assert found is not None
    line = found.as_line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Order.model_validate_json(line) == found


@pytest.mark.parametrize("function", ["os.mkdir", "ml.predict"])
def test_other_function_than_that_of_the_kind_is_refused(function: str) -> None:
    assert read(hash_of(function)) is None


def test_job_with_an_id_of_another_kind_is_refused() -> None:
    foreign = "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert read(hash_of(job_id=foreign), foreign) is None


@pytest.mark.parametrize(
    "changes",
    [{b"owner": b""}, {b"data": b"garbage"}, {b"timeout": b"soon"}, {b"kind": b"x"}],
)
def test_hash_that_rowcast_did_not_write_is_refused(
    changes: dict[bytes, bytes],
) -> None:
    assert read({**hash_of(), **changes}) is None
    assert read({}) is None
