"""Webhooks are signed with their owner's secrets, as Standard Webhooks defines it."""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from standardwebhooks import Webhook, WebhookVerificationError

from rowcast.config import ConfigurationError, Settings
from rowcast.local.data_folder import Keys, Ports
from rowcast.local.programs import Parts
from rowcast.webhooks import signatures
from tests.support import ROOT
from tests.support.receiver import Receiver
from tests.support.webhooks import NOW, OTHER, SECRET, deliver, enqueued, settings


def test_signature_is_that_of_standard_webhooks(
    connection: redis.Redis, receiver: Receiver
) -> None:
    job_id = enqueued(connection, receiver.url, time.time())
    deliver(connection, time.time())
    ((_, headers, body),) = receiver.requests
    assert Webhook(SECRET).verify(body, headers)["id"] == job_id
    assert headers["webhook-id"] == job_id
    for forged_body, secret in ((body + b" ", SECRET), (body, OTHER)):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(forged_body, headers)


def test_every_secret_signs_so_that_they_can_be_changed(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    deliver(connection, time.time(), webhook_secrets=f"{SECRET},{OTHER}")
    ((_, headers, body),) = receiver.requests
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(body, headers)


def test_owner_with_its_own_secrets_does_not_use_the_shared_ones(
    connection: redis.Redis, receiver: Receiver
) -> None:
    for owner in ("acme", "other"):
        enqueued(connection, receiver.url, owner=owner)
        deliver(connection, time.time(), webhook_secrets=f"{SECRET},acme:{OTHER}")
    for (_, headers, body), own, foreign in zip(
        receiver.requests, (OTHER, SECRET), (SECRET, OTHER), strict=True
    ):
        Webhook(own).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(foreign).verify(body, headers)


def test_documented_check_accepts_our_signatures_and_no_others(
    connection: redis.Redis, receiver: Receiver
) -> None:
    text = (ROOT / "docs" / "http_api.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (example,) = [each for each in examples if "webhook-signature" in each]
    names: dict[str, Any] = {}
    exec(example, names)
    enqueued(connection, receiver.url)
    for sent_at, secrets in (
        (time.time(), f"{SECRET},{OTHER}"),
        (time.time() - 400, SECRET),
    ):
        deliver(connection, sent_at, webhook_secrets=secrets)
        enqueued(connection, receiver.url)
    (_, headers, body), (_, old_headers, old_body) = receiver.requests
    assert all(names["is_genuine"](secret, headers, body) for secret in (SECRET, OTHER))
    assert not names["is_genuine"](SECRET, headers, body + b" ")
    assert not names["is_genuine"]("whsec_" + "A" * 32, headers, body)
    assert not names["is_genuine"](SECRET, old_headers, old_body)


def test_webhook_waits_while_no_secret_would_sign_it(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    deliver(connection, webhook_secrets="")
    assert receiver.requests == []
    assert deliver(connection, NOW + 60) == 1
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "value",
    [
        "secret",
        "whsec_=",
        "whsec_THESECRET",
        SECRET[:-1],
        SECRET.removeprefix("whsec_"),
        f"{SECRET},{OTHER[:-1]}",
        f"Acme:{SECRET}",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_bad_secret_is_refused_by_name(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRETS", value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment()
    assert str(caught.value).startswith("WEBHOOK_SECRETS: each entry must be whsec_")
    assert value not in str(caught.value)


def test_secrets_do_not_print() -> None:
    given = settings(webhook_secrets=f"{SECRET},acme:{OTHER}")
    for secret in (SECRET, OTHER):
        printed = f"{given} {given!r} {given.model_dump()} {given.model_dump_json()}"
        assert secret not in printed


def test_stack_makes_a_secret_of_its_own(tmp_path: Path) -> None:
    made = Keys.kept_in(tmp_path / "secrets.json")
    given = settings(webhook_secrets=made.webhook_secret)
    assert signatures.secrets_of("default", given)
    assert Keys.kept_in(tmp_path / "secrets.json") == made


def test_secrets_file_without_one_for_webhooks_gets_it_and_keeps_the_others(
    tmp_path: Path,
) -> None:
    path = tmp_path / "secrets.json"
    old = dict.fromkeys(
        ("s3_access_key", "s3_secret_key", "redis_password", "signing_key"), "x" * 20
    )
    path.write_text(json.dumps(old))
    kept = Keys.kept_in(path)
    assert old.items() < vars(kept).items()
    assert Keys.kept_in(path) == kept
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("given", ["", SECRET])
def test_server_and_worker_of_a_stack_share_the_secret(
    given: str, tmp_path: Path
) -> None:
    keys = Keys.kept_in(tmp_path / "secrets.json")
    stack = Parts(
        tmp_path, keys, Ports(1, 2, 3), None, {"WEBHOOK_SECRETS": given}, None
    )
    shared = {
        program.env["WEBHOOK_SECRETS"] for program in (stack.server(), stack.worker())
    }
    assert shared == {given or keys.webhook_secret}
