"""The parameters of all requests, which are checked and documented by their declaration."""

from __future__ import annotations

import json
import time
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

from rowcast.access import Scope, keys
from rowcast.errors import InvalidRequest
from rowcast.jobs import Priority, Status
from rowcast.learning import learners, prediction, result_formats, spaces, thresholds
from rowcast.setting_types import OWNER_PATTERN
from rowcast.store import Kind
from rowcast.tables import ReadingOptions, Selection, columns, reading

# Sums of far larger weights would overflow.
_MAX_WEIGHT = 1e12
# Redis holds the options of every queued job.
MAX_OPTIONS_BYTES = 65_536
MAX_MISSING = 100


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
    # A generated client sends every value as JSON.
    value = None if value == "null" else _from_json(value)
    value = "balanced" if value == '"balanced"' else value
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
    if value not in learners.NAMES:
        raise ValueError(f"it must be one of {', '.join(learners.NAMES)}")
    return value


LearnerName = Annotated[
    str,
    AfterValidator(_known_learner),
    WithJsonSchema({"type": "string", "enum": list(learners.NAMES)}),
]


def _text_of_number(value: Any) -> Any:
    """Return the text of a whole number, as a query contains it."""
    return str(value) if type(value) is int else value


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it must be a number")
    return value


def _no_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("it must be true or false")
    return value


def _class_name(value: Any) -> Any:
    """Return a class of a JSON body as text, as manifests name it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


# JSON has other types for truth and for numbers; in the query both are text.
Integer = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]
Boolean = Annotated[bool, BeforeValidator(_no_number)]
Owner = Annotated[str, Field(pattern=OWNER_PATTERN)]
Encoding = Annotated[
    str,
    AfterValidator(reading.canonical_encoding),
    Field(min_length=1, max_length=40),
]
# Quotes, line ends, letters and digits are part of the fields.
Delimiter = Annotated[str, Field(pattern=r"^[\t !#-/:-@\[-`{-~]$")]
Sheet = Annotated[
    str,
    BeforeValidator(_text_of_number),
    Field(min_length=1, max_length=255),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": 255},
                {"type": "integer"},
            ]
        }
    ),
]
MissingText = Annotated[str, Field(max_length=100)]
Object = Annotated[dict[str, Any], BeforeValidator(_from_json)]
Column = Annotated[str, Field(min_length=1, max_length=1000)]
Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2000,
        pattern="^https?://",
        json_schema_extra={"format": "uri"},
    ),
]
_CALLBACK = (
    "Where to POST the job's final status, signed; docs/http_api.md has the rules."
)


def _canonical_or_none(value: Any) -> str | None:
    return None if value is None else _canonical(value)


def _without_default(schema: dict[str, Any]) -> None:
    # Null is not text, as the schema of an id demands.
    schema.pop("default", None)


OptionalId = Annotated[
    str | None,
    BeforeValidator(_canonical_or_none),
    WithJsonSchema({"type": "string", "format": "uuid"}),
]
# One that the service has made, a UUIDv7 of a year below 10000.
_MINTED = (
    "^[0-9a-dA-D][0-9a-fA-F]{7}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-"
    "[0-9a-fA-F]{12}$"
)
OptionalMintedId = Annotated[
    str | None,
    BeforeValidator(_canonical_or_none),
    WithJsonSchema({"type": "string", "format": "uuid", "pattern": _MINTED}),
]


class Request(BaseModel):
    """Parameters in the query string or, in a POST, in a JSON body; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Return the JSON schema; flask-openapi3 asks for it with every request."""
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
    size: Integer | None = Field(
        None, ge=0, description="How many bytes; with `sha256`."
    )
    form: Boolean = Field(
        False,
        description="Answer with a form to POST the bytes by, which limits their number, instead "
        "of a URL to PUT them to; needs S3_POST_FORMS.",
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.sha256 is None) != (self.size is None):
            raise ValueError("`sha256` and `size` are given together or not at all")
        return self


class JobRequest(Request):
    """What /fit and /predict take on how the job is run."""

    priority: Priority = Field(
        "normal",
        description="Which of your own queued jobs runs first; owners take turns regardless.",
    )
    timeout_s: Integer | None = Field(
        None,
        ge=1,
        description="Seconds that the job may run; the maximum and the default are JOB_TIMEOUT_S.",
    )

    callback_url: Url | None = Field(None, description=_CALLBACK)
    reuse: Boolean = Field(
        False,
        description="Answer with an earlier finished job of the same bytes, options and code.",
    )

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        try:
            n_bytes = len(json.dumps(self.work()))
        except (ValueError, RecursionError):
            raise InvalidRequest("The parameters are nested too deeply.") from None
        if n_bytes > MAX_OPTIONS_BYTES:
            raise InvalidRequest(
                f"The options have {n_bytes:,} bytes as JSON; the maximum is "
                f"{MAX_OPTIONS_BYTES:,}.",
                hint="Name fewer classes, columns or parameters.",
            )
        return self

    def work(self) -> dict[str, Any]:
        """Return the options of the job's work, without those of how the job is run."""
        return self.model_dump(
            exclude={*JobRequest.model_fields, "id", "dataset_id", "model_id"}
        )


