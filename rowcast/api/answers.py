"""The answers of all routes, which `/docs` shows and tests compare with the documents."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rowcast.access import Scope
from rowcast.jobs import Priority, Status, log
from rowcast.learning import Phase, learners
from rowcast.store import Kind

GoneAt = Annotated[
    float | None,
    Field(
        description="When it is removed, in Unix seconds, unless a job needs it then; null: never."
    ),
]


class Answer(BaseModel):
    """A JSON answer."""


class UploadAnswer(Answer):
    """Where to PUT a table's bytes."""

    id: str = Field(description="The dataset's id.")
    exists: bool = Field(description="Whether the dataset already holds these bytes.")
    url: str | None = Field(
        description="PUT the table's bytes here, or POST them with `fields`; null for a dataset "
        "that exists."
    )
    fields: dict[str, str] | None = Field(
        None,
        description="With `form` alone: the fields of the form before the last one, `file`; null "
        "for a dataset that exists.",
    )
    expires_at: float | None = Field(
        description="When the url ends, in Unix seconds; null without one."
    )


class JobAnswer(Answer):
    """A job that was accepted, or an earlier one that had the same outcome."""

    id: str = Field(
        description="The id of the job, and of the model or result it makes."
    )
    reused: bool = Field(
        description="Whether it is an earlier job, which has finished."
    )


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(description="A stable word to branch on.")
    detail: str
    hint: str = Field(description="What to do.")
    errors: list[str] = Field(description="All problems.")


class Attempt(BaseModel):
    """Why an earlier attempt did not end the job."""

    attempt: int = Field(description="From 1.")
    code: str = Field(description="A stable word to branch on.")
    detail: str
    at: float = Field(description="Unix seconds.")


class Progress(BaseModel):
    """How far a running job is. Counts are those of the phase, null while they are unknown."""

    phase: Phase
    percent: float = Field(
        ge=0, le=100, description="Of the whole job: an estimate that never falls."
    )
    rows_done: int | None
    rows_total: int | None
    iterations_done: int | None = Field(
        description="Of the learner, or candidates compared; in a cross-validation, of all folds."
    )
    iterations_total: int | None = Field(
        description="At most; a learner may stop earlier."
    )
    best_loss: float | None = Field(
        None, description="The lowest loss of the candidates compared so far."
    )


class StatusAnswer(Answer):
    """How a job is doing. Times are Unix seconds."""

    id: str
    kind: Kind
    status: Status
    enqueued_at: float | None
    started_at: float | None
    ended_at: float | None
    attempts: int = Field(description="How often the job was started.")
    earlier: list[Attempt] = Field(description="The attempts that did not end it.")
    priority: Priority
    position: int | None = Field(
        description="Your jobs ahead of it in its lane; null once started, and while its model "
        "is fitted."
    )
    progress: Progress | None = Field(description="Null unless it runs.")
    eta_s: float | None = Field(
        description="Seconds until its end, an estimate; null while unknown."
    )
    dataset_id: str | None
    model_id: str | None
    error: JobError | None


class JobsAnswer(Answer):
    """A page of jobs, newest first, each as /status answers."""

    jobs: list[StatusAnswer]
    next: str | None = Field(
        description="Ask for the next page with before=<this>; null at the end."
    )


class LogAnswer(Answer):
    """What a job has logged, for its owner."""

    id: str
    lines: list[str] = Field(
        max_length=log.MAX_LINES,
        description=f"The last {log.MAX_LINES} at most: a time (UTC), a level and a sentence each.",
    )


class ResultAnswer(Answer):
    """Where to GET the predictions, a row for each row of the dataset."""

    url: str
    expires_at: float = Field(description="When the url ends, in Unix seconds.")
    sha256: str = Field(description="Of the predictions, in hexadecimal.")
    size: int = Field(description="Their bytes.")


class Memory(Answer):
    """The memory that Redis uses, and the most that it may (maxmemory); 0: no limit."""

    used_bytes: int
    max_bytes: int


class Ready(Answer):
    """The parts behind the service answer."""

    status: Literal["ready"] = "ready"
    redis: Memory


class Alive(Answer):
    """The process is up."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """An error, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(
        description="A stable word to branch on; docs/errors.md lists them."
    )
    hint: str = Field(description="What to do.")
    errors: list[str] = Field(description="All problems, not the first.")
    limit: int = Field(
        0, description="Of 429 and 413 alone: the limit that is reached."
    )
    usage: int = Field(0, description="Of 429 and 413 alone: what is used of it.")
    request_id: str | None


