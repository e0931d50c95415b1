"""Dockerfile, Compose file and .env.example fit each other and the settings; no engine is
needed."""

from __future__ import annotations

import fnmatch
import http.server
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import rq
from rq.utils import utcformat
from ruamel.yaml import YAML

from deploy.make_env import filled
from rowcast.config import ConfigurationError, Settings
from rowcast.errors import ModelUntrusted
from rowcast.signatures import public_text
from rowcast.store import JobRef, publications
from tests.support import ROOT
from tests.support.signing import key_of, keys_of, new_pair
from tests.support.stack import Stack, StartStack
from tests.support.tables import table
from tests.support.waiting import eventually

# `${NAME}`, `${NAME:-default}` and `${NAME:?message}` without another one inside.
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^{}$]*))?\}")
OURS = ("server", "worker", "maintenance", "online")
HOLDS_KEY = {"worker"}
VERIFY = {"server", "worker", "online"}
SECRETS = (
    "REDIS_PASSWORD",
    "REDIS_ROWCAST_PASSWORD",
    "REDIS_ONLINE_PASSWORD",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "SIGNING_KEY",
    "VERIFY_KEYS",
)
# Read by Compose itself; it leaves MinIO out when it is empty.
OF_COMPOSE = {"COMPOSE_PROFILES"}

COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
EXAMPLE_TEXT = (ROOT / ".env.example").read_text()


def parsed(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


EXAMPLE = parsed(EXAMPLE_TEXT)
# What `make env` writes.
ENV = parsed(filled(EXAMPLE_TEXT))


def interpolated(text: str, variables: dict[str, str]) -> str:
    """Put the variables in, as Compose does, the inner ones of nested defaults first."""

    def value(found: re.Match[str]) -> str:
        name, operator, rest = found.groups()
        assert operator != "?" or variables.get(name), f"{name}: {rest}"
        return variables.get(name) or (rest if operator == "-" else "")

    while (replaced := VARIABLE.sub(value, text)) != text:
        text = replaced
    return text


def services(variables: dict[str, str] = ENV) -> dict[str, Any]:
    """Return the services of the Compose file with variables put in, by default those of
    `make env`."""
    return dict(
        YAML(typ="safe").load(interpolated(COMPOSE_TEXT, variables))["services"]
    )


def environment(service: str, variables: dict[str, str] = ENV) -> dict[str, str]:
    """Return the environment of a service; a variable without a value is passed on if it is set."""
    given = services(variables)[service]["environment"]
    passed = {
        name: variables.get(name) if value is None else value
        for name, value in given.items()
    }
    return {name: value for name, value in passed.items() if value is not None}


def seconds(duration: str) -> int:
    units_s = {"h": 3600, "m": 60, "s": 1}
    return sum(
        int(number) * units_s[unit]
        for number, unit in re.findall(r"(\d+)([hms])", duration)
    )


def used_variables() -> set[str]:
    passed_on = {
        name
        for s in services().values()
        for name, v in s["environment"].items()
        if v is None
    }
    return passed_on | set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT))


@pytest.mark.parametrize("service", OURS)
def test_variables_given_to_a_process_are_settings(service: str) -> None:
    assert set(services()[service]["environment"]) <= {
        name.upper() for name in Settings.model_fields
    }


def test_every_setting_is_given_to_a_process() -> None:
    given = {name for service in OURS for name in services()[service]["environment"]}
    # In Compose the server cannot see the disks of Redis and the store.
    assert given == {name.upper() for name in Settings.model_fields} - {"DATA_DIR"}


def test_env_example_names_every_variable_that_compose_uses_and_no_other() -> None:
    assert set(ENV) == used_variables() | OF_COMPOSE


def test_every_variable_is_documented() -> None:
    documents = [
        (ROOT / "docs" / name).read_text()
        for name in ("deployment.md", "configuration.md")
    ]
    assert {
        name for name in ENV if not any(f"`{name}`" in text for text in documents)
    } == set()


