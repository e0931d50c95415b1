"""Each process has a user of its own at the store and at Redis, which may do what it needs and no
more: deploy/store/*.json and the users of docker-compose.yml. All of them use TLS."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from minio import Minio
from minio.error import S3Error

from tests.support import ROOT
from tests.support.certificates import Certificates, tls_before
from tests.support.redis_server import RedisServer
from tests.support.seaweedfs import ADMIN, SeaweedFS, free_ports
from tests.support.signing import new_pair
from tests.support.stack import SETTINGS, Stack, submitted
from tests.support.tables import parquet, table
from tests.support.waiting import eventually
from tests.test_deployment import ENV, services

COMMANDS = {
    "server": ["-m", "gunicorn"],
    "worker": ["worker.py", "--workers", "1"],
    "maintenance": ["maintenance.py"],
    "online": ["online.py"],
}
MAX_UPLOAD_BYTES = 8_000_000
SIGNING_KEY, VERIFY_KEY = new_pair()


@dataclass
class Confined(Stack):
    """A stack of processes with a user each."""

    store: SeaweedFS | None = None
    redis_server: RedisServer | None = None

    def as_(self, user: str) -> Minio:
        assert self.store
        return self.store.client(*self.store.keys_of(user))

    def in_redis_as(self, user: str) -> redis.Redis:
        assert self.redis_server
        password = password_of(user)
        return self.redis_server.connect(username=user, password=password)


def password_of(user: str) -> str:
    return ENV[f"REDIS_{user.upper()}_PASSWORD"]


def redis_users() -> dict[str, list[str]]:
    """Return the rules of each user of Redis in the Compose file."""
    lines = services()["redis"]["command"][2].splitlines()
    users = [line.split() for line in lines if line.startswith("user ")]
    return {name: [with_password(rule) for rule in rules] for _, name, *rules in users}


def with_password(rule: str) -> str:
    """Return a rule with the variable of its password, `>$$NAME`, put in."""
    return f">{ENV[rule[3:]]}" if rule.startswith(">$$") else rule


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Confined]:
    folder = tmp_path_factory.mktemp("confined")
    policies = {
        user: (ROOT / "deploy" / "store" / f"{user}.json").read_text()
        for user in COMMANDS
    }
    with ExitStack() as running:
        certificates = Certificates.made_in(folder)
        patch = running.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
        store = running.enter_context(
            SeaweedFS(folder, policies, certificates, forms={"server": "datasets"})
        )
        for bucket in ("datasets", "models", "results"):
            store.client(*ADMIN).make_bucket(bucket)
        server = running.enter_context(RedisServer(folder))
        with server.connect() as administrator:
            for user, rules in redis_users().items():
                administrator.execute_command("ACL", "SETUSER", user, *rules)
            administrator.execute_command("ACL", "SETUSER", "default", "off")
        redis_port = running.enter_context(tls_before(server.socket, certificates))
        (port,) = free_ports(1)
        for user, arguments in COMMANDS.items():
            environment = environment_of(user, store, redis_port, port, folder)
            running.enter_context(process(user, arguments, environment, folder))
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: is_ready(url), timeout_s=60)
        yield Confined(None, url, folder, store=store, redis_server=server)  # type: ignore[arg-type]


def environment_of(
    user: str, store: SeaweedFS, redis_port: int, port: int, folder: Path
) -> dict[str, str]:
    access_key, secret_key = store.keys_of(user)
    inherited = {
        name: value for name, value in os.environ.items() if name not in SETTINGS
    }
    in_redis = "online" if user == "online" else "rowcast"
    keys = {"VERIFY_KEYS": VERIFY_KEY}
    if user == "worker":
        keys["SIGNING_KEY"] = SIGNING_KEY
    return {
        **inherited,
        **keys,
        "BIND": f"127.0.0.1:{port}",
        "S3_ENDPOINT": store.url,
        "S3_ACCESS_KEY": access_key,
        "S3_SECRET_KEY": secret_key,
        "REDIS_URL": f"rediss://{in_redis}:{password_of(in_redis)}@127.0.0.1:{redis_port}/0",
        "SSL_CERT_FILE": str(store.certificates.authority),
        "ONLINE_SOCKET": str(folder / "online" / "socket"),
        "ONLINE_WORKERS": "1",
        "SCRATCH_DIR": str(folder / "scratch"),
        "CORES_DIR": str(folder / "cores"),
        "MAINTENANCE": "false",
        "MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
        "S3_POST_FORMS": "true",
        "SHORT_WORKERS": "0",
    }


@contextmanager
def process(
    user: str, arguments: list[str], environment: dict[str, str], folder: Path
) -> Iterator[None]:
    with (
        (folder / f"{user}.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stderr=log
        ) as started,
    ):
        yield
        started.terminate()


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=10).ok
    except requests.RequestException:
        return False


# What each may do


def test_a_model_is_fitted_and_predicts_with_a_user_for_each_process(
    confined: Confined,
) -> None:
    model = confined.fitted(table(200, 3))
    result = confined.result(confined.predict(table(20, 3), model))
    assert len(result) == 20


def test_an_online_prediction_needs_models_alone(confined: Confined) -> None:
    model = confined.fitted(table(60, 3))
    rows = table(5, 3).drop(columns="y").to_dict("records")
    answer = eventually(
        lambda: (
            (
                found := requests.post(
                    f"{confined.url}/predict?model_id={model}", json=rows, timeout=40
                )
            ).ok
            and found
        )
    )
    assert len(answer.json()) == 5


def test_canceling_and_deleting_work_with_the_users_of_their_processes(
    confined: Confined,
) -> None:
    job = confined.fit(table(20_000, 30))
    assert confined.post("/cancel", id=job).json()["status"] == "canceled"
    model = confined.fitted(table(60, 3))
    answer = requests.delete(f"{confined.url}/models/{model}", timeout=40)
    assert answer.status_code in (200, 204)
    assert confined.get("/models/" + model).status_code == 404


def test_a_certificate_of_another_authority_is_refused(
    confined: Confined, tmp_path: Path
) -> None:
    assert confined.store
    others = Certificates.made_in(tmp_path)
    environment = environment_of("server", confined.store, 1, 1, tmp_path)
    environment["SSL_CERT_FILE"] = str(others.authority)
    script = """
