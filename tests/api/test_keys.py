"""Keys that come and go while two server processes run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from rowcast.store import ObjectMissing
from tests.support import ROOT
from tests.support.http import UNKNOWN, assert_problem
from tests.support.stack import SETTINGS, Stack, StartStack, submitted
from tests.support.tables import table
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def closed(start_lasting_stack: StartStack) -> Stack:
    """Return a stack that admits created keys alone, with two server processes."""
    return start_lasting_stack(
        workers=1,
        SHORT_WORKERS="0",
        SERVER_WORKERS="2",
        ALLOW_ANONYMOUS="false",
        # These tests ask with revoked keys until they are refused.
        ADDRESS_FAILURES_PER_MINUTE="0",
    )


def run(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m rowcast.access` against a stack."""
    given = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    url = stack.settings().redis_url.get_secret_value()
    return subprocess.run(
        [sys.executable, "-m", "rowcast.access", *arguments],
        cwd=ROOT,
        env={**given, "REDIS_URL": url, "ALLOW_ANONYMOUS": "false"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def created(stack: Stack, owner: str, scopes: str, *more: str) -> str:
    made = run(
        stack, "create", "--owner", owner, "--name", "test", "--scopes", scopes, *more
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def with_key(stack: Stack, key: str) -> Stack:
    """Return a stack that sends a key, which every server process knows by then."""
    headers = {"Authorization": f"Bearer {key}"}
    keyed = Stack(stack.process, stack.url, stack.data, headers)
    eventually(lambda: statuses(keyed) == {200})
    return keyed


def statuses(keyed: Stack) -> set[int]:
    """Return how /me answers on many connections, which both server processes accept."""
    return {keyed.get("/me").status_code for _ in range(20)}


@pytest.fixture(scope="module")
def admin(closed: Stack) -> Stack:
    return with_key(closed, created(closed, "ops", "admin"))


def create(admin: Stack, **parameters: Any) -> requests.Response:
    given = {"owner": "ann", "name": "laptop", "scopes": ["read"], **parameters}
    return requests.post(
        admin.url + "/keys", json=given, headers=admin.headers, timeout=40
    )


def listed(admin: Stack, key_id: str) -> dict[str, Any]:
    keys = admin.get("/keys", limit=100).json()["keys"]
    return next(key for key in keys if key["id"] == key_id)


def test_nobody_comes_in_without_a_key(closed: Stack) -> None:
    assert_problem(closed.get("/me"), 401, "unauthorized")
    assert closed.get("/readyz").status_code == 200


def test_key_works_right_after_it_was_created_by_a_route(admin: Stack) -> None:
    answer = create(admin, scopes=["read", "fit"])
    assert answer.status_code == 201
    made = answer.json()
    keyed = with_key(admin, made["key"])
    me = keyed.get("/me").json()
    assert me.pop("limits").keys() >= me.pop("usage").keys() > {"datasets"}
    assert me == {
        "owner": "ann",
        "key_id": made["id"],
        "key_name": "laptop",
        "scopes": ["fit", "read"],
        "expires_at": None,
        "version": admin.get("/openapi.json").json()["info"]["version"],
    }


def test_key_itself_is_shown_once_and_kept_nowhere(admin: Stack) -> None:
    made = create(admin).json()
    assert made["key"] not in admin.get("/keys", limit=100).text
    assert "key" not in listed(admin, made["id"])
    with admin.redis() as connection:
        dumped: Any = [connection.dump(name) for name in connection.keys("*")]
    assert made["key"].encode() not in b"".join(filter(None, dumped))
    assert made["key"] not in (admin.data / "test.log").read_text()


def test_revoked_key_is_refused_by_every_process_within_two_seconds(
    admin: Stack,
) -> None:
    made = create(admin).json()
    keyed = with_key(admin, made["key"])
    url = f"{admin.url}/keys/{made['id']}"
    assert requests.delete(url, headers=admin.headers).status_code == 204
    revoked_at = time.monotonic()
    eventually(lambda: statuses(keyed) == {401})
    # Twice the promise, for a machine that is busy.
    assert time.monotonic() - revoked_at < 4
    assert keyed.get("/me").json()["detail"] == "The API key was revoked."
    assert listed(admin, made["id"])["revoked_at"] == pytest.approx(time.time(), abs=60)
    assert requests.delete(url, headers=admin.headers).status_code == 204


def test_command_line_creates_lists_and_revokes(closed: Stack) -> None:
    key = created(closed, "cli", "read,predict", "--days", "1")
    keyed = with_key(closed, key)
    me = keyed.get("/me").json()
    assert (me["owner"], me["scopes"]) == ("cli", ["predict", "read"])
    assert me["expires_at"] == pytest.approx(time.time() + 86_400, abs=600)
    shown = run(closed, "list", "--owner", "cli").stdout
    assert me["key_id"] in shown
    assert key not in shown
    assert "ops" not in shown
    assert run(closed, "revoke", me["key_id"]).returncode == 0
    eventually(lambda: statuses(keyed) == {401})
    assert "(revoked)" in run(closed, "list").stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["revoke", UNKNOWN], "does not exist"),
        (["create", "--owner", "Ann", "--name", "a", "--scopes", "read"], "lower-case"),
        (["create", "--owner", "a", "--name", "a\nb", "--scopes", "read"], "a name"),
        (["create", "--owner", "a", "--name", "a", "--scopes", "root"], "unknown"),
        (
            ["create", "--owner", "a", "--name", "a", "--scopes", "read", "--days=-1"],
            "days",
        ),
    ],
)
def test_command_line_says_what_is_wrong(
    closed: Stack, arguments: list[str], complaint: str
) -> None:
    done = run(closed, *arguments)
    assert done.returncode in (1, 2)
    assert complaint in done.stderr
    assert not done.stdout


