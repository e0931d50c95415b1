"""Settings, which the entry points read once from the environment.

Every setting is one field below. The variable is the field's name in capitals, and its description
is what docs/configuration.md shows. Bad values and misspelt variables are refused with a message
that names them.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Literal

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from rowcast.setting_types import (
    Address,
    ApiKeys,
    Bool,
    Bucket,
    Days,
    Endpoint,
    HmacKeys,
    Hosts,
    Names,
    Networks,
    NotNegative,
    Positive,
    PrivateKey,
    PublicKeys,
    Quotas,
    RedisUrl,
    UrlTtl,
    WebhookSecrets,
    ed25519_bytes,
)

# Older jobs may lack these two fields, so the queue needs the defaults as well.
DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_JOB_TTL_S = 3600

# The secrets of .env.example begin with it.
PLACEHOLDER = "change-me"


class ConfigurationError(Exception):
    """The environment is unusable; the message names each variable and says why."""


def _folder_of_user(name: str) -> str:
    # One folder for each user and machine: all workers of a machine share its locks.
    return f"{tempfile.gettempdir()}/rowcast-{name}-{os.getuid()}"


class Settings(BaseSettings):
    """All settings of the server, the workers and the local stack."""

    model_config = SettingsConfigDict(
        hide_input_in_errors=True,
        extra="forbid",
        frozen=True,
        case_sensitive=False,
        env_ignore_empty=True,
    )

    # The server

    bind: Address = Field(
        "127.0.0.1:8080",
        description="Address and port that the server listens on.",
    )
    server_workers: int = Field(
        2,
        ge=1,
        le=64,
        description="Number of server processes.",
    )
    server_threads: int = Field(
        32,
        ge=2,
        le=512,
        description="Threads of each server process; half of them may wait for jobs.",
    )
    api_keys: ApiKeys = Field(
        (),
        description="Keys that may call the API, as owner:key,owner:key. An owner sees only "
        "its own data. Without keys, every caller is the owner `default`.",
    )
    allow_anonymous: Bool | None = Field(
        None,
        description="Without API_KEYS: `true` admits callers without a key, on any address; "
        "`false` admits only the keys that `python -m rowcast.access` makes. Default: `true` on "
        "loopback; on another address one of the two must be set.",
    )

    key_requests_per_minute: NotNegative = Field(
        30_000,
        description="Maximum number of requests of one API key within a minute; 0: no limit.",
    )
    address_requests_per_minute: NotNegative = Field(
        60_000,
        description="Maximum number of requests of one address within a minute; 0: no limit.",
    )
    address_failures_per_minute: NotNegative = Field(
        60,
        description="Maximum number of wrong API keys from one address within a minute; then "
        "keys are not looked up. 0: no limit.",
    )

    trusted_hosts: Hosts = Field(
        (),
        description="Host names under which users call the server, without ports; a name that "
        "begins with a dot includes its subdomains. Addresses, loopback names, the machine's "
        "own name and INTERNAL_HOSTS need not be listed; requests to any other name are "
        "refused.",
    )
    trusted_proxies: Networks = Field(
        (),
        description="Addresses or networks of the reverse proxies in front of the server. Only "
        "their X-Forwarded-For and X-Forwarded-Proto are believed.",
    )

    # The object store

    s3_endpoint: Endpoint = Field(
        "http://127.0.0.1:9000",
        description="Address of the object store for server and workers.",
    )
    s3_public_endpoint: Endpoint | None = Field(
        None,
        description="Address of the object store for users; presigned URLs contain it. "
        "Default: S3_ENDPOINT.",
    )
    s3_access_key: SecretStr = Field(
        SecretStr(""),
        description="Access key of the object store.",
    )
    s3_secret_key: SecretStr = Field(
        SecretStr(""),
        description="Secret key of the object store.",
    )
    s3_region: str = Field(
        "us-east-1",
        min_length=1,
        description="Region of the object store, for signatures.",
    )
    datasets_bucket: Bucket = Field(
        "datasets",
        description="Bucket for uploaded tables.",
    )
    models_bucket: Bucket = Field("models", description="Bucket for models.")
    results_bucket: Bucket = Field("results", description="Bucket for predictions.")
    internal_hosts: Names = Field(
        (),
        description="Host names of the server inside its own network. Requests to them get "
        "URLs for S3_ENDPOINT instead of S3_PUBLIC_ENDPOINT.",
    )
    s3_post_forms: Bool = Field(
        False,
        description="Whether the object store accepts uploads by form (POST policies), which limit "
        "the size. Amazon S3, MinIO and SeaweedFS do; rclone does not.",
    )
    upload_url_ttl_s: UrlTtl = Field(
        3600,
        description="Lifetime of an upload URL, in seconds.",
    )
    download_url_ttl_s: UrlTtl = Field(
        3600,
        description="Lifetime of a download URL, in seconds.",
    )
    max_upload_bytes: Positive = Field(
        2_000_000_000,
        description="Largest uploaded table, in bytes. /fit and /predict refuse larger ones, "
        "because a presigned PUT cannot limit the size.",
    )

    # Tables

    max_unpacked_bytes: Positive = Field(
        20_000_000_000,
        description="Largest size of a compressed CSV or JSON Lines file after unpacking, "
        "in bytes.",
    )
    max_rows: Positive = Field(
        100_000_000,
        description="Maximum number of rows of a table.",
    )
    max_columns: Positive = Field(
        10_000,
        description="Maximum number of columns of a table.",
    )
    max_cells: Positive = Field(
        2_000_000_000,
        description="Maximum number of cells of a table: rows times columns.",
    )
    max_cell_bytes: Positive = Field(
        1_000_000,
        description="Longest text in a cell, in bytes.",
    )
    max_footer_bytes: Positive = Field(
        32_000_000,
        description="Largest footer of a Parquet file, or schema of an Arrow file, in bytes. "
        "Reading one takes about ten times as much memory.",
    )
    max_column_chunks: Positive = Field(
        250_000,
        description="Maximum number of column chunks of a Parquet file: row groups times "
        "columns.",
    )
    max_nesting: int = Field(
        16,
        ge=1,
        le=64,
        description="Maximum number of levels of lists and structs within a column.",
    )
    max_excel_cells: Positive = Field(
        10_000_000,
        description="Maximum number of cells of an Excel sheet: its last row times its last "
        "column. Reading one takes about 100 bytes of memory per cell.",
    )
    max_excel_bytes: Positive = Field(
        1_000_000_000,
        description="Largest size of an Excel sheet after unpacking, with the texts of its "
        "cells, in bytes.",
    )
    max_table_bytes: Positive = Field(
        4_000_000_000,
        description="Maximum memory for the rows of a table in a fit, in bytes. Predictions "
        "read in batches.",
    )

    # The queue

    redis_url: RedisUrl = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="URL of Redis, with its password if it has one.",
    )
    max_queued: Positive = Field(
        50_000,
        description="Maximum number of queued jobs; further jobs are refused.",
    )
    max_queued_per_owner: NotNegative = Field(
        20_000,
        description="Maximum number of queued jobs of one owner; 0: no limit.",
    )
    max_queued_bytes_per_owner: NotNegative = Field(
        1_000_000_000_000,
        description="Maximum size of the datasets of all queued jobs of one owner, in bytes; "
        "0: no limit.",
    )
    job_ttl_s: Positive = Field(
        DEFAULT_JOB_TTL_S,
        description="Seconds that Redis keeps a job after its end. The store keeps its "
        "status longer.",
    )

    data_dir: str = Field(
        "",
        description="Folder of the data of Redis and the store, if they are on the server's "
        "machine: /readyz reports when its disk is full. The local stack sets it.",
    )

    # Quotas

    max_datasets_per_owner: NotNegative = Field(
        100_000,
        description="Maximum number of datasets of one owner; 0: no limit.",
    )
    max_models_per_owner: NotNegative = Field(
        100_000,
        description="Maximum number of models of one owner, with those in the making; "
        "0: no limit.",
    )
    max_results_per_owner: NotNegative = Field(
        1_000_000,
        description="Maximum number of results of one owner, with those in the making; "
        "0: no limit.",
    )
    max_stored_bytes_per_owner: NotNegative = Field(
        1_000_000_000_000,
        description="Maximum size of all datasets, models and results of one owner, in bytes; "
        "0: no limit.",
    )
    quotas: Quotas = Field(
        (),
        description="Limits of single owners, as owner:name=number,owner:name=number. The names "
        "are datasets, models, results, stored_bytes, queued_jobs, queued_bytes and "
        "key_requests_per_minute.",
    )

    # Retention

    retain_datasets_days: Days = Field(
        0,
        description="Days after its upload that a dataset is deleted; 0: never.",
    )
    remove_unused_uploads_days: Days = Field(
        7,
        description="Days after which an upload is deleted that no job was submitted for; one "
        "over MAX_UPLOAD_BYTES goes after a day. 0: never.",
    )
    retain_models_days: Days = Field(
        0,
        description="Days after its fit that a model is deleted; 0: never.",
    )
    retain_results_days: Days = Field(
        0,
        description="Days after its prediction that a result is deleted; 0: never.",
    )
    retain_records_days: Days = Field(
        0,
        description="Days after its end that the status and log of a job without a model or "
        "result are deleted; 0: never.",
    )

    # Workers and jobs

    workers: int = Field(
        0,
        ge=0,
        le=1024,
        description="Number of worker processes for any job; 0: one for each core.",
    )
    short_workers: int = Field(
        1,
        ge=0,
        le=64,
        description="Number of additional worker processes for jobs that are expected to "
        "be short.",
    )
    worker_ttl_s: int = Field(
        10,
        ge=2,
        le=3600,
        description="Seconds without a heartbeat after which a worker's job goes to another "
        "worker.",
    )
    outage_wait_s: NotNegative = Field(
        21_600,
        description="Seconds that a job waits while the store does not answer or the scratch "
        "disk is full.",
    )
    job_timeout_s: Positive = Field(
        3600,
        description="Maximum run time of a job, in seconds; `timeout_s` of a request can only "
        "lower it.",
    )
    max_search_s: Positive = Field(
        1800,
        description="Maximum `search_s` of a fit with effort=thorough, in seconds; without one, it "
        "searches for 60, or for this if that is less.",
    )
    stop_grace_s: NotNegative = Field(
        60,
        description="Seconds that a stopping worker lets its job run before it requeues it.",
    )
    maintenance: Bool = Field(
        True,
        description="Run a maintenance process beside the workers. It recovers lost jobs, sends "
        "webhooks and deletes old data. `false`: `maintenance.py` runs elsewhere.",
    )
    max_attempts: int = Field(
        DEFAULT_MAX_ATTEMPTS,
        ge=1,
        le=100,
        description="Maximum number of attempts of a job whose process dies.",
    )
    max_classes: int = Field(
        1000,
        ge=2,
        description="Maximum number of classes of a classification.",
    )
    signing_key: PrivateKey | None = Field(
        None,
        description="The private key that signs models, ed25519-private-.... For workers only; "
        "never give it to another process.",
    )
    verify_keys: PublicKeys = Field(
        (),
        description="The public keys that models are verified with, ed25519-public-..., "
        "separated by commas: that of SIGNING_KEY, and those of earlier ones.",
    )
    hmac_signing_keys: HmacKeys = Field(
        (),
        description="Keys of models that earlier versions have signed by HMAC. For workers "
        "and online workers only. The first version after 2027-12-31 drops it.",
    )
    webhook_secrets: WebhookSecrets = Field(
        (),
        description="Secrets that sign webhooks, as whsec_...,owner:whsec_.... All secrets of "
        "an owner sign; for an owner without any, all secrets without an owner do. Without "
        "any secret, `callback_url` is refused.",
    )
    webhook_allow_private: Bool = Field(
        False,
        description="Send webhooks to private addresses too: this machine and internal "
        "networks.",
    )

    # Online predictions

    online_workers: int = Field(
        2,
        ge=0,
        le=64,
        description="Number of online workers, which answer small predictions immediately; "
        "0: none, so every prediction is a job.",
    )
    online_socket: str = Field(
        default_factory=lambda: _folder_of_user("online") + "/socket",
        description="Socket between the server and the online workers of its machine, in a "
        "folder that only they can enter. Default: rowcast-online-<uid>/socket in the "
        "temporary folder.",
    )
    online_cache_bytes: Positive = Field(
        500_000_000,
        description="Maximum size of the recently used models that an online worker keeps, "
        "in bytes.",
    )
    online_memory_bytes: int = Field(
        1_500_000_000,
        ge=200_000_000,
        description="Maximum memory of an online worker, in bytes; one that exceeds it is "
        "restarted.",
    )
    online_max_rows: Positive = Field(
        10_000,
        description="Maximum number of rows of an online prediction.",
    )
    online_max_bytes: Positive = Field(
        5_000_000,
        description="Largest request body of an online prediction, in bytes.",
    )
    online_timeout_s: int = Field(
        30,
        ge=1,
        le=50,
        description="Maximum run time of an online prediction, in seconds.",
    )

    # Inspections

    inspectors: int = Field(
        2,
        ge=1,
        le=32,
        description="Number of inspectors of each server process: child processes that look at "
        "a table before its job is queued.",
    )
    inspection_timeout_s: int = Field(
        3,
        ge=1,
        le=30,
        description="Maximum time for the look at a table, in seconds.",
    )
    inspection_memory_bytes: int = Field(
        300_000_000,
        ge=50_000_000,
        description="Maximum memory for the look at a table, in bytes.",
    )

    # The machine

    cores_dir: str = Field(
        default_factory=partial(_folder_of_user, "cores"),
        description="Folder of the lock files by which all workers of a machine share its "
        "cores. Default: rowcast-cores-<uid> in the temporary folder.",
    )
    scratch_dir: str = Field(
        default_factory=partial(_folder_of_user, "scratch"),
        description="Folder for the files of running jobs. "
        "Default: rowcast-scratch-<uid> in the temporary folder.",
    )
    job_memory_bytes: NotNegative = Field(
        0,
        description="Maximum memory of a job, in bytes; 0: an equal share for each worker of "
        "the container's or machine's memory, less what the workers themselves need.",
    )
    job_scratch_bytes: NotNegative = Field(
        0,
        description="Maximum size of a job's files, in bytes; 0: an equal share for each "
        "worker of the free space in SCRATCH_DIR, less the reserve.",
    )
    scratch_reserve_bytes: NotNegative = Field(
        0,
        description="Free space in SCRATCH_DIR, in bytes, below which /readyz reports that the "
        "service is not ready; 0: 500,000,000, or 5 % of a disk of less than 10 GB.",
    )

    # Logs

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="Lowest level that is logged.",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto",
        description="`json`: one object per line; `text`: for people; `auto`: text on a "
        "terminal, else JSON.",
    )

    audit_log: str = Field(
        "stdout",
        min_length=1,
        description="Where the audit log goes: a file, `stdout`, `stderr` or `off`.",
    )

    @model_validator(mode="after")
    def _check_api_keys(self) -> Settings:
        is_decided = self.api_keys or self.allow_anonymous is not None
        if not is_decided and not _is_loopback(self.bind):
            raise ValueError(
                f"BIND={self.bind} lets other machines in without a key: set API_KEYS, or "
                "ALLOW_ANONYMOUS=false and make keys with `python -m rowcast.access`, or "
                "ALLOW_ANONYMOUS=true if you want that"
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
        """Read values from arguments and the environment only, never from files."""
        return init_settings, env_settings

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment.

        Raises:
            ConfigurationError: a value is bad or a placeholder, or a variable looks misspelt.
        """
        names = [name.upper() for name in cls.model_fields]
        _refuse_misspelt(os.environ, names)
        _refuse_placeholders(os.environ, names)
        try:
            return cls()
        except ValidationError as error:
            raise ConfigurationError(_in_words(error)) from None

    @property
    def needs_keys(self) -> bool:
        """Whether callers need a key."""
        return bool(self.api_keys) or self.allow_anonymous is False

    @property
    def public_keys(self) -> list[bytes]:
        """The keys of VERIFY_KEYS, 32 bytes each."""
        return [ed25519_bytes("public", key) for key in self.verify_keys]

    @property
    def public_endpoint(self) -> str:
        """The address of the store in presigned URLs for users."""
        return self.s3_public_endpoint or self.s3_endpoint