from rowcast.config import Settings
from rowcast.store import Storage
Storage(Settings.from_environment()).check_buckets()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "StoreUnavailable" in done.stderr
    assert "certificate verify failed" in done.stderr.lower()


def test_a_deleted_dataset_is_gone_with_the_user_of_the_server(
    confined: Confined,
) -> None:
    dataset = confined.upload(table(60, 3))
    answer = requests.delete(f"{confined.url}/datasets/{dataset}", timeout=40)
    assert answer.status_code == 204
    assert confined.post("/fit", id=dataset).json()["code"] == "dataset_not_found"
    listed = confined.get("/datasets").json()["datasets"]
    assert dataset not in [line["id"] for line in listed]


def test_the_digest_that_the_worker_notes_holds_for_a_dataset(
    confined: Confined,
) -> None:
    model = confined.fitted(table(60, 3))
    dataset = confined.status(model)["dataset_id"]
    client = confined.as_("server")
    names = [
        item.object_name.rpartition("/")[2]
        for item in client.list_objects("datasets", recursive=True)
        if item.object_name and dataset in item.object_name
    ]
    assert sorted(name.partition("-")[0] for name in names) == [
        "data",
        "sha256",
    ]


# Uploads by form


def form_of(confined: Confined) -> dict[str, Any]:
    answer = confined.get("/upload", form="true")
    assert answer.ok, answer.text
    return dict(answer.json())


def post_form(
    form: dict[str, Any], content: bytes, **changed: str
) -> requests.Response:
    fields = {**form["fields"], **changed}
    return requests.post(form["url"], data=fields, files={"file": content}, timeout=40)


