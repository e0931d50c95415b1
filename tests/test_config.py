"""Settings come from the environment; bad and misspelt ones are refused with their names."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from rowcast import config
from rowcast.config import ConfigurationError, Settings

KEY = "0123456789abcdef"
PRIVATE_KEY = "ed25519-private-" + "A" * 43


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings(monkeypatch, **variables)
    return str(caught.value)


def test_defaults_listen_on_loopback_without_keys() -> None:
    defaults = Settings.from_environment()
    assert (defaults.bind, defaults.api_keys, defaults.allow_anonymous) == (
        "127.0.0.1:8080",
        (),
        None,
    )
    assert not defaults.needs_keys


def test_default_folder_of_the_cores_is_this_users_own() -> None:
    folder = Path(Settings.from_environment().cores_dir)
    assert folder == Path(tempfile.gettempdir()) / f"rowcast-cores-{os.getuid()}"


def test_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Settings()
    assert (
        settings(monkeypatch, **{name.upper(): "" for name in Settings.model_fields})
        == defaults
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BIND", "8080"),
        ("BIND", ":8080"),
        ("BIND", "127.0.0.1:"),
        ("BIND", "127.0.0.1:http"),
        ("BIND", "127.0.0.1:65536"),
        ("BIND", "127.0.0.1:\u00b2"),
        ("SERVER_WORKERS", "0"),
        ("SERVER_THREADS", "1"),
        ("SERVER_THREADS", "many"),
        ("API_KEYS", "no-owner-here"),
        ("API_KEYS", "acme:short"),
        ("API_KEYS", "Acme:0123456789"),
        ("API_KEYS", "../acme:0123456789"),
        ("API_KEYS", "acme:0123456789,other"),
        ("S3_ENDPOINT", "minio:9000"),
        ("S3_ENDPOINT", "ftp://minio"),
        ("S3_ENDPOINT", "http://"),
        ("S3_ENDPOINT", "http://minio:9000/path"),
        ("S3_ENDPOINT", "http://minio?region=eu"),
        ("S3_ENDPOINT", "http://[::1"),
        ("S3_ENDPOINT", "http://minio:port"),
        ("S3_ENDPOINT", "http://minio:99999"),
        ("S3_ENDPOINT", "http://user:password@minio"),
        ("S3_PUBLIC_ENDPOINT", "files.example.org"),
        ("TRUSTED_HOSTS", "https://rowcast.example.org"),
        ("TRUSTED_HOSTS", "rowcast.example.org:443"),
        ("TRUSTED_PROXIES", "caddy"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("DATASETS_BUCKET", "Data Sets"),
        ("MODELS_BUCKET", "m"),
        ("RESULTS_BUCKET", "results/all"),
        ("UPLOAD_URL_TTL_S", "0"),
        ("DOWNLOAD_URL_TTL_S", "604801"),
        ("MAX_UPLOAD_BYTES", "2GB"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost:6379"),
        ("REDIS_URL", "redis://localhost:port/0"),
        ("JOB_TTL_S", "0"),
        ("WORKERS", "-1"),
        ("JOB_TIMEOUT_S", "1.5"),
        ("STOP_GRACE_S", "-1"),
        ("MAX_ATTEMPTS", "0"),
        ("MAX_CLASSES", "1"),
        ("SIGNING_KEY", "too short"),
        ("VERIFY_KEYS", "ed25519-private-" + "A" * 43),
        ("HMAC_SIGNING_KEYS", f"{KEY},too short"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_bad_value_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(monkeypatch, **{name: value}).startswith(f"{name}: ")


def test_all_bad_values_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, SERVER_WORKERS="x", LOG_LEVEL="y", S3_ENDPOINT="z")
    assert [part.split(":")[0] for part in message.split("; ")] == [
        "SERVER_WORKERS",
        "S3_ENDPOINT",
        "LOG_LEVEL",
    ]


@pytest.mark.parametrize(
    "value", ["1", "0", "yes", "on", "True", "TRUE", "t", " true", "false "]
)
def test_loose_boolean_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        refusal(monkeypatch, ALLOW_ANONYMOUS=value)
        == "ALLOW_ANONYMOUS: must be exactly true or false"
    )


@pytest.mark.parametrize(("value", "meant"), [("true", True), ("false", False)])
def test_boolean_is_true_or_false(
    value: str, meant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings(monkeypatch, ALLOW_ANONYMOUS=value).allow_anonymous is meant


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("API_KEY", "API_KEYS"),
        ("SIGNING_KEYS", "HMAC_SIGNING_KEYS"),
        ("VERIFY_KEY", "VERIFY_KEYS"),
        ("SERVER_WORKER", "SERVER_WORKERS"),
        ("S3_ENDPONT", "S3_ENDPOINT"),
        ("ALLOW_ANONYMOS", "ALLOW_ANONYMOUS"),
        ("MODEL_BUCKET", "MODELS_BUCKET"),
        ("LOGLEVEL", "LOG_LEVEL"),
    ],
)
def test_misspelt_variable_is_refused_with_what_was_meant(
    misspelt: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(monkeypatch, **{misspelt: f"acme:{KEY}"})
    assert message == f"Unknown setting {misspelt}. Did you mean {meant}?"


@pytest.mark.parametrize(
    "name",
    [
        "AWS_ENDPOINT_URL",
        "REDIS_HOST",
        "PYTHONPATH",
        "WORKSPACE",
        "LOGNAME",
        "S3_BUCKET",
        "OMP_NUM_THREADS",
    ],
)
def test_variable_of_others_is_left_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings(monkeypatch, **{name: "x"}) == Settings()


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:8080", "rowcast.example.org:80"]
)
def test_other_addresses_than_loopback_need_keys(
    bind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(monkeypatch, BIND=bind)
    assert bind in message
    assert "API_KEYS" in message
    assert "ALLOW_ANONYMOUS=true" in message


@pytest.mark.parametrize(
    "variables",
    [
        {"ALLOW_ANONYMOUS": "true"},
        {"ALLOW_ANONYMOUS": "false"},
        {"API_KEYS": f"acme:{KEY}"},
        {"API_KEYS": f"acme:{KEY}", "ALLOW_ANONYMOUS": "true"},
    ],
    ids=["open", "created keys", "keys", "keys count"],
)
def test_other_addresses_are_allowed_with_keys_or_explicitly(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(monkeypatch, BIND="0.0.0.0:8080", **variables)
    assert given.bind == "0.0.0.0:8080"
    assert given.needs_keys == (variables != {"ALLOW_ANONYMOUS": "true"})


def test_loopback_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, ALLOW_ANONYMOUS="false").needs_keys


@pytest.mark.parametrize(
    "bind", ["127.0.0.1:8080", "127.8.8.8:1", "[::1]:8080", "localhost:8080"]
)
def test_loopback_needs_no_keys(bind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, BIND=bind).bind == bind


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(
        monkeypatch,
        INTERNAL_HOSTS="server, proxy,,",
        API_KEYS=f"acme:{KEY}, other-owner:with:colon",
        HMAC_SIGNING_KEYS=f"{KEY}-1,{KEY}-2",
    )
    assert given.internal_hosts == ("server", "proxy")
    assert [key.get_secret_value() for key in given.api_keys] == [
        f"acme:{KEY}",
        "other-owner:with:colon",
    ]
    assert [key.get_secret_value() for key in given.hmac_signing_keys] == [
        f"{KEY}-1",
        f"{KEY}-2",
    ]


def test_public_endpoint_is_the_store_itself_unless_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (
        settings(monkeypatch, S3_ENDPOINT="http://minio:9000/").public_endpoint
        == "http://minio:9000"
    )
    given = settings(monkeypatch, S3_PUBLIC_ENDPOINT="https://files.example.org")
    assert given.public_endpoint == "https://files.example.org"


def test_secrets_do_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(
        monkeypatch,
        API_KEYS="acme:THESECRET",
        S3_ACCESS_KEY="THESECRET",
        S3_SECRET_KEY="THESECRET",
        REDIS_URL="redis://:THESECRET@127.0.0.1:6379/0",
        SIGNING_KEY=PRIVATE_KEY,
        HMAC_SIGNING_KEYS="THESECRET-of-models",
    )
    printed = f"{given} {given!r} {given.model_dump()} {given.model_dump_json()}"
    assert "THESECRET" not in printed
    assert PRIVATE_KEY not in printed


def test_refusal_does_not_print_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(
        monkeypatch, API_KEYS="THESECRET,acme:THESECRET", SIGNING_KEY="THESECRET"
    )
    assert "THESECRET" not in message


def test_settings_are_never_read_from_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("SERVER_WORKERS=7\n")
    monkeypatch.chdir(tmp_path)
    assert (
        Settings.from_environment().server_workers
        == Settings.model_fields["server_workers"].default
    )


@pytest.mark.parametrize("old", sorted(config._RENAMED))
def test_renamed_setting_is_refused_with_its_new_name(
    old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(old, "4")
    with pytest.raises(
        ConfigurationError, match=f"{old}. Did you mean {config._RENAMED[old]}?"
    ):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEYS", "ann:good-key-of-ann,bob:change-me-0123456789"),
        ("REDIS_URL", "redis://rowcast:change-me-rowcast-password@redis:6379/0"),
        ("S3_ACCESS_KEY", "change-me-rowcast"),
        ("S3_SECRET_KEY", "CHANGE-ME-please"),
        ("HMAC_SIGNING_KEYS", f"{KEY},change-me-signing-key"),
        ("SIGNING_KEY", "change-me-private-key"),
        ("WEBHOOK_SECRETS", "whsec_change-me"),
    ],
)
def test_placeholder_is_refused_with_the_command_that_makes_secrets(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    message = refusal(monkeypatch, **{name: value})
    assert message.startswith(f"{name}: ")
    assert "`make env`" in message
    assert value not in message