def _is_loopback(bind: str) -> bool:
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# Old names of settings: they are refused, because ignoring them would change what they set.
_RENAMED = {
    "SIGNING_KEYS": "HMAC_SIGNING_KEYS",
    "WARM_SOCKET": "ONLINE_SOCKET",
    "WARM_WORKERS": "ONLINE_WORKERS",
    "WARM_CACHE_BYTES": "ONLINE_CACHE_BYTES",
    "WARM_MEMORY_BYTES": "ONLINE_MEMORY_BYTES",
    "ANSWER_MAX_ROWS": "ONLINE_MAX_ROWS",
    "ANSWER_MAX_BYTES": "ONLINE_MAX_BYTES",
    "ANSWER_TIMEOUT_S": "ONLINE_TIMEOUT_S",
}


def _refuse_misspelt(environment: Mapping[str, str], names: list[str]) -> None:
    for variable in environment:
        name = variable.upper()
        if name in names:
            continue
        if name in _RENAMED:
            near = [_RENAMED[name]]
        else:
            near = difflib.get_close_matches(name, names, 1, 0.92)
        if near:
            raise ConfigurationError(
                f"Unknown setting {variable}. Did you mean {near[0]}?"
            )


def _refuse_placeholders(environment: Mapping[str, str], names: list[str]) -> None:
    found = [
        variable
        for variable, value in environment.items()
        if variable.upper() in names and PLACEHOLDER in value.lower()
    ]
    if found:
        raise ConfigurationError(
            f"{', '.join(found)}: '{PLACEHOLDER}...' is a placeholder, which everybody knows. "
            "Remove .env and write one with random secrets, by `make env` or "
            "`python3 deploy/make_env.py`, or put a secret of your own there, such as "
            "`openssl rand -hex 20` prints"
        )


def _in_words(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0]).upper() if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}" if name else message)
    return "; ".join(dict.fromkeys(lines))