def is_stored(confined: Confined, key: str) -> bool:
    found = confined.as_("server").list_objects("datasets", key)
    return key in [item.object_name for item in found]


def test_a_table_that_is_posted_by_form_is_fitted(confined: Confined) -> None:
    form = form_of(confined)
    post_form(form, parquet(table(60, 3))).raise_for_status()
    confined.finished(submitted(confined.post("/fit", id=form["id"])))


@pytest.mark.parametrize("n_bytes", [0, MAX_UPLOAD_BYTES + 1])
def test_a_form_of_another_size_is_refused_by_the_store(
    confined: Confined, n_bytes: int
) -> None:
    form = form_of(confined)
    assert post_form(form, b"x" * n_bytes).status_code in range(400, 500)
    assert not is_stored(confined, form["fields"]["key"])


def test_a_form_of_the_largest_size_is_stored(confined: Confined) -> None:
    form = form_of(confined)
    post_form(form, b"x" * MAX_UPLOAD_BYTES).raise_for_status()
    assert is_stored(confined, form["fields"]["key"])


def test_a_form_with_another_key_is_refused_by_the_store(confined: Confined) -> None:
    form, other = form_of(confined), form_of(confined)["fields"]["key"]
    assert post_form(form, b"x", key=other).status_code == 403
    assert not is_stored(confined, other)


# What each may not do


def denied(call: Callable[[], object]) -> bool:
    try:
        call()
    except S3Error as error:
        return error.code == "AccessDenied"
    return False


@pytest.mark.parametrize(
    ("user", "bucket", "name"),
    [
        ("server", "models", "ann/x/1/model.joblib"),
        ("server", "models", "ann/x/1/manifest.json"),
        ("server", "results", "ann/x/1/result.parquet"),
        ("worker", "datasets", "ann/x/data"),
        ("worker", "datasets", "ann/x/deleted"),
        ("worker", "models", "api-keys.json"),
        ("server", "models", "api-keys.json"),
        ("maintenance", "datasets", "ann/x/data"),
        ("maintenance", "models", "ann/x/1/model.joblib"),
        ("online", "models", "ann/x/1/model.joblib"),
        ("online", "results", "ann/x/1/result.parquet"),
    ],
)
def test_a_user_cannot_write_what_others_make(
    confined: Confined, user: str, bucket: str, name: str
) -> None:
    client = confined.as_(user)
    assert denied(lambda: client.put_object(bucket, name, io.BytesIO(b"x"), 1))


@pytest.mark.parametrize("bucket", ["datasets", "results"])
def test_online_workers_cannot_read_tables(confined: Confined, bucket: str) -> None:
    client = confined.as_("online")
    assert denied(lambda: list(client.list_objects(bucket)))
    assert denied(lambda: client.get_object(bucket, "ann/x/data"))


@pytest.mark.parametrize("user", ["worker", "online"])
def test_processes_that_load_models_cannot_read_the_copy_of_the_keys(
    confined: Confined, user: str
) -> None:
    assert confined.store
    content = b'{"keys": {}}'
    confined.store.client(*ADMIN).put_object(
        "models", "api-keys.json", io.BytesIO(content), len(content)
    )
    client = confined.as_(user)
    assert denied(lambda: client.get_object("models", "api-keys.json"))
    assert denied(lambda: client.remove_object("models", "api-keys.json"))


def test_a_worker_cannot_delete_datasets(confined: Confined) -> None:
    client = confined.as_("worker")
    assert denied(lambda: client.remove_object("datasets", "ann/x/data"))


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("rowcast", "FLUSHALL"),
        ("rowcast", "CONFIG GET *"),
        ("rowcast", "SET another:key 1"),
        ("rowcast", "ACL LIST"),
        ("online", "HGETALL rq:job:x"),
        ("online", "SET rowcast:deletions 1"),
        ("online", "EVAL return(1) 0"),
    ],
)
def test_a_user_of_redis_cannot_do_more_than_its_process_needs(
    confined: Confined, user: str, command: str
) -> None:
    with (
        confined.in_redis_as(user) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*command.split())
