"""Settings, read once from the environment by the entry points.

Every setting is one field below: the variable is the field's name in capitals, its description is
what docs/configuration.md says. A bad value and a misspelt variable are refused by name.
"""

from __future__ import annotations

import base64
import difflib
import ipaddress
import os
import re
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

# How often a job is tried, and how many seconds Redis keeps an ended one, unless a setting says so.
DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_JOB_TTL_S = 3600


class ConfigurationError(Exception):
    """The environment cannot be used; the message names each variable and says why."""


def _strict_bool(value: Any) -> Any:
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("must be exactly true or false")
    return value


def _split(value: Any) -> Any:
    """Split a comma-separated list, leaving out what is empty."""
    return (
        tuple(p.strip() for p in value.split(",") if p.strip())
        if isinstance(value, str)
        else value
    )


def _endpoint(value: str) -> str:
    parts = urlsplit(value)
    is_usable = (
        parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    )
    if (
        not is_usable
        or not _has_good_port(parts)
        or parts.path.strip("/")
        or parts.query
    ):
        raise ValueError(
            "must be like http://host:9000, without a path, user or password"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _redis_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    is_usable = (parts.scheme in ("redis", "rediss") and parts.hostname) or (
        parts.scheme == "unix" and parts.path
    )
    if not is_usable or not _has_good_port(parts):
        raise ValueError("must be like redis://:password@host:6379/0")
    return value


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 65536):
        raise ValueError("must be like 127.0.0.1:8080")
    return value


def _owner_and_key(value: SecretStr) -> SecretStr:
    owner, _, key = value.get_secret_value().partition(":")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", owner) or not re.fullmatch(
        r"[!-~]{8,}", key
    ):
        raise ValueError(
            "each entry must be owner:key, the owner of lower-case letters, digits, - and _, "
            "the key of at least 8 printable ASCII characters without spaces"
        )
    return value


def _signing_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 16:
        raise ValueError("each key must have at least 16 characters")
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    owner, _, secret = value.get_secret_value().rpartition(":")
    try:
        n_bytes = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except ValueError:
        n_bytes = 0
    is_owner = re.fullmatch(r"([a-z0-9][a-z0-9_-]{0,62})?", owner)
    if not is_owner or not secret.startswith("whsec_") or not 24 <= n_bytes <= 64:
        raise ValueError(
            "each entry must be whsec_<base64> or owner:whsec_<base64>, of 24 to 64 random bytes"
        )
    return value


Bool = Annotated[bool, BeforeValidator(_strict_bool)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
ApiKeys = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_owner_and_key)], ...],
    NoDecode,
    BeforeValidator(_split),
]
SigningKeys = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_signing_key)], ...],
    NoDecode,
    BeforeValidator(_split),
]
WebhookSecrets = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_webhook_secret)], ...],
    NoDecode,
    BeforeValidator(_split),
]
Bucket = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


def _folder_of_user(name: str) -> str:
    # One folder a user and machine, so that all workers that share a machine share the locks in it.
    return os.path.join(tempfile.gettempdir(), f"rowcast-{name}-{os.getuid()}")  # noqa: PTH118 - a string setting


def _file_of_user(folder: str, name: str) -> str:
    return os.path.join(_folder_of_user(folder), name)  # noqa: PTH118 - a string setting


