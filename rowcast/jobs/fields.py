"""The hash of a job in Redis: declared once, parsed and written here.

RQ keeps fields of its own in the same hash, such as `data` and `timeout`. They are left to RQ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from rowcast.config import DEFAULT_JOB_TTL_S, DEFAULT_MAX_ATTEMPTS
from rowcast.jobs import earlier_version
from rowcast.jobs.estimates import Lane, Work
from rowcast.store import JobRef, Kind

Priority = Literal["low", "normal", "high"]

# Without these a job cannot be run or ended.
_ESSENTIAL = frozenset({"id", "owner", "kind", "attempt"})
# The key of the hash, RQ's fields, and what the scripts of queue.lua write.
_NOT_SUBMITTED = {
    *("id", "status", "result_ttl", "enqueued", "started", "ended", "attempt"),
    *(
        "queued_behind",
        "closing_attempts",
        "crashes",
        "attempt_errors",
        "progress",
        "record",
    ),
}


def _from_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _from_json_lines(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [json.loads(line) for line in value.splitlines()]


def _work_from_json(value: Any) -> Any:
    return earlier_version.work_of(_from_json(value))


Json = Annotated[dict[str, Any] | None, BeforeValidator(_from_json)]
JsonLines = Annotated[list[dict[str, Any]], BeforeValidator(_from_json_lines)]
JsonWork = Annotated[Work | None, BeforeValidator(_work_from_json)]


class JobFields(BaseModel):
    """What Redis knows of a job.

    Times are Unix seconds. `attempt` counts starts; `closing_attempts` of them only ended the job,
    and `crashes` of them died. `confirmed_attempt` is the last one that was about to run.
    `queued_behind` is how many more jobs of the owner were queued when it was last taken.
    `expected_s` is how long the job should take, `is_expected` whether earlier jobs say so.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    # Written when the job is submitted.
    owner: str
    kind: Kind
    status: str = "queued"
    request_id: str | None = None
    lane: Lane = "long"
    priority: Priority = "normal"
    work: JsonWork = None
    expected_s: float | None = None
    is_expected: bool = False
    dataset_id: str | None = None
    dataset_bytes: int = 0
    model_id: str | None = None
    waits_for: str | None = None
    callback_url: str | None = None
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    result_ttl: int = DEFAULT_JOB_TTL_S
    # Written by the scripts of queue.lua.
    enqueued: float | None = None
    started: float | None = None
    ended: float | None = None
    attempt: int = 0
    queued_behind: int = 0
    closing_attempts: int = 0
    crashes: int = 0
    attempt_errors: JsonLines = []
    progress: Json = None
    record: Json = None

    @classmethod
    def parse(cls, job_id: str, raw: Mapping[bytes, bytes]) -> JobFields | None:
        """Return a job's fields; None where the hash is empty, or no job of ours."""
        if not raw:
            return None
        text = {
            name.decode(): value.decode("utf-8", "replace")
            for name, value in raw.items()
        }
        fields = earlier_version.in_new_form(job_id, raw, text)
        try:
            return cls.model_validate({**fields, "id": job_id})
        except ValidationError as error:
            invalid = {str(problem["loc"][0]) for problem in error.errors()}
        if invalid & _ESSENTIAL:
            return None
        # A damaged field that only informs must not lose the job: its default stands in.
        valid = {name: text for name, text in fields.items() if name not in invalid}
        return cls.model_validate({**valid, "id": job_id})

    @property
    def ref(self) -> JobRef:
        """The job as the store knows it."""
        return JobRef(self.owner, self.kind, self.id)

    @property
    def is_background(self) -> bool:
        """Whether nobody waits for this job alone: it is long, or more of the owner's wait."""
        return self.lane == "long" or self.queued_behind > 0

    def as_hash(self) -> dict[str, str | int | float]:
        """Return the fields as the hash of a new job holds them; scripts add the others."""
        given = self.model_dump(exclude=_NOT_SUBMITTED, exclude_none=True)
        return {name: _as_text(value) for name, value in given.items()}


def _as_text(value: Any) -> str | int | float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return json.dumps(value)
    return value if isinstance(value, int | float) else str(value)
