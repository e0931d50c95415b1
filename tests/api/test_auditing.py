"""Each route that changes something, and each refusal, writes exactly one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rowcast.config import Settings
from rowcast.observability import audit
from server import create_app
from tests.support import ROOT
from tests.support.http import UNKNOWN

KEY = "key-of-ann-1"


def settings(path: Path) -> Settings:
    # Nothing answers there: a failed change is audited as well.
    return Settings(
        api_keys=f"ann:{KEY}",
        audit_log=str(path),
        redis_url="redis://127.0.0.1:1/0",
        s3_endpoint="http://127.0.0.1:1",
        s3_access_key="access",
        s3_secret_key="of-the-store",
    )


def changing_routes() -> list[tuple[str, str]]:
    app = create_app(Settings())
    found = [
        (method, rule.rule.replace("<id>", UNKNOWN))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
    ]
    return sorted([*found, ("GET", "/upload")])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(path: Path, method: str, url: str, key: str = KEY, **more: Any) -> Any:
    client = create_app(settings(path)).test_client()
    headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "the-request"}
    return client.open(url, method=method, headers=headers, **more)


@pytest.mark.parametrize(("method", "url"), changing_routes())
def test_changing_route_writes_one_line(tmp_path: Path, method: str, url: str) -> None:
    path = tmp_path / "audit.log"
    answer = asked(path, method, url)
    (line,) = lines(path)
    assert line["action"] == f"{method} {url.replace(UNKNOWN, '<id>')}"
    assert line["status"] == answer.status_code
    assert (line["owner"], line["key_name"]) == ("ann", "API_KEYS")
    assert (line["address"], line["request_id"]) == ("127.0.0.1", "the-request")
    if UNKNOWN in url:
        assert line["object"] == UNKNOWN


@pytest.mark.parametrize(
    ("url", "key", "status"), [("/status", "", 401), ("/keys", KEY, 403)]
)
def test_refusal_writes_one_line(
    tmp_path: Path, url: str, key: str, status: int
) -> None:
    path = tmp_path / "audit.log"
    assert asked(path, "GET", url, key).status_code == status
    (line,) = lines(path)
    assert (line["outcome"], line["status"]) == ("refused", status)


def test_reading_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    asked(path, "GET", "/me")
    asked(path, "GET", f"/status?id={UNKNOWN}")
    assert not path.exists()


def test_parameters_are_named_and_secrets_are_not(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    given = {"id": UNKNOWN, "callback_url": "https://x.example/?secret=1"}
    asked(path, "POST", "/fit", json=given)
    (line,) = lines(path)
    assert line["named"] == {"id": UNKNOWN}
    assert KEY not in path.read_text()
    assert "secret" not in path.read_text()


def test_flood_of_refusals_writes_few_lines_and_one_that_counts_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "audit.log", 100.0
    app = create_app(settings(path))
    client = app.test_client()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    client.get("/healthz")
    for _ in range(40):
        assert client.get("/status").status_code == 401
    assert len(lines(path)) == audit.MAX_REFUSALS_PER_S

    now += 1
    client.get("/healthz")
    *refused, last = lines(path)
    assert last.pop("time")
    assert last == {
        "action": "left out",
        "outcome": "refused",
        "address": "127.0.0.1",
        "status": 401,
        "lines": 40 - len(refused),
    }


def test_server_does_not_start_when_the_audit_log_cannot_be_written(
    tmp_path: Path,
) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "gunicorn"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "AUDIT_LOG": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 1
    assert "AUDIT_LOG cannot be written: Is a directory" in found.stderr