class TableRequest(JobRequest):
    """What /fit and /predict take on how the table's file is read."""

    encoding: Encoding | None = Field(
        None, description="The encoding of a text, such as cp1250."
    )
    delimiter: Delimiter | None = Field(
        None, description="The character between the fields of CSV."
    )
    header: Boolean | None = Field(
        None, description="Whether the first row of CSV or Excel names the columns."
    )
    decimal: Literal[".", ","] | None = Field(
        None, description="The decimal sign of numbers in CSV."
    )
    missing: (
        Annotated[
            list[MissingText], BeforeValidator(_listed), Field(max_length=MAX_MISSING)
        ]
        | None
    ) = Field(
        None,
        description="The texts that stand for a missing value in CSV and Excel, as a JSON list, "
        "in place of the usual ones.",
    )
    sheet: Sheet | None = Field(
        None,
        description="The sheet of an Excel workbook: its name, or its number from 1 on.",
    )

    @model_validator(mode="after")
    def _signs_differ(self) -> Self:
        if self.delimiter is not None and self.delimiter == self.decimal:
            raise ValueError("`delimiter` and `decimal` are the same character")
        return self

    def reading(self) -> ReadingOptions:
        """Return how the table's file is to be read."""
        return ReadingOptions.of(self.model_dump(include=set(reading.NAMES)))