def test_expired_key_is_refused(admin: Stack) -> None:
    made = create(admin, expires_at=time.time() + 2).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    keyed = Stack(admin.process, admin.url, admin.data, headers)
    eventually(lambda: "has expired" in keyed.get("/me").text)
    assert_problem(keyed.get("/me"), 401, "unauthorized")


def test_use_of_a_key_is_listed(admin: Stack) -> None:
    made = create(admin).json()
    assert listed(admin, made["id"])["last_used_at"] is None
    with_key(admin, made["key"])
    used_at = eventually(lambda: listed(admin, made["id"])["last_used_at"])
    assert used_at == pytest.approx(time.time(), abs=60)


def test_keys_are_listed_by_page_and_owner(admin: Stack) -> None:
    ids = [create(admin, owner="pages").json()["id"] for _ in range(3)]
    first = admin.get("/keys", owner="pages", limit=2).json()
    assert [key["id"] for key in first["keys"]] == [ids[2], ids[1]]
    second = admin.get("/keys", owner="pages", before=first["next"]).json()
    assert [key["id"] for key in second["keys"]] == [ids[0]]
    assert second["next"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"scopes": ["root"]},
        {"owner": "../ann"},
        {"name": "two\nlines"},
        {"expires_at": 1.0},
    ],
)
def test_malformed_key_is_refused(admin: Stack, wrong: dict[str, Any]) -> None:
    assert_problem(create(admin, **wrong), 400, "invalid_request")


def test_answer_with_a_key_is_not_kept_for_repetition(admin: Stack) -> None:
    headers = {**admin.headers, "Idempotency-Key": "once"}
    given = {"owner": "ann", "name": "laptop", "scopes": ["read"]}
    answer = requests.post(admin.url + "/keys", json=given, headers=headers)
    assert_problem(answer, 400, "invalid_request")


def test_unknown_key_cannot_be_revoked(admin: Stack) -> None:
    answer = requests.delete(f"{admin.url}/keys/{UNKNOWN}", headers=admin.headers)
    assert_problem(answer, 404, "key_not_found")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/status", "read"),
        ("GET", "/jobs", "read"),
        ("POST", "/fit", "fit"),
        ("POST", "/predict", "predict"),
        ("DELETE", f"/models/{UNKNOWN}", "fit"),
        ("GET", "/keys", "admin"),
        ("POST", "/keys", "admin"),
        ("DELETE", f"/keys/{UNKNOWN}", "admin"),
    ],
)
def test_key_that_lacks_a_scope_is_403_with_its_name(
    admin: Stack, method: str, path: str, scope: str
) -> None:
    others = sorted({"read", "predict", "fit", "admin"} - {scope})
    made = create(admin, scopes=others).json()
    keyed = with_key(admin, made["key"])
    answer = requests.request(method, keyed.url + path, headers=keyed.headers)
    assert scope in str(assert_problem(answer, 403, "forbidden")["detail"])


def test_job_is_canceled_with_the_scope_of_its_kind(admin: Stack) -> None:
    fit_key = with_key(admin, create(admin, scopes=["fit", "read"]).json()["key"])
    predict_key = with_key(admin, create(admin, scopes=["predict"]).json()["key"])
    with admin.frozen():
        job = submitted(fit_key.post("/fit", id=fit_key.upload(table(60, 3))))
        assert_problem(predict_key.post("/cancel", id=job), 403, "forbidden")
        assert fit_key.status(job)["status"] == "queued"
        assert fit_key.post("/cancel", id=job).json()["status"] == "canceled"


