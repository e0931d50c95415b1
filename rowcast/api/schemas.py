"""What goes over the wire: requests that are checked by declaration, answers that /docs shows."""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from rowcast.learning import LEARNERS, Phase

# The sums of far larger weights are no numbers any more.
_MAX_WEIGHT = 1e12


def _canonical(value: Any) -> str:
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            "it must be an id, a UUID like 01a20767-aca3-73f1-8125-5e2a6f7d6e75"
        ) from None


def _from_json(value: Any) -> Any:
    """Read an object or a list that came as JSON text in the query string."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list | str):
        value = value[0]
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("it must be JSON") from None


def _listed(value: Any) -> Any:
    """Read a list that came as JSON, or a single item."""
    value = _from_json(value)
    return [value] if isinstance(value, str | float | int) else value


def _class_weight(value: Any) -> Any:
    value = _from_json(value)
    is_object = isinstance(value, dict) and all(
        isinstance(weight, int | float)
        and not isinstance(weight, bool)
        and 0 <= weight <= _MAX_WEIGHT
        for weight in value.values()
    )
    if value in (None, "balanced") or is_object:
        return value
    raise ValueError(
        "it must be balanced, or a JSON object of classes and weights from 0 to 1e12"
    )


Id = Annotated[
    str,
    BeforeValidator(_canonical),
    WithJsonSchema({"type": "string", "format": "uuid"}),
]


def _known_learner(value: str) -> str:
    if value not in LEARNERS:
        raise ValueError(f"it must be one of {', '.join(LEARNERS)}")
    return value


LearnerName = Annotated[
    str,
    AfterValidator(_known_learner),
    WithJsonSchema({"type": "string", "enum": list(LEARNERS)}),
]
Object = Annotated[dict[str, Any], BeforeValidator(_from_json)]
Column = Annotated[str, Field(min_length=1, max_length=1000)]
Url = Annotated[str, Field(min_length=1, max_length=2000)]
_CALLBACK = (
    "Where to POST the job's final status, signed; docs/http_api.md has the rules."
)


def _canonical_or_none(value: Any) -> str | None:
    return None if value is None else _canonical(value)


def _without_default(schema: dict[str, Any]) -> None:
    # Null is no text, which the schema of an id wants.
    schema.pop("default", None)


OptionalId = Annotated[
    str | None,
    BeforeValidator(_canonical_or_none),
    WithJsonSchema({"type": "string", "format": "uuid"}),
]


class Request(BaseModel):
    """Parameters of a request, in the query string or, in a POST, a JSON body; unknown ones are
    refused."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Return the JSON schema, which flask-openapi3 asks for, without options, with every
        request."""
        if arguments or options:
            return super().model_json_schema(*arguments, **options)
        return _usual_schema(cls)


@cache
def _usual_schema(request: type[Request]) -> dict[str, Any]:
    # To make one takes as long as all else that a request costs.
    return request.model_json_schema(by_alias=True)


class Nothing(Request):
    """No parameters."""


class UploadRequest(Request):
    """What /upload takes."""

    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="The SHA-256 of the bytes, in lower-case hexadecimal; with `size`.",
    )
    size: int | None = Field(None, ge=0, description="How many bytes; with `sha256`.")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.sha256 is None) != (self.size is None):
            raise ValueError("`sha256` and `size` are given together or not at all")
        return self


class JobRequest(Request):
    """What /fit and /predict take of how the job is to run."""

    priority: Literal["low", "normal", "high"] = Field(
        "normal",
        description="Which of your own waiting jobs goes first; owners take turns whatever it is.",
    )
    timeout_s: int | None = Field(
        None,
        ge=1,
        description="Seconds that the job may run; at most, and by default, JOB_TIMEOUT_S.",
    )

    callback_url: Url | None = Field(None, description=_CALLBACK)
    reuse: bool = Field(
        False,
        description="Answer at once with an earlier finished job of the same bytes, options "
        "and code.",
    )

    def work(self) -> dict[str, Any]:
        """Return what the job needs to know to do its work; how it is to run is not among it."""
        return self.model_dump(
            exclude={*JobRequest.model_fields, "id", "dataset_id", "model_id"}
        )


class FitRequest(JobRequest):
    """What /fit takes."""

    id: Id = Field(description="The dataset, as /upload named it.")
    target: Column | None = Field(
        None,
        description="The column to predict; by default `y`, or the only one of target, label, "
        "class.",
    )
    task: Literal["auto", "classification", "regression"] = Field(
        "auto",
        description="`auto` infers it from the target; docs/tables.md has the rule.",
    )
    learner: LearnerName = Field(
        "boosting", description="What learns; docs/models.md describes each."
    )
    params: Object = Field({}, description="The learner's parameters, a JSON object.")
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,
        description="The same input and seed give the same model.",
    )
    class_weight: Annotated[
        Literal["balanced"] | dict[str, float] | None, BeforeValidator(_class_weight)
    ] = Field(
        None, description="`balanced`, or a JSON object of classes and their weights."
    )
    sample_weight: Column | None = Field(
        None, description="The column that holds each row's weight."
    )
    validation: Literal["auto", "holdout", "cv", "none"] = Field(
        "auto",
        description="Which rows the model is judged by; docs/models.md has the rule.",
    )
    identifiers: Literal["leave_out", "use"] = Field(
        "leave_out",
        description="What to do with columns that number or name their rows.",
    )
    importance_s: float | None = Field(
        None,
        ge=0,
        le=3600,
        description="Seconds for importances, 0 for none; by default a tenth of the fit, at "
        "least 0.1.",
    )


class PredictRequest(JobRequest):
    """What /predict takes."""

    dataset_id: OptionalId = Field(
        None,
        description="The rows to predict, as /upload named them; without it they are the "
        "request's body.",
        json_schema_extra=_without_default,
    )
    model_id: Id = Field(
        description="The model, as /fit named it; for a job, the fit need not have ended."
    )
    output: Literal["labels", "probabilities", "quantiles"] = Field(
        "labels", description="What is written beside the prediction itself."
    )
    quantiles: Annotated[
        list[Annotated[float, Field(ge=0, le=1)]],
        BeforeValidator(_listed),
        Field(min_length=1, max_length=99),
    ] = Field(
        [0.05, 0.5, 0.95],
        description="Which quantiles, as a JSON list of numbers from 0 to 1.",
    )
    keep: Annotated[list[Column], BeforeValidator(_listed), Field(max_length=1000)] = (
        Field([], description="Columns to copy into the result, as a JSON list.")
    )
    format: Literal["parquet", "csv", "jsonl"] = Field(
        "parquet", description="The result's format."
    )

    def only_for_jobs(self) -> list[str]:
        """Return which of the given parameters mean nothing for a prediction that is answered at
        once."""
        return sorted(self.model_fields_set & {*JobRequest.model_fields, "format"})


class StatusRequest(Request):
    """What /status takes."""

    id: Id = Field(description="The job, as /fit or /predict named it.")
    wait: float = Field(
        0, ge=0, le=30, description="Seconds to wait for the job's end."
    )
    stream: bool = Field(
        False,
        description="Answer by server-sent events until the job has ended, whatever `wait` says.",
    )


class CancelRequest(Request):
    """What /cancel takes."""

    id: Id = Field(description="The job, as /fit or /predict named it.")


class ResultRequest(Request):
    """What /result takes."""

    id: Id = Field(description="The predict job.")


class Answer(BaseModel):
    """A JSON answer."""


class UploadAnswer(Answer):
    """Where to PUT a table's bytes."""

    id: str = Field(description="The dataset's id.")
    exists: bool = Field(
        description="Whether the dataset holds these very bytes already."
    )
    url: str | None = Field(
        description="PUT the table's bytes here; null for a dataset that exists."
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


class AttemptError(BaseModel):
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
    """How far a running job is. Counts are those of the phase, null where they are not known."""

    phase: Phase
    percent: float = Field(
        ge=0, le=100, description="Of the whole job: an estimate that never falls."
    )
    rows_done: int | None
    rows_total: int | None
    iterations_done: int | None = Field(
        description="Of the learner; in a cross-validation, of all folds."
    )
    iterations_total: int | None = Field(
        description="At most; a learner may stop earlier."
    )


class StatusAnswer(Answer):
    """How a job is doing. Times are Unix seconds."""

    id: str
    kind: Literal["fit", "predict"]
    status: Literal["queued", "started", "finished", "failed", "canceled"]
    enqueued_at: float | None
    started_at: float | None
    ended_at: float | None
    attempts: int = Field(description="How often the job was started.")
    earlier: list[Attempt] = Field(description="The attempts that did not end it.")
    priority: Literal["low", "normal", "high"]
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
    error: AttemptError | None


class JobsAnswer(Answer):
    """A page of jobs, newest first, each as /status answers."""

    jobs: list[StatusAnswer]
    next: str | None = Field(
        description="Ask for the next page with before=<this>; null at the end."
    )


class LogAnswer(Answer):
    """What a job itself has logged, for its owner."""

    id: str
    lines: list[str] = Field(
        max_length=500,
        description="The last 500 at most: a time (UTC), a level and a sentence each.",
    )


class ResultAnswer(Answer):
    """Where to GET the predictions, a row for each row of the dataset."""

    url: str
    expires_at: float = Field(description="When the url ends, in Unix seconds.")


class Ready(Answer):
    """The parts behind the service answer."""

    status: Literal["ready"] = "ready"


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
    request_id: str | None


class Named(Request):
    """The id in a path."""

    id: Id = Field(description="The model, result, dataset or job.")


class PageRequest(Request):
    """What a listing takes."""

    limit: int = Field(20, ge=1, le=100, description="How many at most.")
    before: OptionalId = Field(
        None,
        description="Go on after this id: the `next` of the page before.",
        json_schema_extra=_without_default,
    )


class JobsRequest(PageRequest):
    """What the listing of jobs takes: what they are to be like."""

    status: Literal["queued", "started", "finished", "failed", "canceled"] | None = (
        Field(
            None,
            description="Only jobs of this status.",
            json_schema_extra=_without_default,
        )
    )
    kind: Literal["fit", "predict"] | None = Field(
        None, description="Only jobs of this kind.", json_schema_extra=_without_default
    )
    model_id: OptionalId = Field(
        None,
        description="Only the fit of this model, and predictions with it.",
        json_schema_extra=_without_default,
    )
    dataset_id: OptionalId = Field(
        None,
        description="Only jobs on this dataset.",
        json_schema_extra=_without_default,
    )

    def wanted(self) -> dict[str, str]:
        """Return what is asked for, by the members of a status."""
        return self.model_dump(
            include={"status", "kind", "model_id", "dataset_id"}, exclude_none=True
        )


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
    task: Literal["classification", "regression"]
    learner: str
    n_rows: int = Field(description="The rows it was trained on.")
    score: Score | None = Field(description="Null for a model that was not validated.")


class ModelsAnswer(Answer):
    """A page of models, newest first."""

    models: list[ModelLine]
    next: str | None = Field(
        description="Ask for the next page with before=<this>; null at the end."
    )


GoneAt = Annotated[
    float | None,
    Field(
        description="When it is removed, in Unix seconds, unless a job needs it then; null: never."
    ),
]


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


def parameters_schema(request: type[Request]) -> dict[str, Any]:
    """Return the request body's part of an OpenAPI operation, for parameters sent as JSON."""
    schema = request.model_json_schema(ref_template="#/components/schemas/{model}")
    return {
        "requestBody": {
            "required": False,
            "content": {"application/json": {"schema": schema}},
        }
    }