class FitRequest(TableRequest):
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
        learners.AUTO,
        description="The learner; docs/models.md describes each. `auto` tries several, and blends "
        "the good ones.",
    )
    params: Object = Field({}, description="The learner's parameters, a JSON object.")
    effort: spaces.Effort = Field(
        "normal",
        description="How much is tried: `quick` fits one learner with good settings, `normal` "
        "compares several, `thorough` also tunes their parameters, for `search_s`.",
    )
    search_s: Number | None = Field(
        None,
        ge=1,
        description="Seconds to search with effort=thorough, which it implies; by default 60, at "
        "most MAX_SEARCH_S.",
    )
    seed: Integer = Field(
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
    validation: Literal["auto", "holdout", "cv", "time", "none"] = Field(
        "auto",
        description="Which rows the model is evaluated on; docs/models.md has the rule.",
    )
    time_column: Column | None = Field(
        None,
        description="The column by which `validation=time` holds back the last rows; `auto` means "
        "`time` with it.",
    )
    group_column: Column | None = Field(
        None,
        description="The column whose groups are held back whole. It is not a feature, unless "
        "`identifiers=use`.",
    )
    features: (
        Annotated[list[Column], BeforeValidator(_listed), Field(min_length=1)] | None
    ) = Field(
        None,
        description="The only columns to learn from, as a JSON list; also identifiers, if named.",
    )
    drop: Annotated[list[Column], BeforeValidator(_listed)] = Field(
        [], description="Columns not to learn from, as a JSON list."
    )
    kinds: Annotated[dict[Column, columns.Kind], BeforeValidator(_from_json)] = Field(
        {},
        description="The kinds of columns that overrule what is inferred, a JSON object.",
    )
    identifiers: Literal["leave_out", "use"] = Field(
        "leave_out",
        description="What to do with columns that number or name their rows.",
    )
    infinite: Literal["refuse", "missing"] = Field(
        "refuse",
        description="What to do with infinite numbers of the features.",
    )
    background: Literal["keep", "leave_out"] = Field(
        "keep",
        description="Whether the model keeps 32 rows of the table, which output=contributions "
        "needs.",
    )
    importance_s: Number | None = Field(
        None,
        ge=0,
        le=3600,
        description="Most seconds for importances, 0 for none. By default the work is limited, "
        "not the time, so that the same fit gives the same importances.",
    )

    def selection(self) -> Selection:
        """Return which columns are learned from, and as which kinds."""
        return Selection(self.features, self.drop, self.kinds)

    @model_validator(mode="after")
    def _holds_back_in_one_way(self) -> Self:
        if self.validation == "time" and self.time_column is None:
            raise InvalidRequest(
                "validation=time needs time_column.",
                hint="Name the column of times with time_column=<column>.",
            )
        if self.time_column is None:
            return self
        if self.validation in ("holdout", "cv"):
            raise InvalidRequest(
                f"validation={self.validation} holds back random rows, so it does not go with "
                "time_column.",
                hint="Use validation=time, or leave out time_column.",
            )
        if self.group_column is not None:
            raise InvalidRequest(
                "time_column and group_column exclude each other: either the last rows are held "
                "back, or whole groups.",
                hint="Name the one that new rows will differ by.",
            )
        return self

    @model_validator(mode="after")
    def _searches_if_asked(self) -> Self:
        if self.search_s is None:
            return self
        if "effort" in self.model_fields_set and self.effort != "thorough":
            raise InvalidRequest(
                f"search_s is for effort=thorough, so it does not go with effort={self.effort}.",
                hint="Leave out one of them.",
            )
        if self.timeout_s is not None and self.search_s >= self.timeout_s:
            raise InvalidRequest(
                "search_s must be under timeout_s, which has to hold the final fit too.",
                hint="Raise timeout_s, or lower search_s.",
            )
        self.effort = "thorough"
        return self


class PredictRequest(TableRequest):
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
    output: prediction.Output = Field(
        "labels", description="What is written beside the prediction itself."
    )
    quantiles: Annotated[
        list[Annotated[Number, Field(ge=0, le=1)]],
        BeforeValidator(_listed),
        Field(min_length=1, max_length=99),
    ] = Field(
        [0.05, 0.5, 0.95],
        description="Which quantiles, as a JSON list of numbers from 0 to 1.",
    )
    levels: Annotated[
        list[Annotated[Number, Field(ge=0, le=1)]],
        BeforeValidator(_listed),
        Field(min_length=1, max_length=10),
    ] = Field(
        [0.9],
        description="With output=sets, which shares of the sets should hold the true class, as a "
        "JSON list of numbers from 0 to 1.",
    )
    threshold: Number | None = Field(
        None,
        ge=0,
        le=1,
        description="Of two classes, predict the positive one from this probability on.",
    )
    min_recall: Number | None = Field(
        None,
        ge=0,
        le=1,
        description="Choose the threshold with the best precision that finds this share of the "
        "positive rows.",
    )
    min_precision: Number | None = Field(
        None,
        ge=0,
        le=1,
        description="Choose the threshold with the best recall whose predictions of the positive "
        "class are right in this share.",
    )
    cost_ratio: Number | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Choose the threshold with the least cost, if to miss a positive row costs so "
        "many times as much as a false alarm.",
    )
    positive_class: Annotated[Column | None, BeforeValidator(_class_name)] = Field(
        None,
        description="The class that the threshold is of, as text; by default the second one in "
        "sorted order.",
    )
    keep: Annotated[list[Column], BeforeValidator(_listed), Field(max_length=1000)] = (
        Field([], description="Columns to copy into the result, as a JSON list.")
    )
    format: result_formats.FileFormat = Field(
        "parquet", description="The result's format."
    )

    @model_validator(mode="after")
    def _has_one_rule(self) -> Self:
        given = [name for name in thresholds.RULES if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        if self.positive_class is not None and not given:
            raise ValueError(f"positive_class needs {' or '.join(thresholds.RULES)}")
        return self

    def only_for_jobs(self) -> list[str]:
        """Return the given parameters that have no meaning for an online prediction."""
        return sorted(self.model_fields_set & {*JobRequest.model_fields, "format"})


class StatusRequest(Request):
    """What /status takes."""

    id: Id = Field(description="The job, as /fit or /predict named it.")
    wait: float = Field(
        0, ge=0, le=30, description="Seconds to wait for the job's end."
    )
    stream: bool = Field(
        False,
        description="Answer by server-sent events until the job has ended, regardless of `wait`.",
    )


class CancelRequest(Request):
    """What /cancel takes."""

    id: Id = Field(description="The job, as /fit or /predict named it.")


class ResultRequest(Request):
    """What /result takes."""

    id: Id = Field(description="The predict job.")


class Named(Request):
    """The id in a path."""

    id: Id = Field(description="The model, result, dataset or job.")


class PageRequest(Request):
    """What a listing takes."""

    limit: int = Field(20, ge=1, le=100, description="How many at most.")
    before: OptionalMintedId = Field(
        None,
        description="Go on after this id: the `next` of the page before.",
        json_schema_extra=_without_default,
    )


class JobsRequest(PageRequest):
    """What the listing of jobs takes."""

    status: Status | None = Field(
        None,
        description="Only jobs of this status.",
        json_schema_extra=_without_default,
    )
    kind: Kind | None = Field(
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
        """Return the wanted members of a status."""
        return self.model_dump(
            include={"status", "kind", "model_id", "dataset_id"}, exclude_none=True
        )


class KeysRequest(PageRequest):
    """What the listing of keys takes."""

    owner: Owner | None = Field(
        None,
        description="Only keys of this owner.",
        json_schema_extra=_without_default,
    )


class KeyRequest(Request):
    """What the creation of a key takes."""

    owner: Owner = Field(description="Whose data the key gives access to.")
    name: str = Field(
        pattern=keys.NAME_PATTERN,
        description="What lists and the audit log call it, such as where it is used.",
    )
    scopes: Annotated[list[Scope], BeforeValidator(_listed), Field(min_length=1)] = (
        Field(description="What the key may do, as a JSON list.")
    )
    expires_at: Number | None = Field(
        None,
        description="When it ends, in Unix seconds; null: never.",
        json_schema_extra=_without_default,
    )

    @model_validator(mode="after")
    def _not_over(self) -> Self:
        if self.expires_at is not None and self.expires_at <= time.time():
            raise ValueError("`expires_at` is in the past")
        return self


def parameters_schema(request: type[Request]) -> dict[str, Any]:
    """Return the request body's part of an OpenAPI operation, for parameters sent as JSON."""
    schema = request.model_json_schema(ref_template="#/components/schemas/{model}")
    required = schema.get("required", ())
    schema["properties"] = {
        name: each if name in required else _or_null(each)
        for name, each in schema["properties"].items()
    }
    return {
        "requestBody": {
            "required": False,
            "content": {"application/json": {"schema": schema}},
        }
    }


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a member that counts as left out if it is null."""
    null = {"type": "null"}
    if null in schema.get("anyOf", ()):
        return schema
    kept = {name: schema[name] for name in schema if name in ("title", "description")}
    return {**kept, "anyOf": [schema, null]}
