"""The order of a job: what a worker reads from the job's hash and sends to a work horse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
import rq.job
from pydantic import BaseModel, ConfigDict
from rq.exceptions import DeserializationError, NoSuchJobError

from rowcast.ids import time_of
from rowcast.jobs import JobFields, service

# What RQ and `uuid` raise for a hash or an id that Rowcast did not write.
_MALFORMED = (
    AssertionError,
    AttributeError,
    DeserializationError,
    KeyError,
    NoSuchJobError,
    TypeError,
    ValueError,
)


class Order(BaseModel):
    """A job to run: its fields, the arguments of its function in `ml.py`, and its time limit.

    It is sent as one line of JSON: `{"job": {...}, "arguments": {...}, "timeout_s": 3600}`.
    """

    model_config = ConfigDict(frozen=True)

    job: JobFields
    arguments: dict[str, Any]
    timeout_s: int | None

    def as_line(self) -> bytes:
        """Return the order as a line of JSON."""
        return self.model_dump_json().encode() + b"\n"


def read(
    job_id: str, raw: Mapping[bytes, bytes], connection: redis.Redis
) -> Order | None:
    """Return the order that a job's hash holds; None for a hash that Rowcast did not write.

    A hash may name any function, if somebody else writes to Redis. Rowcast runs only two, for jobs
    that have an owner and an id of its own.
    """
    try:
        return _read(job_id, raw, connection)
    except _MALFORMED:
        return None


def _read(
    job_id: str, raw: Mapping[bytes, bytes], connection: redis.Redis
) -> Order | None:
    fields = JobFields.parse(job_id, raw)
    if fields is None or not fields.owner or time_of(job_id) is None:
        return None
    # RQ keeps the name of the function, its arguments and the time limit in the same hash.
    rq_job = rq.job.Job(job_id, connection=connection, serializer="json")
    rq_job.restore(raw)
    if rq_job.func_name != service.FUNCTIONS[fields.kind]:
        return None
    timeout_s = int(rq_job.timeout) if rq_job.timeout else None
    return Order(job=fields, arguments=rq_job.kwargs, timeout_s=timeout_s)
