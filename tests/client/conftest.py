"""Fixtures for the tests of the client: fake servers, and clients of fake and real services."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import client as module
from client import Client, Model
from tests.support.fake_service import (
    COURSE,
    D1,
    MANIFEST,
    PREDICTIONS,
    Reply,
    Request,
    Server,
    job,
)
from tests.support.stack import Stack

ENVIRONMENT = (
    "ROWCAST_URL",
    "ROWCAST_API_KEY",
    "http_proxy",
    "HTTP_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "NETRC",
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server, which runs until the end of the test."""
    servers: list[Server] = []

    def start(answer: Callable[[Request], Reply], port: int = 0) -> Server:
        servers.append(Server(answer, port))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def objects() -> dict[str, bytes]:
    """Return the objects of the fake store, by path."""
    parquet = io.BytesIO()
    PREDICTIONS.to_parquet(parquet)
    return {"/results/r1": parquet.getvalue()}


@pytest.fixture
def store(serve: Callable[..., Server], objects: dict[str, bytes]) -> Server:
    def answer(request: Request) -> Reply:
        if request.method == "PUT":
            objects[request.path] = request.body
            return Reply()
        return Reply(200, objects[request.path])

    return serve(answer)


@pytest.fixture
def service(serve: Callable[..., Server], store: Server) -> Server:
    """Return a fake service whose jobs finish immediately."""
    answers = {
        "/upload": {"id": D1, "url": f"{store.url}/datasets/d1?X-Amz-Signature=secret"},
        "/fit": {"id": "j1"},
        "/predict": {"id": "r1"},
        "/status": job(),
        "/cancel": job("canceled"),
        "/result": {"url": f"{store.url}/results/r1?X-Amz-Signature=secret"},
    }
    return serve(lambda request: Reply(200, answers[request.path]))


@pytest.fixture
def busy(service: Server) -> Server:
    """Return a fake service whose next job is first queued and then running."""
    service.queued["/status"] = [Reply(200, status) for status in COURSE]
    return service


@pytest.fixture
def client(service: Server) -> Iterator[Client]:
    with Client(service.url) as connected:
        yield connected


@pytest.fixture
def live(stack: Stack) -> Iterator[Client]:
    """Return a client of the shared real service."""
    with Client(stack.url) as connected:
        yield connected


@pytest.fixture
def known(client: Client, service: Server) -> Model:
    service.queued["/models/m1"] = [Reply(200, MANIFEST)]
    return client.model("m1")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "train.parquet"
    path.write_bytes(b"PAR1 and the rest")
    return path


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses that the client would make, in seconds, and skip them."""
    recorded: list[float] = []

    def skip(pause_s: float) -> float:
        recorded.append(pause_s)
        return 0.0

    monkeypatch.setattr(module, "_jittered", skip)
    return recorded


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show progress as if a person watched stderr."""
    monkeypatch.setattr(module, "_is_watched", lambda: True)


@pytest.fixture
def free_port() -> int:
    """Return a port on which nothing listens."""
    server = Server(lambda _request: Reply())
    server.stop()
    return server.server_port