def test_env_example_repeats_the_defaults_of_the_settings() -> None:
    differs = {*SECRETS, "ALLOW_ANONYMOUS", "LOG_FORMAT"}
    defaults = {
        name.upper(): field.default for name, field in Settings.model_fields.items()
    }
    shown = {name: value for name, value in ENV.items() if name in defaults and value}
    assert {
        name: value for name, value in shown.items() if value != str(defaults[name])
    }.keys() <= differs


@pytest.mark.parametrize("service", OURS)
def test_placeholders_of_env_example_are_refused_with_what_makes_real_secrets(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(service, EXAMPLE).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="make env") as caught:
        Settings.from_environment()
    secrets = {"REDIS_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY"}
    secrets |= {"SIGNING_KEY"} if service in HOLDS_KEY else set()
    secrets |= {"VERIFY_KEYS"} if service in VERIFY else set()
    assert set(str(caught.value).partition(":")[0].split(", ")) == secrets
    assert EXAMPLE["S3_SECRET_KEY"] not in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [["worker.py"], ["online.py"], ["maintenance.py"], ["-m", "gunicorn"]]
    + [["-m", f"rowcast.{name}"] for name in ("access", "local")],
    ids=" ".join,
)
def test_process_with_a_placeholder_does_not_start(command: list[str]) -> None:
    found = subprocess.run(
        [sys.executable, *command, *(["list"] if "rowcast.access" in command else [])],
        env={"PATH": os.environ["PATH"], "S3_SECRET_KEY": EXAMPLE["S3_SECRET_KEY"]},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 1
    assert "S3_SECRET_KEY: 'change-me...' is a placeholder" in found.stderr
    assert "make env" in found.stderr


@pytest.mark.parametrize("name", [name for name in SECRETS if "REDIS" in name])
def test_redis_refuses_a_placeholder(name: str) -> None:
    command = services()["redis"]["command"]
    script = command[2].replace("$$", "$")
    given = services(ENV | {name: EXAMPLE[name]})["redis"]["environment"]
    found = subprocess.run(
        [*command[:2], script.replace("exec redis-server -", "exec cat")],
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert "make env" in found.stderr


@pytest.mark.parametrize("service", OURS)
def test_every_service_accepts_what_make_env_writes(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(service).items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environment()
    assert bool(settings.signing_key) == (service in HOLDS_KEY)
    assert bool(settings.verify_keys) == (service in VERIFY)


@pytest.mark.parametrize("service", OURS)
def test_settings_without_a_value_fall_back_to_their_defaults(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {name: ENV[name] for name in SECRETS} | {"ALLOW_ANONYMOUS": "true"}
    for name, value in environment(service, secrets).items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment().job_timeout_s == Settings().job_timeout_s == 3600


def test_url_for_users_follows_the_port_of_the_store() -> None:
    moved = environment("server", ENV | {"S3_PORT": "9900"})
    assert moved["S3_PUBLIC_ENDPOINT"] == "http://localhost:9900"
    assert moved["S3_ENDPOINT"] == "http://minio:9000"
    named = environment(
        "server", ENV | {"S3_PUBLIC_ENDPOINT": "https://s3.example.org"}
    )
    assert named["S3_PUBLIC_ENDPOINT"] == "https://s3.example.org"


def test_server_knows_its_name_in_the_network() -> None:
    assert environment("server")["INTERNAL_HOSTS"] == "server"


def test_only_workers_get_the_signing_key() -> None:
    holders = {
        name
        for name, service in services().items()
        if ENV["SIGNING_KEY"] in str(service)
    }
    assert holders == HOLDS_KEY
    assert "HMAC_SIGNING_KEYS" not in services()["server"]["environment"]


def test_work_horses_cannot_read_the_environment_of_their_container() -> None:
    # Docker's init would have SIGNING_KEY, in a process that work horses may look into.
    worker = services()["worker"]
    assert worker["init"] is False
    # The kernel closes those that run this program, see tests/workers/test_signer.py.
    assert worker["command"].split()[0] == "python-hidden"
    assert worker["healthcheck"]["test"][1] == "python-hidden"
    assert 'install --mode 0711 "$(readlink -f /venv/bin/python)"' in dockerfile()


@pytest.mark.parametrize("secret", SECRETS)
def test_secret_has_no_default_and_must_be_changed(secret: str) -> None:
    assert {
        operator
        for name, operator, _ in VARIABLE.findall(COMPOSE_TEXT)
        if name == secret
    } == {"?"}
    assert EXAMPLE[secret].startswith("change-me-")
    without = {name: value for name, value in ENV.items() if name != secret}
    with pytest.raises(AssertionError, match=f"{secret}: run make env"):
        services(without)


def test_password_of_redis_is_not_an_argument() -> None:
    redis = services()["redis"]
    shown = str([redis["command"], redis["healthcheck"]])
    assert not any(ENV[name] in shown for name in SECRETS)
    assert redis["environment"]["REDISCLI_AUTH"] == ENV["REDIS_PASSWORD"]


def test_redis_keeps_its_jobs() -> None:
    configuration = services()["redis"]["command"][2].splitlines()
    assert {
        "appendonly yes",
        "appendfsync always",
        "maxmemory-policy noeviction",
    } <= set(configuration)


def test_ports_are_published_on_loopback_only() -> None:
    ports = [
        port for service in services().values() for port in service.get("ports", [])
    ]
    assert len(ports) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert not any(service.get("network_mode") for service in services().values())


def networks(service: str, variables: dict[str, str] = ENV) -> dict[str, Any]:
    """Return the networks of a service by name, each with its options."""
    text = interpolated(COMPOSE_TEXT, variables)
    declared = YAML(typ="safe").load(text)["networks"]
    return {
        name: declared[name] or {} for name in services(variables)[service]["networks"]
    }


@pytest.mark.parametrize("service", ["worker", "online", "redis"])
def test_what_runs_models_or_keeps_jobs_has_no_way_to_the_internet(
    service: str,
) -> None:
    for name, options in networks(service).items():
        assert str(options["internal"]).lower() == "true", name


def test_redis_and_the_store_are_in_networks_of_their_own() -> None:
    assert set(networks("redis")) == {"queue"}
    assert set(networks("minio")) == {"store", "outside"}
    for service in OURS:
        assert {"queue", "store"} <= set(networks(service))
    elsewhere = networks("worker", ENV | {"STORE_IS_INTERNAL": "false"})
    assert str(elsewhere["store"]["internal"]).lower() == "false"


def test_one_service_does_the_maintenance() -> None:
    assert environment("worker")["MAINTENANCE"] == "false"
    assert services()["maintenance"]["command"] == "python maintenance.py"


def test_workers_can_be_scaled() -> None:
    worker = services()["worker"]
    assert "ports" not in worker
    assert "container_name" not in worker


@pytest.mark.parametrize("grace_s", ["", "60", "600"])
def test_containers_get_the_time_that_their_processes_need_to_stop(
    grace_s: str,
) -> None:
    worker = services(ENV | {"STOP_GRACE_S": grace_s})["worker"]
    assert (
        seconds(worker["stop_grace_period"])
        >= int(grace_s or Settings().stop_grace_s) + 15
    )
    graceful_timeout_s = re.search(
        r"^graceful_timeout = (\d+)$", gunicorn_conf(), re.MULTILINE
    )
    assert graceful_timeout_s
    assert seconds(services()["server"]["stop_grace_period"]) > int(
        graceful_timeout_s[1]
    )


def gunicorn_conf() -> str:
    return (ROOT / "gunicorn.conf.py").read_text()


@pytest.mark.parametrize("service", services())
def test_service_is_checked_limited_and_hardened(service: str) -> None:
    found = services()[service]
    assert found["healthcheck"]["test"][0] == "CMD"
    assert not any(" " in word for word in found["healthcheck"]["test"]), (
        "some engines split at spaces"
    )
    assert found["mem_limit"]
    assert found["pids_limit"]
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["restart"] == "unless-stopped"
    assert set(found["logging"]["options"]) == {"max-size", "max-file"}


def test_server_reaches_the_online_workers_by_a_socket_in_a_volume_of_both() -> None:
    found = [services()[name] for name in ("server", "online")]
    assert {service["environment"]["ONLINE_SOCKET"] for service in found} == {
        "/online/socket"
    }
    assert all("online:/online" in service["volumes"] for service in found)


def test_online_workers_fit_into_their_container() -> None:
    (gigabytes,) = re.findall(r"^(\d+)g$", services()["online"]["mem_limit"])
    settings = Settings()
    assert (
        settings.online_workers * settings.online_memory_bytes + 500_000_000
        <= int(gigabytes) << 30
    )
    assert 2 * settings.online_cache_bytes < settings.online_memory_bytes


def test_server_and_workers_keep_things_for_the_same_time() -> None:
    asked = ENV | {
        f"RETAIN_{name}_DAYS": "30" for name in ("DATASETS", "MODELS", "RESULTS")
    }
    given = [environment(service, asked) for service in OURS]
    for name in ("RETAIN_DATASETS_DAYS", "RETAIN_MODELS_DAYS", "RETAIN_RESULTS_DAYS"):
        assert [variables[name] for variables in given] == ["30"] * len(OURS)


@pytest.mark.parametrize("service", OURS)
def test_commands_of_the_guide_run_in_a_container_that_has_the_settings(
    service: str,
) -> None:
    assert {"S3_ENDPOINT", "REDIS_URL"} <= environment(service).keys()
    guide = (ROOT / "docs" / "deployment.md").read_text()
    for module in set(re.findall(r"python -m (rowcast\.\w+)", guide)):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("service", OURS)
def test_our_processes_run_on_a_read_only_root_once_the_others_are_healthy(
    service: str,
) -> None:
    found = services()[service]
    assert found["read_only"]
    # Of workers, see test_no_other_process_of_a_workers_container_gets_its_environment.
    assert found["init"] == (service != "worker")
    assert {part["condition"] for part in found["depends_on"].values()} == {
        "service_healthy"
    }


@pytest.mark.parametrize("service", OURS)
def test_folders_of_a_process_lie_in_a_volume_whose_owner_the_image_sets(
    service: str,
) -> None:
    named = ("CORES_DIR", "SCRATCH_DIR", "ONLINE_SOCKET")
    folders = [value for name, value in environment(service).items() if name in named]
    targets = [
        volume.split(":")[1] for volume in services()[service].get("volumes", [])
    ]
    assert all(str(Path(folder).parent) in targets for folder in folders)
    (owned,) = re.findall(r"--owner rowcast --group rowcast (.*)", dockerfile())
    assert set(targets) <= set(owned.split())


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text().replace("\\\n", "")


def test_image_runs_as_a_user_of_its_own() -> None:
    assert re.findall(r"^USER (.+)$", dockerfile(), re.MULTILINE) == ["10001:10001"]
    assert services()["redis"]["user"] == "redis"


def test_images_are_pinned_by_digest() -> None:
    third_party = [services()[name]["image"] for name in ("redis", "minio")]
    bases = re.findall(r"^ARG PYTHON_IMAGE=(.+)$", dockerfile(), re.MULTILINE)
    for image in [*third_party, *bases]:
        assert re.search(r"@sha256:[0-9a-f]{64}\}?$", image), image
    assert set(re.findall(r"^FROM (\S+)", dockerfile(), re.MULTILINE)) == {
        "${PYTHON_IMAGE}"
    }


def is_in_context(name: str) -> bool:
    """Return whether the build sees a path of the root; the last matching line decides."""
    is_ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").rstrip("/")
        if line and not line.startswith("#") and fnmatch.fnmatch(name, pattern):
            is_ignored = not line.startswith("!")
    return not is_ignored


def test_build_context_has_what_runs_and_nothing_else() -> None:
    programs = [path.name for path in ROOT.glob("*.py")]
    for name in [*programs, "rowcast", "deploy", "locks/service.txt"]:
        assert is_in_context(name), name
    for name in (
        ".env",
        ".git",
        ".rowcast",
        ".venv",
        "tests",
        "train.parquet",
        "id_rsa",
    ):
        assert not is_in_context(name), name


@pytest.mark.parametrize("service", OURS)
def test_health_check_is_a_file_of_the_image(service: str) -> None:
    interpreter, script = services()[service]["healthcheck"]["test"][1:]
    assert interpreter in ("python", "python-hidden")
    assert (ROOT / script).is_file()


def check(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a health check as the engine does."""
    return subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "health" / script)],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """Serve one answer for everything, and yield the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


def test_server_is_healthy_when_it_is_ready() -> None:
    with answering(200, b"{}") as port:
        assert check("server.py", BIND=f"0.0.0.0:{port}").returncode == 0


def test_server_is_unhealthy_and_says_why_when_it_is_not_ready() -> None:
    with answering(503, b"the store does not answer") as port:
        found = check("server.py", BIND=f"0.0.0.0:{port}")
    assert found.returncode == 1
    assert "the store does not answer" in found.stderr


def test_server_is_unhealthy_when_it_does_not_listen() -> None:
    with answering(200, b"") as port:
        pass
    assert check("server.py", BIND=f"0.0.0.0:{port}").returncode == 1


def test_worker_is_unhealthy_without_redis() -> None:
    found = check("worker.py", REDIS_URL="redis://127.0.0.1:1/0")
    assert found.returncode == 1
    assert found.stderr == "Redis does not answer: ConnectionError\n"


def test_online_workers_are_healthy_while_one_takes_connections(stack: Stack) -> None:
    path = str(stack.data / "online" / "socket")
    eventually(lambda: check("online.py", ONLINE_SOCKET=path).returncode == 0)
    (worker,) = stack.part("online").children()
    worker.suspend()
    found = check("online.py", ONLINE_SOCKET=path)
    worker.resume()
    assert (found.returncode, found.stderr) == (
        1,
        "no online worker was free within 8 s\n",
    )


def test_online_workers_are_unhealthy_when_nobody_listens(tmp_path: Path) -> None:
    found = check("online.py", ONLINE_SOCKET=str(tmp_path / "socket"))
    assert found.returncode == 1
    assert found.stderr.startswith("no online worker listens")


def test_keys_of_a_stack_are_changed_without_losing_its_models(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1)
    made_before = stack.fitted(table(60, 3))
    old = stack.private_key()
    stack.stop()
    private, public = new_pair()
    both = f"{public},{public_text(old.public_bytes)}"
    stack = start_stack(stack.data, workers=1, SIGNING_KEY=private, VERIFY_KEYS=both)
    stack.finished(stack.predict(table(60, 3), made_before))
    made_since = stack.fitted(table(60, 3))
    storage = stack.storage()
    refs = [JobRef("default", "fit", id_) for id_ in (made_before, made_since)]
    published = [publications.find(storage, ref) for ref in refs]
    manifests = [found.manifest for found in published if found]
    stack.stop()
    # Once the old key is removed, only the new model is trusted.
    keys = keys_of(key_of(private))
    keys.verify(refs[1], 1, manifests[1])
    with pytest.raises(ModelUntrusted):
        keys.verify(refs[0], 1, manifests[0])


def test_worker_is_healthy_while_it_sends_heartbeats(stack: Stack) -> None:
    url = stack.settings().redis_url.get_secret_value()
    # The server of a stack may be ready before its workers have registered.
    eventually(lambda: check("worker.py", REDIS_URL=url).returncode == 0)


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({"hostname": "another-container"}, 0),
        ({"last_heartbeat": utcformat(datetime.now(UTC) - timedelta(minutes=5))}, 1),
    ],
)
def test_worker_is_unhealthy_without_a_recent_heartbeat_of_its_own(
    change: dict[str, str], counted: int, stack: Stack
) -> None:
    # Another database of the same Redis, where no other worker is registered.
    url = stack.settings().redis_url.get_secret_value().removesuffix("/0") + "/1"
    with redis.Redis.from_url(url) as connection:
        worker = rq.Worker("any", connection=connection)
        worker.register_birth()
        connection.hset(worker.key, mapping=change)
        found = check("worker.py", REDIS_URL=url)
        connection.flushdb()
    assert found.returncode == 1
    assert f"none of this container's {counted} workers" in found.stderr