def test_administrator_sees_no_data(admin: Stack) -> None:
    for path in ("/models", "/datasets", "/jobs"):
        assert_problem(admin.get(path), 403, "forbidden")


def test_created_keys_outlive_redis(admin: Stack) -> None:
    keyed = with_key(admin, create(admin).json()["key"])
    with admin.redis() as connection:
        version = connection.hget("rowcast:access:state", "version")
        storage = admin.storage()

        def is_copied() -> bool:
            try:
                copy = storage.read_key("models", "api-keys.json")
            except ObjectMissing:
                return False
            n_keys = connection.hlen("rowcast:access:keys")
            return len(json.loads(copy)["keys"]) == n_keys

        eventually(is_copied)
        connection.delete(*connection.keys("rowcast:access:*"))
        assert version
    eventually(lambda: statuses(keyed) == {200})


def test_anonymous_server_makes_no_keys(stack: Stack) -> None:
    problem = assert_problem(create(stack), 409, "keys_not_used")
    assert "ALLOW_ANONYMOUS=false" in str(problem["hint"])
    me = stack.get("/me").json()
    assert me.pop("limits").keys() >= me.pop("usage").keys()
    assert me == {
        "owner": "default",
        "key_id": None,
        "key_name": None,
        "scopes": ["admin", "fit", "predict", "read"],
        "expires_at": None,
        "version": stack.get("/openapi.json").json()["info"]["version"],
    }


def run_beside(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m rowcast.local.access` on a data folder, in an empty environment."""
    command = [sys.executable, "-m", "rowcast.local.access", "--data", str(data)]
    return subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_operator_of_a_local_stack_needs_only_its_folder(closed: Stack) -> None:
    made = run_beside(
        closed.data,
        *("create", "--owner", "zoe", "--name", "of make up"),
        *("--scopes", "read"),
    )
    assert made.returncode == 0, made.stderr
    answer = with_key(closed, made.stdout.strip()).get("/me").json()
    assert (answer["owner"], answer["key_name"]) == ("zoe", "of make up")

    assert answer["key_id"] in run_beside(closed.data, "list").stdout
    assert run_beside(closed.data, "revoke", answer["key_id"]).returncode == 0
    lines = (closed.data / "audit.log").read_text().splitlines()
    audited = [json.loads(line) for line in lines if answer["key_id"] in line]
    by_hand = [line for line in audited if line["action"].startswith("access ")]
    assert [line["action"] for line in by_hand] == ["access create", "access revoke"]
    assert {(line["owner"], line["object"]) for line in by_hand} == {
        ("zoe", answer["key_id"])
    }
    assert all(line["user"] for line in by_hand)


def test_keys_of_a_stack_that_does_not_run_are_not_asked_for(tmp_path: Path) -> None:
    found = run_beside(tmp_path, "list")
    assert found.returncode == 1
    assert "No stack runs on" in found.stderr
    assert "make up" in found.stderr


def test_changes_are_audited_with_the_ids_of_what_they_made(closed: Stack) -> None:
    stack = with_key(closed, created(closed, "uma", "read,predict,fit"))
    dataset_id = stack.upload(table(60, 3))
    model_id = submitted(stack.post("/fit", id=dataset_id))
    stack.finished(model_id)
    result_id = submitted(
        stack.post("/predict", dataset_id=dataset_id, model_id=model_id)
    )
    stack.finished(result_id)
    deleted = requests.delete(
        f"{stack.url}/models/{model_id}", headers=stack.headers, timeout=30
    )
    assert deleted.ok

    lines = map(json.loads, (closed.data / "audit.log").read_text().splitlines())
    found = [line for line in lines if line.get("owner") == "uma" and "status" in line]
    assert [(line["action"], line["outcome"], line["object"]) for line in found] == [
        ("GET /upload", "done", dataset_id),
        ("POST /fit", "done", model_id),
        ("POST /predict", "done", result_id),
        ("DELETE /models/<id>", "done", model_id),
    ]
    assert found[1]["named"] == {"id": dataset_id}
    assert found[2]["named"] == {"dataset_id": dataset_id, "model_id": model_id}
    assert {line["key_name"] for line in found} == {"test"}
    assert all(line["request_id"] and line["address"] for line in found)