class Score(BaseModel):
    """How good a model is on rows that it was not trained on."""

    metric: Literal["accuracy", "r2"]
    value: float


class ModelLine(BaseModel):
    """A finished model in short."""

    id: str
    created_at: float = Field(description="Unix seconds.")
    dataset_id: str
    target: str
    task: learners.Task
    learner: str
    n_rows: int = Field(description="The rows it was trained on.")
    score: Score | None = Field(description="Null for a model that was not validated.")


class ModelsAnswer(Answer):
    """A page of models, newest first."""

    models: list[ModelLine]
    next: str | None = Field(
        description="Ask for the next page with before=<this>; null at the end."
    )


class ModelAnswer(Answer):
    """A model's manifest: what it was trained on, how, and how good it is."""

    model_config = ConfigDict(extra="allow")

    id: str
    expires_at: GoneAt


class FileAnswer(Answer):
    """Where to GET a model's file, and what must come."""

    url: str
    expires_at: float = Field(description="When the url ends, in Unix seconds.")
    sha256: str = Field(description="In hexadecimal.")
    size: int = Field(description="Bytes.")


class ModelFileAnswer(FileAnswer):
    """Where to GET a model's file, and the proof that the service made it.

    The signature is that of the canonical JSON of `["rowcast model", owner, id, attempt, digest]`,
    with the SHA-256 of `manifest` as `digest`.
    """

    id: str
    owner: str
    attempt: int
    manifest: str = Field(
        description="The model's manifest as JSON, exactly as it was signed."
    )
    key_id: str | None = Field(
        description="The signing key, see /signing_keys; null: an earlier version signed the "
        "model, by a key that only workers have."
    )
    signature: str | None = Field(description="Ed25519 (RFC 8032), in base64.")


class SigningKey(BaseModel):
    """A key that verifies models."""

    key_id: str
    public_key: str = Field(
        description="`ed25519-public-`, then 32 bytes in base64url without padding."
    )


class SigningKeysAnswer(Answer):
    """The keys that verify models: the current one, and earlier ones."""

    keys: list[SigningKey]


class DatasetLine(BaseModel):
    """An uploaded dataset."""

    id: str
    size: int = Field(description="Bytes.")
    uploaded_at: float | None = Field(
        description="Unix seconds; null where the store does not say."
    )
    expires_at: GoneAt


class DatasetsAnswer(Answer):
    """A page of datasets, newest first."""

    datasets: list[DatasetLine]
    next: str | None = Field(
        description="Ask for the next page with before=<this>; null at the end."
    )


class ResultManifest(Answer):
    """A result's manifest: what was predicted, with which model."""

    model_config = ConfigDict(extra="allow")

    id: str
    expires_at: GoneAt


class MeAnswer(Answer):
    """Who the caller is."""

    owner: str = Field(description="Whose datasets, models and jobs it sees.")
    key_id: str | None = Field(description="Null for a caller without a key.")
    key_name: str | None = Field(description="API_KEYS for a key of that setting.")
    scopes: list[Scope] = Field(description="What the key may do.")
    expires_at: float | None = Field(
        description="When the key ends, in Unix seconds; null: never."
    )
    version: str = Field(description="The version of the service.")
    limits: dict[str, int] = Field(
        description="What the owner may have, and requests a minute of a key; 0: no limit."
    )
    usage: dict[str, int] = Field(
        description="What the owner has of each quota; requests are in the header RateLimit."
    )


class KeyLine(BaseModel):
    """An API key, without the key itself. Times are Unix seconds."""

    id: str
    owner: str
    name: str
    scopes: list[Scope]
    created_at: float
    expires_at: float | None = Field(description="Null: never.")
    revoked_at: float | None = Field(description="Null for a key that was not revoked.")
    last_used_at: float | None = Field(
        description="To about a minute; null for a key that was never used."
    )


class KeysAnswer(Answer):
    """A page of keys, newest first."""

    keys: list[KeyLine]
    next: str | None = Field(
        description="Ask for the next page with before=<this>; null at the end."
    )


class NewKeyAnswer(KeyLine):
    """A new API key."""

    key: str = Field(description="The key itself. Nothing shows it again.")
