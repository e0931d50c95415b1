"""A webhook goes only to a checked address of its host, which proves its name over TLS."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from rowcast.webhooks import urls
from tests.support.receiver import Receiver
from tests.support.webhooks import deliver, due, enqueued

Names = dict[str, list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> tuple[Names, list[str]]:
    """Return the names that a test defines, and a list of those that were looked up."""
    names: Names = {}
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host not in names:
            return real(host, port, *rest, **more)
        looked_up.append(host)
        return [
            answer
            for address in names[host]
            for answer in real(address, port, *rest, **more)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return names, looked_up


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["::1"]],
)
def test_name_of_a_private_address_is_not_called(
    addresses: list[str],
    names: tuple[Names, list[str]],
    connection: redis.Redis,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 127.0.0.2 and ::1 stand for the internet, which no test may call.
    monkeypatch.setattr(urls, "_PRIVATE_IPV4", [ipaddress.IPv4Network("127.0.0.1/32")])
    names[0]["receiver.example"] = addresses
    enqueued(connection, f"http://receiver.example:{receiver.port}/")
    deliver(connection, webhook_allow_private=False)
    assert receiver.requests == []
    assert "failed, PrivateAddress" in caplog.text


def test_literal_private_address_in_redis_is_not_called(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    deliver(connection, webhook_allow_private=False)
    assert receiver.requests == []


def test_name_is_looked_up_once_and_sent_as_the_host(
    names: tuple[Names, list[str]], connection: redis.Redis, receiver: Receiver
) -> None:
    names[0]["receiver.example"] = ["127.0.0.1"]
    enqueued(connection, f"http://Receiver.Example:{receiver.port}/")
    deliver(connection)
    ((path, headers, _),) = receiver.requests
    assert (path, headers["host"]) == ("/", f"Receiver.Example:{receiver.port}")
    assert names[1] == ["receiver.example"]


@pytest.mark.parametrize("addresses", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]])
def test_other_kind_of_address_is_tried_after_one_that_does_not_answer(
    addresses: list[str],
    names: tuple[Names, list[str]],
    connection: redis.Redis,
    receiver: Receiver,
) -> None:
    names[0]["receiver.example"] = addresses
    enqueued(connection, f"http://receiver.example:{receiver.port}/")
    deliver(connection)
    assert len(receiver.requests) == 1


def test_name_without_an_address_is_tried_again(connection: redis.Redis) -> None:
    enqueued(connection, "http://nowhere.invalid/")
    deliver(connection)
    assert due(connection)


def test_no_proxy_of_the_environment_is_used(
    connection: redis.Redis,
    start_receiver: Callable[[], Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, proxy = start_receiver(), start_receiver()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    enqueued(connection, receiver.url)
    deliver(connection)
    assert (len(receiver.requests), proxy.requests) == (1, [])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate of receiver.example, with its key in the same file."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("openssl is not on PATH, so no certificate can be made")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    options = (
        "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=receiver.example -addext subjectAltName=DNS:receiver.example"
    )
    files = ["-keyout", f"{path}.key", "-out", str(path)]
    command = [openssl, "req", *options.split(), *files]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("a") as file:
        file.write(Path(f"{path}.key").read_text())
    return path


@pytest.fixture
def encrypted(
    receiver: Receiver, certificate: Path
) -> tuple[Receiver, list[str | None]]:
    """Return a receiver that speaks TLS, and a list of the server names sent to it."""
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: asked.append(name)
    receiver.server.socket = context.wrap_socket(
        receiver.server.socket, server_side=True
    )
    # The server would print an error for every client that does not trust it.
    receiver.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    return receiver, asked


@pytest.mark.parametrize(
    ("name", "is_trusted", "arrives"),
    [
        ("receiver.example", True, True),
        ("receiver.example", False, False),
        ("another.example", True, False),
        ("127.0.0.1", True, False),
    ],
)
def test_certificate_must_be_for_the_host_of_the_url(
    name: str,
    is_trusted: bool,
    arrives: bool,
    encrypted: tuple[Receiver, list[str | None]],
    names: tuple[Names, list[str]],
    connection: redis.Redis,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, asked = encrypted
    for each in ("receiver.example", "another.example"):
        names[0][each] = ["127.0.0.1"]
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    enqueued(connection, f"https://{name}:{receiver.port}/hook")
    deliver(connection)
    assert len(receiver.requests) == (1 if arrives else 0)
    assert bool(due(connection)) is not arrives
    assert asked == [None if name == "127.0.0.1" else name]
