"""Address and API key: where they come from, and which hosts receive the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import client as module
from client import APIError, AuthenticationError, Client, RowcastError
from tests.support.fake_service import D1, Reply, Server, job, problem


def test_key_is_sent_to_the_service_and_never_to_the_store(
    service: Server,
    store: Server,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with Client(service.url, api_key="my-key\n") as client:
        client.upload(table)
        client.download("r1")
    for request in service.requests:
        assert request.headers["authorization"] == "Bearer my-key"
        assert request.headers["user-agent"] == f"rowcast-client/{module.__version__}"
    assert len(store.requests) == 2
    for request in store.requests:
        assert "authorization" not in request.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", ["status", "fit"])
def test_redirect_is_not_followed_and_the_error_names_where_it_leads(
    service: Server, serve: Callable[..., Server], status: int, call: str
) -> None:
    elsewhere = serve(lambda _request: Reply(200, job()))
    headers = {"Location": f"{elsewhere.url}/x?secret=1"}
    service.queued[f"/{call}"] = [Reply(status, headers=headers)]
    with (
        Client(service.url, api_key="my-key") as client,
        pytest.raises(APIError, match=f"use {elsewhere.url} as the address") as raised,
    ):
        getattr(client, call)(D1)
    assert elsewhere.requests == []
    assert raised.value.status == status
    assert "secret" not in str(raised.value)


def test_redirect_to_the_same_host_is_not_followed_either(service: Server) -> None:
    service.queued["/status"] = [Reply(302, headers={"Location": "/login"})]
    with Client(service.url) as client, pytest.raises(APIError, match="no redirect"):
        client.status("j1")
    assert len(service.requests) == 1


def test_url_and_key_come_from_the_environment(
    service: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWCAST_URL", f"{service.url}/")
    monkeypatch.setenv("ROWCAST_API_KEY", "from-environment")
    with Client() as client:
        client.status("j1")
    assert service.requests[0].headers["authorization"] == "Bearer from-environment"


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel"])
def test_unusable_key_is_rejected_without_showing_it(key: Any) -> None:
    with pytest.raises(RowcastError, match="an HTTP header cannot carry") as raised:
        Client(api_key=key)
    assert key not in str(raised.value)


@pytest.mark.parametrize("url", ["localhost:8080", "http://", "ftp://host"])
def test_unusable_url_is_rejected(url: Any) -> None:
    with pytest.raises(RowcastError, match="must start with http:// or https://"):
        Client(url)


def test_me_sends_the_key_and_returns_what_it_may_do(service: Server) -> None:
    account = {"owner": "ann", "key_name": "laptop", "scopes": ["read"]}
    service.queued["/me"] = [Reply(200, account)]
    with Client(service.url, api_key="key-of-ann-1") as client:
        assert client.me() == account
    (request,) = service.received("/me")
    assert (request.method, request.query) == ("GET", {})
    assert request.headers["authorization"] == "Bearer key-of-ann-1"


def test_me_with_a_wrong_key_is_an_authentication_error(
    client: Client, service: Server
) -> None:
    service.queued["/me"] = [problem(401, "unauthorized")]
    with pytest.raises(AuthenticationError):
        client.me()


def test_me_of_another_service_is_an_error(client: Client, service: Server) -> None:
    service.queued["/me"] = [Reply(200, {"name": "somebody"})]
    with pytest.raises(APIError):
        client.me()


def test_me_of_a_real_service(live: Client) -> None:
    found = live.me()
    assert found["owner"] == "default"
    assert found["scopes"] == ["admin", "fit", "predict", "read"]
    assert found["limits"].keys() >= found["usage"].keys() >= {"datasets", "models"}
    assert found["version"] == module.__version__


def test_kernel_probes_the_connection_of_a_client_that_waits(service: Server) -> None:
    port = f"{urlsplit(service.url).port:04X}"
    with Client(service.url) as client:
        client.status("j1")
        lines = map(str.split, Path("/proc/net/tcp").read_text().splitlines())
        # Remote address, state (01: established) and timer (02: keepalive), as in proc_net_tcp.
        timers = [
            fields[5].partition(":")[0]
            for fields in lines
            if fields[2].endswith(f":{port}") and fields[3] == "01"
        ]
    assert timers == ["02"]