class Settings(BaseSettings):
    """All settings of server, workers and the local stack."""

    model_config = SettingsConfigDict(
        hide_input_in_errors=True,
        extra="forbid",
        frozen=True,
        case_sensitive=False,
        env_ignore_empty=True,
    )

    bind: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1:8080", description="Address and port that the server listens on."
    )
    server_workers: int = Field(2, ge=1, le=64, description="Server processes.")
    server_threads: int = Field(
        32,
        ge=2,
        le=512,
        description="Threads of each server process; half of them may wait for jobs.",
    )
    api_keys: ApiKeys = Field(
        (),
        description="Keys that may call the API, as owner:key,owner:key. An owner sees only "
        "its own things. "
        "Without keys everybody is the owner `default`.",
    )
    allow_anonymous: Bool = Field(
        False,
        description="Listen on other addresses than loopback although no API keys are set.",
    )

    s3_endpoint: Endpoint = Field(
        "http://127.0.0.1:9000",
        description="The object store as server and workers reach it.",
    )
    s3_public_endpoint: Endpoint | None = Field(
        None,
        description="The object store as users reach it; presigned URLs name it. Default: "
        "S3_ENDPOINT.",
    )
    s3_access_key: SecretStr = Field(
        SecretStr(""), description="Access key of the object store."
    )
    s3_secret_key: SecretStr = Field(
        SecretStr(""), description="Secret key of the object store."
    )
    s3_region: str = Field(
        "us-east-1", min_length=1, description="Region that signatures name."
    )
    datasets_bucket: Bucket = Field(
        "datasets", description="Bucket of the uploaded tables."
    )
    models_bucket: Bucket = Field("models", description="Bucket of the models.")
    results_bucket: Bucket = Field("results", description="Bucket of the predictions.")
    internal_hosts: Names = Field(
        (),
        description="Host names of the server inside its own network; requests to them get "
        "URLs signed for "
        "S3_ENDPOINT instead of S3_PUBLIC_ENDPOINT.",
    )
    upload_url_ttl_s: int = Field(
        3600, ge=1, le=604800, description="Seconds that an upload URL lives."
    )
    download_url_ttl_s: int = Field(
        3600, ge=1, le=604800, description="Seconds that a download URL lives."
    )
    max_upload_bytes: int = Field(
        2_000_000_000,
        ge=1,
        description="Largest table, in bytes; /fit and /predict refuse larger ones, because a "
        "presigned PUT "
        "cannot bound the size.",
    )

    max_unpacked_bytes: int = Field(
        20_000_000_000,
        ge=1,
        description="Most bytes that a compressed CSV or JSON Lines file may unpack to.",
    )
    max_rows: int = Field(
        100_000_000, ge=1, description="Most rows that a table may have."
    )
    max_columns: int = Field(
        10_000, ge=1, description="Most columns that a table may have."
    )
    max_cells: int = Field(
        2_000_000_000, ge=1, description="Most cells, rows times columns, of a table."
    )
    max_cell_bytes: int = Field(
        1_000_000, ge=1, description="Longest text in a cell, in bytes."
    )
    max_table_bytes: int = Field(
        4_000_000_000,
        ge=1,
        description="Most memory that the rows of a table may take in a fit; a prediction "
        "reads in batches.",
    )

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis, with its password if it has one.",
    )
    max_queued: int = Field(
        50_000, ge=1, description="Most jobs that may wait; further ones are refused."
    )
    max_queued_per_owner: int = Field(
        20_000, ge=1, description="Most jobs of one owner that may wait."
    )
    job_ttl_s: int = Field(
        DEFAULT_JOB_TTL_S,
        ge=1,
        description="Seconds that Redis keeps an ended job; afterwards the store answers for it.",
    )

    retain_datasets_days: float = Field(
        0,
        ge=0,
        le=36500,
        description="Days after its upload that a dataset is removed; 0: never.",
    )
    retain_models_days: float = Field(
        0,
        ge=0,
        le=36500,
        description="Days after it was made that a model is removed; 0: never.",
    )
    retain_results_days: float = Field(
        0,
        ge=0,
        le=36500,
        description="Days after it was made that a result is removed; 0: never.",
    )
    retain_records_days: float = Field(
        0,
        ge=0,
        le=36500,
        description="Days after its end that what a job without a model or result left, its "
        "status and log, "
        "is removed; 0: never.",
    )

    workers: int = Field(
        0,
        ge=0,
        le=1024,
        description="Worker processes that take any job; 0: one for each core.",
    )
    short_workers: int = Field(
        1,
        ge=0,
        le=64,
        description="Further worker processes, which take only jobs that are expected to be short.",
    )
    worker_ttl_s: int = Field(
        10,
        ge=2,
        le=3600,
        description="Seconds of silence after which a worker's job is given to another.",
    )
    outage_wait_s: int = Field(
        21_600,
        ge=0,
        description="Seconds that a job waits for a store that is away, or a scratch disk that "
        "is full.",
    )
    job_timeout_s: int = Field(
        3600,
        ge=1,
        description="Seconds that a job may run; `timeout_s` of a request may ask for less.",
    )
    stop_grace_s: int = Field(
        60,
        ge=0,
        description="Seconds that a stopping worker lets its job run before it is requeued.",
    )
    max_attempts: int = Field(
        DEFAULT_MAX_ATTEMPTS,
        ge=1,
        le=100,
        description="How often a job is tried when its process dies.",
    )
    max_classes: int = Field(
        1000, ge=2, description="Most classes that a classification may have."
    )
    signing_keys: SigningKeys = Field(
        (),
        description="Keys that sign models, separated by commas: the first signs, all verify. "
        "Workers only; "
        "never give them to the server.",
    )
    webhook_secrets: WebhookSecrets = Field(
        (),
        description="Secrets that sign webhooks, as whsec_...,owner:whsec_...; all of an "
        "owner's own sign, "
        "or else all without an owner. Without any, `callback_url` is refused.",
    )
    webhook_allow_private: Bool = Field(
        False,
        description="Send webhooks to private addresses as well: this machine and internal "
        "networks.",
    )
    online_workers: int = Field(
        2,
        ge=0,
        le=64,
        description="Online workers, which answer small predictions at once; 0: none, so that "
        "all are jobs.",
    )
    online_socket: str = Field(
        default_factory=partial(_file_of_user, "online", "socket"),
        description="Socket by which the server reaches the online workers of its machine, in a "
        "folder that "
        "only they can enter. Default: rowcast-online-<uid>/socket in the temporary folder.",
    )
    online_cache_bytes: int = Field(
        500_000_000,
        ge=1,
        description="Most bytes of recently used models that an online worker keeps.",
    )
    online_memory_bytes: int = Field(
        1_500_000_000,
        ge=200_000_000,
        description="Most memory that an online worker may take, in bytes; one that takes more is "
        "started anew.",
    )
    online_max_rows: int = Field(
        10_000, ge=1, description="Most rows that are predicted at once."
    )
    online_max_bytes: int = Field(
        5_000_000,
        ge=1,
        description="Largest table that is predicted at once, in bytes as it is sent.",
    )
    online_timeout_s: int = Field(
        30,
        ge=1,
        le=50,
        description="Seconds that a prediction at once may take before it is ended.",
    )
    cores_dir: str = Field(
        default_factory=partial(_folder_of_user, "cores"),
        description="Folder of the lock files that share the cores among all workers of one "
        "machine. "
        "Default: rowcast-cores-<uid> in the temporary folder.",
    )
    scratch_dir: str = Field(
        default_factory=partial(_folder_of_user, "scratch"),
        description="Folder for the files of running jobs. "
        "Default: rowcast-scratch-<uid> in the temporary folder.",
    )
    job_memory_bytes: int = Field(
        0,
        ge=0,
        description="Most memory that a job may take, in bytes; 0: what the container or the "
        "machine has, "
        "less what the workers themselves take, divided by the workers.",
    )
    job_scratch_bytes: int = Field(
        0,
        ge=0,
        description="Most space that the files of a job may take, in bytes; 0: what is free in "
        "SCRATCH_DIR, "
        "less the reserve, divided by the workers.",
    )
    scratch_reserve_bytes: int = Field(
        0,
        ge=0,
        description="Free space in SCRATCH_DIR, in bytes, below which /readyz says that the "
        "service is not "
        "ready; 0: 500,000,000, and on a disk of less than 10 GB the twentieth part of it.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level logged."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto",
        description="`json`: one object a line; `text`: for people; `auto`: text on a terminal.",
    )

    @model_validator(mode="after")
    def _refuse_wrong_keys(self) -> Settings:
        if (
            not self.api_keys
            and not self.allow_anonymous
            and not _is_loopback(self.bind)
        ):
            raise ValueError(
                f"BIND={self.bind} is open to other machines without a key: set API_KEYS, "
                "or ALLOW_ANONYMOUS=true if that is meant"
            )
        keys = [entry.get_secret_value().partition(":")[2] for entry in self.api_keys]
        if len(set(keys)) < len(keys):
            raise ValueError("API_KEYS: two owners have the same key")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the call and the environment only, never from files."""
        return init_settings, env_settings

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment.

        Raises:
            ConfigurationError: a value is bad or a variable looks misspelt.
        """
        _refuse_misspelt(os.environ, [name.upper() for name in cls.model_fields])
        try:
            return cls()
        except ValidationError as error:
            raise ConfigurationError(_in_words(error)) from None

    @property
    def public_endpoint(self) -> str:
        """The endpoint that presigned URLs name for users outside."""
        return self.s3_public_endpoint or self.s3_endpoint


def _is_loopback(bind: str) -> bool:
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_misspelt(environment: Mapping[str, str], names: list[str]) -> None:
    for variable in environment:
        if variable.upper() in names:
            continue
        if near := difflib.get_close_matches(variable.upper(), names, 1, 0.92):
            raise ConfigurationError(
                f"{variable} is no setting; did you mean {near[0]}?"
            )


def _in_words(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0]).upper() if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}" if name else message)
    return "; ".join(dict.fromkeys(lines))
