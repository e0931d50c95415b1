"""The client against a real service, and small servers, which make the faults that it rarely
shows."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import pickle
import pty
import re
import select
import signal
import socket
import socketserver
import subprocess
import sys
import termios
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pandas as pd
import pytest

import client as module
from client import (
    APIError,
    AuthenticationError,
    Client,
    ConflictError,
    InvalidRequestError,
    JobCanceledError,
    JobFailedError,
    NotFoundError,
    RowcastError,
    ServiceUnreachableError,
    WaitTimeoutError,
    main,
)
from tests.support.stack import Stack
from tests.support.tables import slow_table
from tests.support.tables import table as numbers
from tests.support.waiting import eventually

ROOT = Path(module.__file__).parent
PREDICTIONS = pd.DataFrame({"y": [2, 0, 1]})
D1, D2 = (f"01a20842-a75d-7589-a082-0000000000d{i}" for i in (1, 2))


class Request(NamedTuple):
    """What a server received."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """What a server answers; with `cut` the connection ends where the rest of the body should
    come."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    cut: int = 0


DROP = Reply(0)


class Server(ThreadingHTTPServer):
    """Answers with the replies queued for a path, then with what `answer` says; records all
    requests."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[Request], Reply], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answer = answer
        self.requests: list[Request] = []
        self.queued: dict[str, list[Reply | Callable[[Request], Reply]]] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def reply(self, request: Request) -> Reply:
        self.requests.append(request)
        queued = self.queued.get(request.path)
        reply = queued.pop(0) if queued else self.answer
        return reply(request) if callable(reply) else reply

    def received(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    def stop(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Stay silent where a test breaks a connection on purpose."""


class Handler(BaseHTTPRequestHandler):
    """Turns a request into a Request and a Reply into an answer."""

    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        url, headers = (
            urlsplit(self.path),
            {name.lower(): value for name, value in self.headers.items()},
        )
        n_bytes = int(headers.get("content-length", 0))
        body = self.rfile.read(n_bytes)
        if len(body) < n_bytes:
            raise ConnectionError("the request broke off")
        request = Request(
            self.command, url.path, dict(parse_qsl(url.query)), headers, body
        )
        reply = self.server.reply(request)
        self.close_connection = reply is DROP or bool(reply.cut)
        if reply is not DROP:
            self.write(reply)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - http.server looks for these names

    def write(self, reply: Reply) -> None:
        body = (
            reply.body
            if isinstance(reply.body, bytes)
            else json.dumps(reply.body).encode()
        )
        self.send_response(reply.status)
        for name, value in {
            "Content-Length": str(len(body) + reply.cut),
            **reply.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing to stderr."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "ROWCAST_URL",
        "ROWCAST_API_KEY",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "NETRC",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answer: Callable[[Request], Reply], port: int = 0) -> Server:
        servers.append(Server(answer, port))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def objects() -> dict[str, bytes]:
    """What the store holds, by path."""
    parquet = io.BytesIO()
    PREDICTIONS.to_parquet(parquet)
    return {"/results/r1": parquet.getvalue()}


@pytest.fixture
def store(serve: Callable[..., Server], objects: dict[str, bytes]) -> Server:
    def answer(request: Request) -> Reply:
        if request.method == "PUT":
            objects[request.path] = request.body
        return Reply(200, b"" if request.method == "PUT" else objects[request.path])

    return serve(answer)


def job(status: str = "finished", **rest: Any) -> dict[str, Any]:
    return {"id": "j1", "kind": "fit", "status": status, "error": None, **rest}


def problem(status: int, code: str, **rest: Any) -> Reply:
    return Reply(
        status, {"status": status, "code": code, "detail": f"It is {code}.", **rest}
    )


@pytest.fixture
def service(serve: Callable[..., Server], store: Server) -> Server:
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
def client(service: Server) -> Iterator[Client]:
    with Client(service.url) as connected:
        yield connected


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses that the client wants to make, and make none."""
    wanted: list[float] = []
    monkeypatch.setattr(
        module, "_jittered", lambda pause_s: wanted.append(pause_s) or 0.0
    )
    return wanted


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "train.parquet"
    path.write_bytes(b"PAR1 and the rest")
    return path


# Uploads


def test_upload_puts_the_file_unchunked_and_returns_the_id(client, store, table):
    assert client.upload(table) == D1
    (put,) = store.requests
    assert (put.method, put.path, put.body) == (
        "PUT",
        "/datasets/d1",
        table.read_bytes(),
    )
    assert put.headers["content-length"] == "17"
    assert "transfer-encoding" not in put.headers


def test_empty_file_is_uploaded_with_content_length_0(client, store, table):
    table.write_bytes(b"")
    client.upload(table)
    assert store.requests[0].headers["content-length"] == "0"
    assert "transfer-encoding" not in store.requests[0].headers


@pytest.mark.parametrize(
    "convert", [str, Path, Path.read_bytes, lambda p: bytearray(p.read_bytes())]
)
def test_upload_takes_paths_and_bytes(client, objects, table, convert):
    client.upload(convert(table))
    client.upload(memoryview(table.read_bytes()))
    assert objects["/datasets/d1"] == table.read_bytes()


def test_upload_of_an_open_file_begins_where_it_stands(client, objects, table):
    with table.open("rb") as file:
        file.seek(5)
        client.upload(file)
        assert not file.closed
    assert objects["/datasets/d1"] == b"and the rest"


def test_upload_of_a_pipe_sends_all_of_it(client, store):
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        client.upload(pipe)
    assert store.requests[0].body == b"from a pipe"
    assert store.requests[0].headers["content-length"] == "11"


def test_upload_of_a_dataframe_sends_parquet_without_its_index(client, objects):
    frame = pd.DataFrame({"a": [1, 2], "y": ["no", "yes"]}, index=[7, 5])
    client.upload(frame)
    sent = pd.read_parquet(io.BytesIO(objects["/datasets/d1"]))
    pd.testing.assert_frame_equal(sent, frame.reset_index(drop=True))


@pytest.mark.parametrize("source", [3, None, io.StringIO("a,b")])
def test_upload_of_anything_else_is_a_type_error_before_any_request(
    client, service, source
):
    with pytest.raises(TypeError, match="A table is a path"):
        client.upload(source)
    assert service.requests == []


def test_missing_path_is_a_file_not_found_error_before_any_request(
    client, service, tmp_path
):
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "none.parquet")
    assert service.requests == []


@pytest.mark.parametrize("fault", [DROP, Reply(500), Reply(503), Reply(429)])
def test_upload_is_repeated_from_its_start(
    client, store, objects, table, pauses, fault
):
    store.queued["/datasets/d1"] = [fault, fault]
    client.upload(table)
    assert [put.body for put in store.requests] == [table.read_bytes()] * 3
    assert objects["/datasets/d1"] == table.read_bytes()


def test_upload_follows_a_store_that_redirects(client, service, store, objects, table):
    store.queued["/datasets/d1"] = [
        Reply(307, headers={"Location": f"{store.url}/elsewhere"})
    ]
    client.upload(table)
    assert objects == {**objects, "/elsewhere": table.read_bytes()}


def test_refused_upload_is_not_repeated_and_says_why_without_the_signature(
    client, store, table, pauses
):
    denied = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    store.queued["/datasets/d1"] = [Reply(403, denied)]
    with pytest.raises(
        APIError, match="answered 403: AccessDenied Request has expired"
    ) as raised:
        client.upload(table)
    assert "secret" not in str(raised.value)
    assert pauses == []


@pytest.mark.usefixtures("pauses")
def test_unreachable_store_is_named_without_the_signature(
    client, service, table, free_port
):
    url = f"http://127.0.0.1:{free_port}/datasets/d1?X-Amz-Signature=secret"
    service.queued["/upload"] = [Reply(200, {"id": "d1", "url": url})]
    with pytest.raises(
        ServiceUnreachableError, match=f"{free_port}: Connection refused"
    ) as raised:
        client.upload(table)
    assert "secret" not in str(raised.value)


def test_store_may_think_longer_than_the_timeout_of_the_service(service, store, table):
    def slow(_request: Request) -> Reply:
        time.sleep(0.6)
        return Reply()

    store.queued["/datasets/d1"] = [slow]
    with Client(service.url, timeout_s=0.3) as client:
        assert client.upload(table) == D1
    assert len(store.requests) == 1


@pytest.mark.parametrize("n_bytes", [1 << 20, 3 << 20])
def test_file_that_changes_its_length_is_refused_and_nothing_is_stored(
    client, service, objects, table, n_bytes
):
    def change(_request: Request) -> Reply:
        os.truncate(table, n_bytes)
        return Reply(200, {"id": "d1", "url": service.answer(_request).body["url"]})

    os.truncate(table, 2 << 20)
    service.queued["/upload"] = [change]
    with pytest.raises(RowcastError, match="did not keep its 2097152 bytes"):
        client.upload(table)
    assert "/datasets/d1" not in objects


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_upload_needs_little_memory(serve, tmp_path):
    n_bytes, received = 300_000_000, []

    class Sink(Handler):
        def do_PUT(self) -> None:
            left = int(self.headers["Content-Length"])
            received.append(left)
            buffer = bytearray(1 << 20)
            while left:
                left -= self.rfile.readinto(
                    memoryview(buffer)[: min(left, len(buffer))]
                )
            self.write(Reply())

    server = serve(lambda _request: Reply(200, {"id": "d1", "url": f"{server.url}/d1"}))
    server.RequestHandlerClass = Sink
    path = tmp_path / "large.parquet"
    path.touch()
    os.truncate(path, n_bytes)
    script = """
import sys, client
client.Client(sys.argv[1]).upload(sys.argv[2])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    peak_kb = int(run_python("-c", script, server.url, str(path)).stdout)
    assert received == [n_bytes]
    assert peak_kb < 100_000


# Uploads of bytes that may be there


LARGE = bytes(range(250)) * 5_000


def known_as(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def asked(service: Server) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in service.received("/upload")]


def test_large_table_that_is_there_already_is_not_sent_again(
    client, service, store, table
):
    table.write_bytes(LARGE)
    service.queued["/upload"] = [
        Reply(200, {"id": D2, "url": None, "expires_at": None, "exists": True})
    ] * 2
    assert client.upload(table) == D2
    assert client.fit(LARGE) == "j1"
    assert asked(service) == [known_as(LARGE)] * 2
    assert json.loads(service.requests[-1].body) == {"id": D2}
    assert store.requests == []


def test_large_table_that_is_not_there_is_uploaded_as_ever(client, service, objects):
    client.upload(LARGE)
    assert objects["/datasets/d1"] == LARGE


def test_large_dataframe_is_known_by_the_bytes_of_its_parquet(client, service, objects):
    frame = pd.DataFrame({"a": range(200_000), "b": [i * 0.1 for i in range(200_000)]})
    client.upload(frame)
    client.upload(frame)
    assert asked(service) == [known_as(objects["/datasets/d1"])] * 2


def test_large_pipe_is_read_once_and_open_file_from_where_it_stands(
    client, service, objects, table
):
    writer = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdout.write('a' * 2_000_000)"],
        stdout=subprocess.PIPE,
    )
    with writer:
        client.upload(writer.stdout)
    assert objects["/datasets/d1"] == b"a" * 2_000_000
    table.write_bytes(b"before" + LARGE)
    with table.open("rb") as file:
        file.seek(6)
        client.upload(file)
    assert objects["/datasets/d1"] == LARGE
    assert asked(service) == [known_as(b"a" * 2_000_000), known_as(LARGE)]


def test_small_tables_and_those_that_shall_be_new_are_uploaded_without_asking(
    client, service, objects
):
    client.upload(LARGE[:1_000_000])
    client.upload(LARGE, reuse=False)
    assert asked(service) == [{}, {}]
    assert objects["/datasets/d1"] == LARGE


# Who learns the key


def test_key_goes_to_the_service_and_never_to_the_store(
    service, store, table, tmp_path, monkeypatch
):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with Client(service.url, api_key="my-key\n") as client:
        client.upload(table)
        client.download("r1")
    assert {request.headers["authorization"] for request in service.requests} == {
        "Bearer my-key"
    }
    assert [("authorization" in request.headers) for request in store.requests] == [
        False,
        False,
    ]
    assert (
        service.requests[0].headers["user-agent"]
        == f"rowcast-client/{module.__version__}"
    )


def test_key_is_not_kept_on_a_redirect_to_another_host(service, serve):
    elsewhere = serve(lambda _request: Reply(200, job()))
    service.queued["/status"] = [
        Reply(307, headers={"Location": f"{elsewhere.url}/status"})
    ]
    with Client(service.url, api_key="my-key") as client:
        client.status("j1")
    assert "authorization" not in elsewhere.requests[0].headers


def test_refusal_after_a_redirect_names_the_address_to_use(service, serve):
    elsewhere = serve(lambda _request: problem(405, "method_not_allowed"))
    service.queued["/fit"] = [Reply(301, headers={"Location": f"{elsewhere.url}/fit"})]
    with (
        Client(service.url) as client,
        pytest.raises(APIError, match=f"use {elsewhere.url} as the address"),
    ):
        client.fit(D1)


def test_url_and_key_come_from_the_environment(service, monkeypatch):
    monkeypatch.setenv("ROWCAST_URL", f"{service.url}/")
    monkeypatch.setenv("ROWCAST_API_KEY", "from-environment")
    with Client() as client:
        client.status("j1")
    assert service.requests[0].headers["authorization"] == "Bearer from-environment"


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel"])
def test_unusable_key_is_refused_without_showing_it(key):
    with pytest.raises(RowcastError, match="no header can carry") as raised:
        Client(api_key=key)
    assert key not in str(raised.value)


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "ftp://host"])
def test_unusable_url_is_refused(url):
    with pytest.raises(RowcastError, match="must start with http:// or https://"):
        Client(url)


# Retries


@pytest.mark.parametrize(
    "fault", [DROP, Reply(502), Reply(503), Reply(504), Reply(429)]
)
@pytest.mark.parametrize("path", ["/status", "/upload"])
def test_what_changes_nothing_is_repeated_with_growing_pauses(
    client, service, pauses, path, fault
):
    service.queued[path] = [fault] * 3
    client.upload(b"") if path == "/upload" else client.status("j1")
    assert len(service.received(path)) == 4
    assert pauses == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500])
def test_other_refusals_are_not_repeated(client, service, pauses, status):
    service.queued["/status"] = [Reply(status)]
    with pytest.raises(APIError) as raised:
        client.status("j1")
    assert raised.value.status == status
    assert pauses == []


def test_last_fault_is_raised_in_the_end(client, service, pauses):
    service.queued["/status"] = [problem(503, "queue_unavailable")] * 4
    with pytest.raises(APIError, match="It is queue_unavailable") as raised:
        client.status("j1")
    assert raised.value.status == 503
    assert len(service.requests) == 4


def test_silence_is_repeated_and_then_no_answer(service, pauses):
    service.queued["/status"] = [lambda _request: time.sleep(0.3) or DROP] * 4
    with (
        Client(service.url, timeout_s=0.1) as client,
        pytest.raises(ServiceUnreachableError) as raised,
    ):
        client.status("j1")
    assert (
        str(raised.value)
        == f"No answer from {service.url}: timed out. It may have got the request."
    )
    assert len(pauses) == 3


SUBMISSIONS = {
    "/upload": [b""],
    "/fit": [D1],
    "/predict": [D1, "j1"],
    "/cancel": ["j1"],
}


def keys_of(requests: list[Request]) -> list[str | None]:
    return [request.headers.get("idempotency-key") for request in requests]


@pytest.mark.parametrize(
    "fault",
    [DROP, Reply(502), problem(503, "queue_unavailable"), Reply(504), Reply(429)],
)
@pytest.mark.parametrize("path", SUBMISSIONS)
def test_what_changes_something_is_repeated_with_the_same_key(
    client, service, pauses, path, fault
):
    service.queued[path] = [fault] * 3
    getattr(client, path[1:])(*SUBMISSIONS[path])
    keys = keys_of(service.received(path))
    assert len(keys) == 4
    assert len(set(keys)) == 1
    assert re.fullmatch("[0-9a-f]{32}", keys[0])
    assert len(client.jobs) == (path in ("/fit", "/predict"))


def test_every_call_has_a_key_of_its_own_and_only_a_post_has_one(client, service):
    for _ in range(2):
        for path, arguments in SUBMISSIONS.items():
            getattr(client, path[1:])(*arguments)
    assert len(set(keys_of(service.requests))) == 8
    service.requests.clear()
    client.status("j1")
    service.queued["/models/j1"] = [Reply(204)]
    client.delete("j1")
    assert keys_of(service.requests) == [None, None]


@pytest.mark.parametrize("fault", [Reply(500), problem(409, "idempotency_conflict")])
def test_refused_submission_is_not_repeated(client, service, pauses, fault):
    service.queued["/fit"] = [fault]
    with pytest.raises(APIError):
        client.fit(D1)
    assert len(service.requests) == 1
    assert client.jobs == []


def test_job_is_submitted_again_if_nobody_listened(serve, free_port, monkeypatch):
    def come_back(_pause_s: float) -> float:
        serve(lambda _request: Reply(202, {"id": "j1"}), free_port)
        return 0.0

    monkeypatch.setattr(module, "_jittered", come_back)
    with Client(f"http://127.0.0.1:{free_port}") as client:
        assert client.fit(D1) == "j1"


@pytest.fixture
def free_port(serve: Callable[..., Server]) -> int:
    """A port on which nobody listens."""
    server = Server(lambda _request: Reply())
    server.stop()
    return server.server_port


def test_service_that_never_listened_is_named(free_port, pauses):
    url = f"http://user:password@127.0.0.1:{free_port}"
    with Client(url) as client, pytest.raises(ServiceUnreachableError) as raised:
        client.status("j1")
    assert str(raised.value) == (
        f"No answer from http://127.0.0.1:{free_port}: Connection refused. "
        "Is this the right address, and is it running?"
    )
    assert not raised.value.sent


def test_cause_is_that_of_the_network_even_inside_another_handler(
    client, service, pauses
):
    service.queued["/fit"] = [DROP] * 4
    try:
        Path("/nowhere/at/all").stat()
    except OSError:
        with pytest.raises(
            ServiceUnreachableError, match="closed connection without response"
        ):
            client.fit(D1)


def test_retry_after_is_obeyed(client, service, pauses):
    service.queued["/status"] = [Reply(503, headers={"Retry-After": "7"})]
    client.status("j1")
    assert pauses == [7.0]


def test_retry_after_of_more_than_a_minute_is_the_callers_to_decide(
    client, service, pauses
):
    service.queued["/status"] = [Reply(429, headers={"Retry-After": "3600"})]
    with pytest.raises(APIError) as raised:
        client.status("j1")
    assert raised.value.retry_after_s == 3600
    assert pauses == []


def test_pauses_of_an_outage_of_hours_stay_short():
    assert module._pause_s(5000, ServiceUnreachableError()) <= 15


def test_jitter_never_comes_back_earlier_than_asked():
    pauses = {module._jittered(2.0) for _ in range(200)}
    assert len(pauses) > 100
    assert 2.0 <= min(pauses) < max(pauses) <= 3.0


# A full queue


def full(retry_after_s: int) -> Reply:
    return problem(429, "queue_full")._replace(
        headers={"Retry-After": str(retry_after_s)}
    )


@pytest.mark.parametrize("timeout", [-1, None, 600])
def test_submission_waits_for_a_place_in_a_full_queue(client, service, pauses, timeout):
    service.queued["/fit"] = [full(90)] * 5 + [DROP] + [full(90)] * 5
    assert client.fit(D1, timeout) == "j1"
    assert pauses[:11] == [90.0] * 5 + [0.5] + [90.0] * 5
    assert len(set(keys_of(service.received("/fit")))) == 1


@pytest.mark.parametrize(("timeout", "retry_after_s"), [(0, 1), (5, 7), (-1, 601)])
def test_full_queue_is_refused_if_the_place_would_come_too_late(
    client, service, monkeypatch, timeout, retry_after_s
):
    monkeypatch.setattr(module, "_jittered", lambda pause_s: pause_s)
    service.queued["/fit"] = [full(retry_after_s)]
    with pytest.raises(APIError, match="It is queue_full") as raised:
        client.fit(D1, timeout)
    assert (raised.value.code, raised.value.retry_after_s) == (
        "queue_full",
        retry_after_s,
    )
    assert len(service.requests) == 1


def test_time_in_front_of_a_full_queue_is_a_part_of_the_timeout(client, service):
    service.queued["/fit"] = [full(1)]
    service.queued["/status"] = [Reply(200, job("started"))] * 99
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError):
        client.fit(D1, timeout=2)
    assert time.monotonic() - began < 3


# Jobs


def test_cancel_returns_the_status(client, service):
    assert client.cancel("j1")["status"] == "canceled"
    (request,) = service.requests
    assert (request.method, request.path, json.loads(request.body)) == (
        "POST",
        "/cancel",
        {"id": "j1"},
    )


def test_cancel_of_a_job_that_has_ended_is_a_conflict(client, service):
    service.queued["/cancel"] = [
        problem(409, "job_ended"),
        problem(404, "job_not_found"),
    ]
    with pytest.raises(ConflictError):
        client.cancel("j1")
    with pytest.raises(NotFoundError):
        client.cancel("j1")


def test_reused_job_is_listed_once_and_waited_for(client, service):
    service.queued["/fit"] = [Reply(200, {"id": "j0", "reused": True})] * 2
    assert [client.fit(D1, None, reuse=True), client.fit(D1, reuse=True)] == [
        "j0",
        "j0",
    ]
    assert client.jobs == [{"id": "j0", "kind": "fit"}]
    assert json.loads(service.requests[0].body) == {"id": D1, "reuse": True}


def test_jobs_are_listed_by_pages_and_filters(client, service, known):
    pages = [
        {"jobs": [job("queued"), job()], "next": "j1"},
        {"jobs": [job()], "next": None},
    ]
    service.queued["/jobs"] = [
        *(Reply(200, page) for page in pages),
        Reply(200, pages[1]),
    ]
    listed = client.list_jobs(
        status="queued", kind="fit", model_id=known, dataset_id=D1
    )
    assert [each["status"] for each in listed] == ["queued", "finished", "finished"]
    filters = {
        "limit": "100",
        "status": "queued",
        "kind": "fit",
        "model_id": "m1",
        "dataset_id": D1,
    }
    asked = [request.query for request in service.received("/jobs")]
    assert asked == [filters, {**filters, "before": "j1"}]
    assert len(list(client.list_jobs(1))) == 1
    assert service.requests[-1].query == {"limit": "1"}


def test_log_is_the_lines_of_the_job(client, service):
    service.queued["/jobs/j1/log"] = [
        Reply(200, {"id": "j1", "lines": ["Reading took 1 s.", ""]})
    ]
    assert client.log("j1") == ["Reading took 1 s.", ""]


def test_fit_and_predict_send_ids_and_options_as_json(client, service):
    assert client.fit(D1, target="price", seed=3) == "j1"
    assert client.predict(D2, "j1", proba=True) == "r1"
    fit, predict = service.requests
    assert (fit.method, fit.query, json.loads(fit.body)) == (
        "POST",
        {},
        {"id": D1, "target": "price", "seed": 3},
    )
    assert json.loads(predict.body) == {
        "dataset_id": D2,
        "model_id": "j1",
        "proba": True,
    }
    assert fit.headers["content-type"] == "application/json"


def test_options_that_are_not_json_are_refused_clearly(client, service):
    with pytest.raises(RowcastError, match="not possible: Out of range float"):
        client.fit(D1, rate=float("nan"))
    assert service.requests == []


def test_jobs_lists_what_was_submitted_oldest_first(client):
    client.fit(D1)
    client.predict(D1, "j1")
    assert client.jobs == [{"id": "j1", "kind": "fit"}, {"id": "r1", "kind": "predict"}]


def test_without_a_timeout_nothing_is_waited_for(client, service):
    client.fit(D1)
    client.fit(D1, timeout=-0.5)
    assert service.received("/status") == []


def test_timeout_none_waits_for_the_end(client, service, pauses):
    service.queued["/status"] = [Reply(200, job("queued")), Reply(200, job("started"))]
    assert client.fit(D1, timeout=None) == "j1"
    assert [
        float(request.query["wait"]) for request in service.received("/status")
    ] == [20, 20, 20]


def test_timeout_0_raises_unless_the_job_has_finished(client, service):
    assert client.fit(D1, timeout=0) == "j1"
    service.queued["/status"] = [Reply(200, job("started"))]
    with pytest.raises(
        WaitTimeoutError, match="j1 did not end in the time given: it is started"
    ) as raised:
        client.fit(D1, timeout=0)
    assert raised.value.job_id == "j1"
    assert isinstance(raised.value, TimeoutError)
    assert len(client.jobs) == 2


def test_wait_ends_at_its_deadline(client, service):
    service.answer = lambda _request: Reply(200, job("started"))
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError):
        client.wait("j1", timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 2
    assert all(float(request.query["wait"]) <= 0.5 for request in service.requests)


def test_wait_ends_soon_after_its_deadline_even_if_the_service_is_silent(
    client, service
):
    service.answer = lambda _request: time.sleep(4) or DROP
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError, match="timed out") as raised:
        client.wait("j1", timeout=0.2)
    assert time.monotonic() - began < 3.5
    assert isinstance(raised.value.__cause__, ServiceUnreachableError)


def test_wait_returns_the_last_status(client, service):
    assert client.wait("j1") == job()


def test_wait_asks_again_when_the_service_is_too_busy_to_hold_the_request(
    client, service, pauses
):
    service.queued["/status"] = [Reply(200, job("started"), {"Retry-After": "1"})] * 2
    client.wait("j1")
    assert pauses[:2] == [1.0, 1.0]


def test_wait_survives_an_outage(client, service, pauses):
    busy = problem(503, "queue_unavailable")._replace(headers={"Retry-After": "1"})
    service.queued["/status"] = [
        Reply(200, job("queued")),
        *[DROP, Reply(502), busy] * 4,
    ]
    assert client.wait("j1")["status"] == "finished"
    assert len(service.requests) == 14


def test_wait_survives_a_restart_of_the_service(serve, free_port):
    url = f"http://127.0.0.1:{free_port}"
    restart = threading.Timer(
        0.7, serve, [lambda _request: Reply(200, job()), free_port]
    )
    restart.start()
    with Client(url) as client:
        assert client.wait("j1", timeout=20)["status"] == "finished"
    restart.join()


def test_wait_without_timeout_gives_up_after_a_long_outage(
    client, service, pauses, monkeypatch
):
    monkeypatch.setattr(module, "OUTAGE_S", 0.2)
    service.answer = lambda _request: DROP
    with pytest.raises(ServiceUnreachableError):
        client.wait("j1")


def test_wait_with_timeout_keeps_asking_through_a_longer_outage(
    client, service, pauses, monkeypatch
):
    monkeypatch.setattr(module, "OUTAGE_S", 0.1)
    service.answer = lambda _request: Reply(503)
    with pytest.raises(WaitTimeoutError) as raised:
        client.wait("j1", timeout=0.4)
    assert isinstance(raised.value.__cause__, APIError)


def test_wait_for_an_unknown_job_ends_at_once(client, service):
    service.queued["/status"] = [problem(404, "job_not_found")]
    with pytest.raises(NotFoundError):
        client.wait("j1", timeout=10)


def test_failed_job_says_why_and_what_to_do(client, service):
    cause = {
        "code": "invalid_table",
        "detail": "Two columns are unusable",
        "hint": "Drop them.",
        "errors": ["'x' is empty", "'z' is a list"],
    }
    service.queued["/status"] = [Reply(200, job("failed", error=cause))]
    with pytest.raises(JobFailedError) as raised:
        client.fit(D1, timeout=None)
    error = raised.value
    assert (
        str(error)
        == "The fit j1 failed: Two columns are unusable. 'x' is empty; 'z' is a list. Drop them."
    )
    assert {name: getattr(error, name) for name in cause} == cause
    assert error.job_id == "j1"


def test_failed_job_without_a_cause_is_still_a_sentence(client, service):
    service.queued["/status"] = [Reply(200, job("failed"))]
    with pytest.raises(JobFailedError, match="The fit j1 failed: No reason was given"):
        client.wait("j1")


def test_canceled_job_is_its_own_error(client, service):
    service.queued["/status"] = [Reply(200, job("canceled"))]
    with pytest.raises(JobCanceledError, match="The fit j1 was canceled") as raised:
        client.wait("j1")
    assert raised.value.job_id == "j1"


def test_status_of_a_failed_job_is_no_error(client, service):
    service.queued["/status"] = [Reply(200, job("failed"))]
    assert client.status("j1")["status"] == "failed"


def test_client_serves_a_thread_pool(client, service, objects, pauses):
    def whole_path(i: int) -> int:
        dataset_id = client.upload(bytes([i]) * 100_000)
        model_id = client.fit(dataset_id, timeout=None)
        return len(client.download(client.predict(dataset_id, model_id, timeout=None)))

    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(whole_path, range(40))) == [len(PREDICTIONS)] * 40
    assert len(client.jobs) == 80


# Downloads


def test_result_is_a_url(client, store):
    assert client.result("r1") == f"{store.url}/results/r1?X-Amz-Signature=secret"


def test_download_is_a_dataframe(client):
    pd.testing.assert_frame_equal(client.download("r1"), PREDICTIONS)


def test_download_to_a_path_replaces_the_file(client, objects, tmp_path):
    path = tmp_path / "result.parquet"
    path.write_bytes(b"old")
    assert client.download("r1", str(path)) == path
    assert path.read_bytes() == objects["/results/r1"]
    assert list(tmp_path.iterdir()) == [path]


def test_download_that_broke_off_is_repeated_from_its_start(
    client, store, objects, tmp_path, pauses
):
    store.queued["/results/r1"] = [Reply(200, b"half", cut=100), Reply(200, b"", cut=5)]
    client.download("r1", tmp_path / "result.parquet")
    assert (tmp_path / "result.parquet").read_bytes() == objects["/results/r1"]


@pytest.mark.parametrize("fault", [Reply(200, b"half", cut=100), Reply(403), DROP])
def test_failed_download_leaves_the_old_file_and_nothing_else(
    client, store, tmp_path, pauses, fault
):
    path = tmp_path / "result.parquet"
    path.write_bytes(b"old")
    store.queued["/results/r1"] = [fault] * 4
    with pytest.raises(RowcastError):
        client.download("r1", path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_download_has_the_usual_permissions(client, tmp_path):
    (tmp_path / "usual").touch()
    path = client.download("r1", tmp_path / "result.parquet")
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_download_never_replaces_what_is_no_file(client, service, tmp_path):
    with pytest.raises(FileExistsError, match="Not a regular file"):
        client.download("r1", tmp_path)
    assert service.requests == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.csv", b'label,y\n"NA",1.5\n"1, 2",\n'),
        ("result.jsonl", b'{"label":"NA","y":1.5}\n{"label":"1, 2","y":null}\n'),
    ],
)
def test_download_of_another_format_is_a_dataframe_too(
    client, service, store, objects, name, content
):
    objects[f"/results/1/{name}"] = content
    service.queued["/result"] = [
        Reply(200, {"url": f"{store.url}/results/1/{name}?X-Amz-Signature=secret"})
    ]
    expected = pd.DataFrame({"label": ["NA", "1, 2"], "y": [1.5, None]})
    pd.testing.assert_frame_equal(client.download("r1"), expected)


# Tables, paths and ids


def test_fit_and_predict_upload_what_is_no_id(client, service, objects, table):
    for data in (
        table,
        str(table),
        table.read_bytes(),
        io.BytesIO(table.read_bytes()),
        pd.DataFrame({"a": [1]}),
    ):
        objects.clear()
        client.fit(data)
        assert json.loads(service.requests[-1].body) == {"id": D1}
        assert "/datasets/d1" in objects
    client.predict(table, "j1")
    assert json.loads(service.requests[-1].body) == {"dataset_id": D1, "model_id": "j1"}


def test_fit_of_an_id_uploads_nothing(client, service):
    client.fit(D2.upper())
    assert [request.path for request in service.requests] == ["/fit"]


def test_text_that_is_no_id_is_a_path(client, service):
    with pytest.raises(FileNotFoundError):
        client.fit(f"{D1}.parquet")
    assert service.requests == []


BY_JOB = ["/upload", "/predict", "/status", "/result"]


@pytest.fixture
def at_once(service: Server, objects: dict[str, bytes]) -> Server:
    """Return a service that answers one prediction at once, and any further by a job."""
    service.queued["/predict"] = [
        Reply(200, objects["/results/r1"], {"Content-Type": module.PARQUET})
    ]
    return service


@pytest.mark.parametrize(
    "convert", [str, Path, Path.read_bytes, Path.open, pd.read_parquet]
)
def test_small_table_is_predicted_online(client, at_once, store, tmp_path, convert):
    path = tmp_path / "new.parquet"
    PREDICTIONS.to_parquet(path)
    data = io.BytesIO(path.read_bytes()) if convert is Path.open else convert(path)
    found = client.predict_table(
        data, "m/1", output="quantiles", quantiles=(0.1, 0.9), keep=["a b"]
    )
    pd.testing.assert_frame_equal(found, PREDICTIONS)
    (request,) = at_once.requests
    asked = {
        "model_id": "m%2F1",
        "output": "quantiles",
        "quantiles": "[0.1, 0.9]",
        "keep": '["a b"]',
    }
    assert (request.method, request.path, request.query) == ("POST", "/predict", asked)
    assert request.headers["accept"] == module.PARQUET
    pd.testing.assert_frame_equal(
        pd.read_parquet(io.BytesIO(request.body)), PREDICTIONS
    )
    assert (client.jobs, store.requests) == ([], [])


def test_key_is_sent_with_a_online_prediction(at_once, table):
    with Client(at_once.url, api_key="a-key") as client:
        client.predict_table(table, "m1")
    assert at_once.requests[0].headers["authorization"] == "Bearer a-key"


@pytest.mark.parametrize(
    "options",
    [{"format": "csv"}, {"priority": "low"}, {"reuse": True}, {"timeout_s": 9}],
)
def test_options_of_jobs_make_predict_table_submit_one(client, at_once, table, options):
    at_once.queued.clear()
    pd.testing.assert_frame_equal(
        client.predict_table(table, "m1", output="labels", **options), PREDICTIONS
    )
    assert [request.path for request in at_once.requests] == BY_JOB
    sent = json.loads(at_once.received("/predict")[0].body)
    assert sent == {"dataset_id": D1, "model_id": "m1", "output": "labels", **options}
    assert client.jobs == [{"id": "r1", "kind": "predict"}]


def test_dataset_that_lies_in_the_store_is_predicted_by_a_job(client, service):
    pd.testing.assert_frame_equal(client.predict_table(D2, "m1"), PREDICTIONS)
    assert [request.path for request in service.requests] == BY_JOB[1:]


@pytest.mark.parametrize("size", [0, 5_000_001])
def test_table_that_is_large_or_empty_is_predicted_by_a_job(client, service, size):
    pd.testing.assert_frame_equal(client.predict_table(b"x" * size, "m1"), PREDICTIONS)
    assert [request.path for request in service.requests] == BY_JOB


@pytest.mark.parametrize(
    "answer",
    [
        *(
            problem(503, "no_online_worker"),
            problem(500, "online_worker_lost"),
            problem(413, "request_too_large"),
        ),
        *(problem(413, "model_too_large"), problem(409, "model_not_ready")),
        # An older service, and a proxy before the service.
        *(problem(415, "unsupported_media_type"), Reply(413, b"<h1>Too large</h1>")),
    ],
)
def test_what_is_not_predicted_online_is_predicted_by_a_job(
    client, service, table, pauses, answer
):
    service.queued["/predict"] = [answer]
    pd.testing.assert_frame_equal(
        client.predict_table(table, "m1", keep=["a"]), PREDICTIONS
    )
    assert [request.path for request in service.requests] == ["/predict", *BY_JOB]
    asked = json.loads(service.received("/predict")[1].body)
    assert asked == {"dataset_id": D1, "model_id": "m1", "keep": ["a"]}
    # That between two looks at the job; none before it.
    assert pauses == [module.SHORTEST_PAUSE_S]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(422, "invalid_table", errors=["a", "b"]), InvalidRequestError),
        (problem(404, "model_not_found"), NotFoundError),
        (problem(409, "model_failed"), ConflictError),
        (problem(500, "internal_error"), APIError),
    ],
)
def test_what_is_wrong_with_a_online_prediction_is_no_reason_for_a_job(
    client, service, table, answer, error
):
    service.queued["/predict"] = [answer]
    with pytest.raises(error) as raised:
        client.predict_table(table, "m1")
    assert raised.value.code == answer.body["code"]
    assert len(service.requests) == 1


@pytest.mark.parametrize("fault", [DROP, Reply(502), problem(503, "store_unavailable")])
def test_online_prediction_is_repeated_after_a_fault_that_passes(
    client, at_once, table, pauses, fault
):
    at_once.queued["/predict"].insert(0, fault)
    pd.testing.assert_frame_equal(client.predict_table(table, "m1"), PREDICTIONS)
    assert len(at_once.requests) == 2
    assert len(pauses) == 1


def test_online_answer_of_another_program_is_an_error(client, service, table):
    service.queued["/predict"] = [
        Reply(200, b"<h1>Welcome</h1>", {"Content-Type": "text/html"})
    ]
    with pytest.raises(APIError, match="not as Rowcast does"):
        client.predict_table(table, "m1")


def test_names_of_columns_become_text(client, objects):
    client.upload(pd.DataFrame([[1, 2]], columns=[0, ("a", 1)]))
    assert list(pd.read_parquet(io.BytesIO(objects["/datasets/d1"])).columns) == [
        "0",
        "('a', 1)",
    ]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (
            pd.DataFrame({"a": [1, 2], "b": pd.Series([1, "two"], dtype=object)}),
            "column 'b'",
        ),
        (pd.DataFrame({"a": [1, 2], "b": [1j, 2j]}), "column 'b'"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "Duplicate column names"),
    ],
)
def test_column_that_cannot_be_written_is_named(client, service, frame, said):
    with pytest.raises(
        RowcastError, match=f"The .* cannot be written as Parquet: .*|{said}"
    ) as raised:
        client.upload(frame)
    assert said in str(raised.value)
    assert service.requests == []


# Models, and what there is


MANIFEST = {
    "id": "m1",
    "task": "classification",
    "target": "<b>kind</b>",
    "learner": "boosting",
    "params": {"max_iter": 9},
    "n_rows": 900,
    "n_rows_left_out": 3,
    "validation": {
        "method": "split",
        "n_rows": 180,
        "scores": {
            "accuracy": 0.91,
            "f1": None,
            "confusion_matrix": {"labels": ["$a$", "b$"], "counts": [[3, 1], [0, 4]]},
        },
        "baseline": {"accuracy": 0.5},
    },
    "importances": {
        "features": [
            {"name": "<script>alert(1)</script>", "mean": 0.25, "std": 0.1},
            {"name": "$x$", "mean": None, "std": None},
        ]
    },
    "notes": ["The column 'id' was left out: an identifier."],
}
REGRESSION = {
    **MANIFEST,
    "task": "regression",
    "validation": {
        "method": "cv",
        "n_rows": 9,
        "scores": {"r2": 0.5, "residual_quantiles": {"0.05": -1, "0.95": 2}},
    },
}
ALONE = {**MANIFEST, "validation": {"method": "none"}, "importances": None, "notes": []}


@pytest.fixture
def known(client: Client, service: Server) -> Any:
    service.queued["/models/m1"] = [Reply(200, MANIFEST)]
    return client.model("m1")


def test_model_has_what_matters_at_hand(known):
    assert (known.id, known.task, known.target, known.learner) == (
        "m1",
        "classification",
        "<b>kind</b>",
        "boosting",
    )
    assert known.scores["accuracy"] == 0.91
    assert known.baseline == {"accuracy": 0.5}
    assert list(known.importances.values()) == [0.25, None]
    assert known.notes == MANIFEST["notes"]
    assert known.manifest == MANIFEST


def test_model_prints_as_a_summary(known):
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in str(known).splitlines())
    assert lines == {
        "model": "m1",
        "target": "<b>kind</b> (classification)",
        "learner": 'boosting {"max_iter": 9}',
        "rows": "900, 3 left out without a target",
        "validation": "split, on 180 rows",
        "accuracy": "0.91 (baseline 0.5)",
        "importances": "<script>alert(1)</script> 0.25",
        "note": "The column 'id' was left out: an identifier.",
    }


def test_model_is_a_table_in_a_notebook_and_names_are_no_markup(known):
    page = known._repr_html_()
    assert page.startswith("<table><tr><th>model</th><td>m1</td></tr>")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 0.25" in page
    assert not re.search("<(?!/?(table|tr|th|td)>)", page)


@pytest.mark.parametrize("manifest", [MANIFEST, REGRESSION, ALONE])
def test_model_plots_importances_and_errors(manifest, tmp_path):
    import matplotlib.pyplot

    matplotlib.use("Agg")
    figure = module.Model(manifest).plot()
    figure.savefig(tmp_path / "plot.png")
    titles = [axes.get_title() for axes in figure.axes[:2]]
    shown = {"split": "confusion matrix", "cv": "residuals", "none": "not validated"}
    assert titles == ["importances", shown[manifest["validation"]["method"]]]
    matplotlib.pyplot.close(figure)


def test_plot_without_matplotlib_says_what_to_install(known, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RowcastError, match="pip install matplotlib"):
        known.plot()


def test_model_stands_for_its_id(client, service, known):
    service.queued["/models/m1"] = [Reply(204)]
    client.predict(D1, known)
    client.delete(known)
    assert json.loads(service.received("/predict")[0].body)["model_id"] == "m1"
    assert service.requests[-1][:2] == ("DELETE", "/models/m1")


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_listings_ask_for_pages_as_they_are_needed(client, service, kind):
    pages = [
        {kind: [{"id": "a"}, {"id": "b"}], "next": "b"},
        {kind: [], "next": "c"},
        {kind: [{"id": "d"}], "next": None},
    ]
    service.queued[f"/{kind}"] = [Reply(200, page) for page in pages]
    things = getattr(client, kind)()
    assert service.requests == []
    assert [next(things)["id"], next(things)["id"]] == ["a", "b"]
    assert len(service.requests) == 1
    assert [thing["id"] for thing in things] == ["d"]
    assert [r.query for r in service.requests] == [
        {"limit": "100", **more} for more in ({}, {"before": "b"}, {"before": "c"})
    ]


@pytest.mark.parametrize(("limit", "asked"), [(1, "1"), (3, "3"), (250, "100")])
def test_limit_of_a_listing_bounds_its_pages_too(client, service, limit, asked):
    service.answer = lambda _request: Reply(
        200, {"models": [{"id": "a"}] * int(asked), "next": "a"}
    )
    assert len(list(client.models(limit))) == limit
    assert service.requests[0].query["limit"] == asked


@pytest.mark.parametrize("kind", ["models", "datasets", "results"])
def test_delete_finds_out_what_the_id_is_of(client, service, kind):
    service.answer = lambda request: (
        Reply(204) if request.path == f"/{kind}/x1" else problem(404, "not_found")
    )
    client.delete("x1")
    assert {request.method for request in service.requests} == {"DELETE"}
    assert service.requests[-1].path == f"/{kind}/x1"


def test_delete_of_nothing_is_a_not_found_error(client, service):
    service.answer = lambda _request: problem(404, "not_found")
    with pytest.raises(NotFoundError, match="no model, dataset or result x1"):
        client.delete("x1")


@pytest.mark.parametrize("fault", [DROP, Reply(502)])
def test_deletion_that_may_have_happened_is_not_repeated(
    client, service, pauses, fault
):
    service.queued["/models/x1"] = [fault]
    with pytest.raises(RowcastError):
        client.delete("x1")
    assert len(service.requests) == 1


def test_delete_of_a_model_that_is_being_fitted_is_a_conflict(client, service):
    service.queued["/models/x1"] = [problem(409, "model_not_ready")]
    with pytest.raises(ConflictError):
        client.delete("x1")
    assert len(service.requests) == 1


@pytest.mark.parametrize("missing", ["estimators", "sklearn"])
def test_loading_a_model_says_what_it_needs_before_anything_is_fetched(
    client, service, monkeypatch, missing
):
    service.queued["/models/m1"] = [Reply(200, MANIFEST)]
    monkeypatch.delitem(sys.modules, "estimators", raising=False)
    for name in [
        name
        for name in sys.modules
        if name == missing or name.startswith(f"{missing}.")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    said = {
        "estimators": f"{service.url}/estimators.py",
        "sklearn": "pip install 'scikit-learn",
    }
    with pytest.raises(RowcastError, match=re.escape(said[missing])):
        client.download_model("m1")
    assert len(service.requests) == 1


# On a real service


@pytest.fixture
def live(stack: Stack) -> Iterator[Client]:
    with Client(stack.url) as connected:
        yield connected


def test_every_kind_of_data_gives_the_same_predictions(live, tmp_path):
    frame = numbers(200, 3)
    path = tmp_path / "train.csv"
    frame.to_csv(path, index=False)
    model_id = live.fit(frame, None)
    dataset_id = live.upload(path)
    kinds = [frame, path, str(path), path.read_bytes(), path.open("rb"), dataset_id]
    first, *others = [live.predict_table(data, model_id) for data in kinds]
    kinds[4].close()
    for other in others:
        pd.testing.assert_frame_equal(other, first)
    assert (first["y"] == frame["y"]).mean() > 0.9


def test_small_table_is_predicted_online_with_what_a_job_says(live):
    frame = numbers(90, 3).assign(
        day=pd.Timestamp("2024-02-29"), y=[1.5 * i for i in range(90)]
    )
    model_id = live.fit(frame, None)

    def is_answered_online() -> bool:
        n_jobs = len(live.jobs)
        live.predict_table(frame, model_id)
        return len(live.jobs) == n_jobs

    # Online workers start slower than their server.
    eventually(is_answered_online)
    for options in (
        {},
        {"output": "quantiles", "quantiles": [0.1, 0.9], "keep": ["day", "col_0"]},
    ):
        expected = live.predict_table(frame, model_id, priority="normal", **options)
        n_jobs = len(live.jobs)
        found = live.predict_table(frame, model_id, **options)
        assert len(live.jobs) == n_jobs
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_service_without_online_workers_predicts_by_jobs(start_stack):
    with Client(start_stack(workers=1).url) as connected:
        frame = numbers(50, 2)
        model_id = connected.fit(frame, None)
        assert len(connected.predict_table(frame, model_id)) == 50
        assert [job["kind"] for job in connected.jobs] == ["fit", "predict"]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_formats_of_results_are_the_same_dataframe(live, form):
    frame = numbers(60, 2).assign(
        code=[f"0{i}" for i in range(60)], y=["NA", "no, nor yes"] * 30
    )
    model_id = live.fit(frame, None, validation="none", learner="linear")
    found = live.predict_table(
        frame, model_id, output="probabilities", format=form, keep=["col_0"]
    )
    expected = live.predict_table(
        frame, model_id, output="probabilities", keep=["col_0"]
    )
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_listed_things_are_deleted_with_what_hangs_on_them(live, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 2)
    frame = numbers(50, 2)
    dataset_id = live.upload(frame)
    model_ids = [live.fit(dataset_id, None, validation="none") for _ in range(3)]
    result_id = live.predict(dataset_id, model_ids[0], None)
    assert [each["id"] for each in live.models(limit=3)] == model_ids[::-1]
    listed = [each["id"] for each in live.models()]
    assert listed == sorted(set(listed), reverse=True)
    assert next(live.datasets())["id"] == dataset_id
    live.delete(model_ids[0])
    with pytest.raises(NotFoundError):
        live.result(result_id)
    other = live.predict(dataset_id, model_ids[1], None)
    live.delete(other)
    with pytest.raises(NotFoundError):
        live.download(other)
    live.delete(dataset_id)
    assert next(live.datasets())["id"] != dataset_id
    with pytest.raises(NotFoundError):
        live.fit(dataset_id)


def test_model_of_a_real_service_is_summed_up(live):
    frame = numbers(200, 3).rename(columns={"col_0": "<script>"})
    known = live.model(live.fit(frame, None))
    assert known.scores["accuracy"] > known.baseline["accuracy"]
    assert "<script>" in str(known)
    assert "<script>" in known.importances
    assert "<script>" not in known._repr_html_()


def test_canceled_job_stays_canceled(live):
    model_id = live.fit(slow_table())
    result_id = live.predict(numbers(20), model_id)
    eventually(lambda: live.status(model_id)["status"] == "started")
    assert live.cancel(model_id)["status"] == "canceled"
    with pytest.raises(JobCanceledError):
        live.wait(model_id)
    with pytest.raises(JobFailedError) as raised:
        live.wait(result_id)
    assert raised.value.code == "dependency_failed"


def test_job_that_has_finished_cannot_be_canceled(live, model_id):
    with pytest.raises(ConflictError):
        live.cancel(model_id)
    assert live.status(model_id)["status"] == "finished"


def test_prediction_may_be_submitted_before_its_fit_has_ended(live):
    frame = numbers(300, 4)
    assert len(live.predict_table(frame, live.fit(frame))) == 300


def test_model_that_is_not_there_yet_is_a_conflict(live, stack):
    with stack.frozen():
        model_id = live.fit(numbers(50, 2))
        with pytest.raises(ConflictError):
            live.model(model_id)
    live.wait(model_id)


# Errors


ERRORS = [
    error
    for error in vars(module).values()
    if isinstance(error, type) and issubclass(error, RowcastError)
]


@pytest.mark.parametrize("error", ERRORS)
def test_errors_survive_pickle(error):
    sent = error("What is wrong.", code="some_code", errors=["a"], job_id="j1")
    got = pickle.loads(pickle.dumps(sent))
    assert (type(got), str(got), vars(got)) == (error, "What is wrong.", vars(sent))


@pytest.mark.parametrize("error", ERRORS)
def test_module_docstring_draws_every_error(error):
    assert error.__name__ in module.__doc__


@pytest.mark.parametrize(
    ("status", "error", "builtin"),
    [
        (400, InvalidRequestError, ValueError),
        (401, AuthenticationError, APIError),
        (404, NotFoundError, LookupError),
        (409, ConflictError, APIError),
        (413, InvalidRequestError, ValueError),
        (415, InvalidRequestError, ValueError),
        (422, InvalidRequestError, ValueError),
        (500, APIError, RowcastError),
    ],
)
def test_refusals_have_classes_to_catch(client, service, status, error, builtin):
    service.queued["/fit"] = [problem(status, "some_code", request_id="q1")]
    with pytest.raises(builtin) as raised:
        client.fit(D1)
    assert type(raised.value) is error
    assert (raised.value.status, raised.value.code, raised.value.request_id) == (
        status,
        "some_code",
        "q1",
    )


def test_refusal_reads_as_detail_problems_and_hint(client, service):
    reply = problem(
        422,
        "invalid_table",
        hint="Upload again",
        errors=["'a' is empty", "It is invalid_table."],
    )
    service.queued["/fit"] = [reply]
    with pytest.raises(InvalidRequestError) as raised:
        client.fit(D1)
    assert str(raised.value) == "It is invalid_table. 'a' is empty. Upload again."
    assert raised.value.errors == ["'a' is empty", "It is invalid_table."]


@pytest.mark.parametrize(
    "body",
    [
        b"<html><h1>Bad Gateway</h1></html>",
        b"\xff",
        b"[1]",
        {"errors": 3, "detail": {}},
        b"",
    ],
)
def test_answer_of_somebody_else_is_still_a_sentence(client, service, body):
    service.queued["/fit"] = [Reply(500, body)]
    with pytest.raises(APIError, match=f"{re.escape(service.url)} answered 500: .+"):
        client.fit(D1)


@pytest.mark.parametrize(
    "body", [b"<html>Please log in</html>", {"other": "service"}, [1], b""]
)
def test_good_answer_of_another_service_is_recognized(client, service, body):
    service.queued["/fit"] = [Reply(200, body)]
    with pytest.raises(APIError, match="not as Rowcast does"):
        client.fit(D1)


# What a person sees


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_watched", lambda: True)


RUNNING = {
    "phase": "fitting",
    "percent": 42.6,
    "rows_done": None,
    "rows_total": None,
    "iterations_done": 43,
    "iterations_total": 100,
}
COURSE = [
    job("queued", position=2, eta_s=None, progress=None),
    job("started", attempts=2, progress=RUNNING, eta_s=71.2),
]


@pytest.fixture
def busy(service: Server) -> Server:
    """A service whose next job shows what jobs show."""
    service.queued["/status"] = [Reply(200, each) for each in COURSE]
    return service


@pytest.mark.usefixtures("watched")
def test_wait_shows_one_line_to_a_person_without_tqdm(
    client, busy, pauses, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setenv("COLUMNS", "70")
    client.wait("j1")
    lines = [
        "fit j1: queued, 2 ahead of it (0 s)",
        "fit j1: fitting 43 %, attempt 2, 1 m 12 s left (0 s)",
        "fit j1: finished (0 s)",
    ]
    assert capsys.readouterr().err == "".join(f"\r{line:<69}" for line in lines) + "\n"
    assert busy.requests[0].query["wait"] == "1.0"


@pytest.mark.usefixtures("watched", "pauses")
def test_line_is_not_longer_than_the_terminal(client, busy, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setenv("COLUMNS", "20")
    client.wait("j1")
    assert {len(line) for line in re.split("[\r\n]", capsys.readouterr().err)} == {
        0,
        19,
    }


@pytest.mark.usefixtures("watched", "pauses")
def test_wait_shows_one_bar_to_a_person(client, busy, capsys):
    pytest.importorskip("tqdm")
    client.wait("j1")
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    for said in (
        "fit ...j1",
        "queued, 2 ahead of it",
        "fitting 43 %, attempt 2, 1 m 12 s left",
        "finished",
    ):
        assert said in shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.2, "1 m 0 s"),
        (3599, "59 m 59 s"),
        (3600, "1 h 0 m"),
        (9e4, "25 h 0 m"),
    ],
)
def test_times_are_said_in_their_two_largest_units(seconds, said):
    assert module._duration(seconds) == said


@pytest.mark.usefixtures("watched", "pauses")
def test_nothing_is_shown_of_a_job_that_is_unknown(client, service, capsys):
    service.queued["/status"] = [problem(404, "job_not_found")]
    with pytest.raises(NotFoundError):
        client.wait("j1")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("watched", "pauses")
def test_person_learns_once_that_the_queue_is_full(client, service, capsys):
    service.queued["/fit"] = [full(1)] * 3
    client.fit(D1)
    assert capsys.readouterr().err == "It is queue_full. Waiting for a place.\n"


class Terminal:
    """A terminal of 100 columns in which a Python script runs, and what is shown on it."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.shown = ""
        self.fd, inner = pty.openpty()
        termios.tcsetwinsize(inner, (40, 100))
        # The new session takes the terminal for its own, so that Ctrl-C is what it is for a person.
        script = (
            "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + script
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={"PYTHONPATH": str(ROOT)},
        )
        os.close(inner)

    def read(self) -> bool:
        """Take in what has been shown since; False at the end."""
        assert select.select([self.fd], [], [], 20)[0], f"nothing but {self.shown!r}"
        # Linux says so where the other side has closed the terminal.
        with contextlib.suppress(OSError):
            self.shown += (more := os.read(self.fd, 4096)).decode()
            return bool(more)
        return False

    def wait_for(self, said: str) -> None:
        while said not in self.shown:
            assert self.read(), self.shown

    def press(self, key: bytes) -> None:
        os.write(self.fd, key)

    def end(self) -> int:
        while self.read():
            pass
        os.close(self.fd)
        return self.process.wait(30)


WAITING = (
    "import sys, client\nsys.exit(client.main(['--url', sys.argv[1], 'status', 'j1', "
    "'--wait']))"
)


@pytest.mark.parametrize(
    "setup", ["", "import sys; sys.modules['tqdm'] = None\n"], ids=["tqdm", "plain"]
)
def test_terminal_shows_the_job_on_one_line(busy, setup):
    if not setup:
        pytest.importorskip("tqdm")
    terminal = Terminal(setup + WAITING, busy.url)
    assert terminal.end() == 0
    lines = terminal.shown.split("\r\n")
    assert [len(lines), lines[1:]] == [3, ["finished", ""]]
    states = [
        "queued, 2 ahead of it",
        "fitting 43 %, attempt 2, 1 m 12 s left",
        "finished",
    ]
    places = [lines[0].index(state) for state in states]
    assert places == sorted(places)
    assert "\r" in lines[0]


def test_ctrl_c_ends_the_waiting_and_says_how_to_cancel(service):
    service.answer = lambda _request: Reply(200, COURSE[1])
    terminal = Terminal(WAITING, service.url)
    terminal.wait_for("fitting 43 %")
    terminal.press(b"\x03")
    assert terminal.end() == 130
    said = "the job goes on. To cancel it: client.cancel('j1'), in a shell: rowcast cancel j1"
    assert said in terminal.shown
    assert "Traceback" not in terminal.shown
    assert service.received("/cancel") == []


def test_interrupt_prints_nothing_where_nobody_watches(service):
    service.answer = lambda _request: Reply(200, COURSE[1])
    command = [
        sys.executable,
        str(ROOT / "client.py"),
        "--url",
        service.url,
        "status",
        "j1",
        "--wait",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as waiting:
        eventually(lambda: service.requests)
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate() == (b"", b"")
    assert waiting.returncode == 130


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("tqdm", [True, False])
def test_kernel_of_a_notebook_is_watched_without_a_terminal(
    client, busy, capsys, monkeypatch, tqdm
):
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(
        sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell)
    )
    if tqdm:
        pytest.importorskip("tqdm.auto")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    client.wait("j1")
    assert "fitting 43 %, attempt 2, 1 m 12 s left" in "".join(capsys.readouterr())


def test_ipython_in_a_pipe_is_no_notebook(client, busy, pauses, capsys, monkeypatch):
    for shell in (None, object()):
        ipython = types.SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        client.wait("j1")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("watched")
def test_upload_shows_a_bar_to_a_person(client, table, capsys):
    pytest.importorskip("tqdm")
    client.upload(table)
    assert "100%" in capsys.readouterr().err


@pytest.mark.usefixtures("watched")
def test_upload_shows_a_plain_line_without_tqdm(client, table, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    client.upload(table)
    assert capsys.readouterr().err == "uploading 0.0 MB\n"


def test_person_at_a_terminal_watches_the_main_thread_only(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert module._is_watched()
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(module._is_watched).result()


def test_nothing_is_shown_where_nobody_watches(client, table, capsys):
    client.fit(client.upload(table), timeout=None)
    assert capsys.readouterr() == ("", "")


# The command line


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=True
    )


def test_commands_print_exactly_what_the_next_one_needs(
    service, table, tmp_path, capsys
):
    saved = tmp_path / "result.parquet"
    commands = {
        f"upload {table}": D1,
        f"fit {D1}": "j1",
        f"fit {D1} --target price --task regression --option seed=3 --option name=a=b --wait": "j1",
        f"predict {D1} j1 --timeout 5": "r1",
        "status j1": "finished",
        "status j1 --wait": "finished",
        f"download r1 {saved}": str(saved),
    }
    for command, printed in commands.items():
        assert main(["--url", service.url, *command.split()]) == 0
        assert capsys.readouterr() == (f"{printed}\n", "")
    options = {
        "id": D1,
        "target": "price",
        "task": "regression",
        "seed": 3,
        "name": "a=b",
    }
    assert json.loads(service.received("/fit")[1].body) == options
    assert saved.exists()


def test_error_of_a_command_is_a_sentence_on_stderr_and_exit_code_1(
    service, capsys, tmp_path
):
    service.queued["/status"] = [
        problem(404, "job_not_found"),
        Reply(200, job("failed")),
    ]
    commands = {
        "status j1": "It is job_not_found.",
        "status j1 --wait": "The fit j1 failed: No reason was given.",
        f"upload {tmp_path}/none": f"{tmp_path}/none: No such file or directory",
        f"download r1 {tmp_path}": f"{tmp_path}: Not a regular file",
    }
    for command, said in commands.items():
        assert main(["--url", service.url, *command.split()]) == 1
        assert capsys.readouterr() == ("", f"{said}\n")


def test_commands_that_list_show_and_delete(service, capsys):
    models = [
        {
            "id": "m2",
            "target": "y",
            "learner": "linear",
            "score": {"metric": "r2", "value": 0.5},
        },
        {"id": "m1", "score": None},
    ]
    service.queued["/models"] = [Reply(200, {"models": models, "next": None})]
    service.queued["/datasets"] = [
        Reply(200, {"datasets": [{"id": "d1", "size": 7}], "next": None})
    ]
    service.queued["/models/m1"] = [Reply(200, MANIFEST), Reply(204)]
    jobs = [{**job(), "id": "j2", "kind": "predict"}, job(), job()]
    service.queued["/jobs"] = [Reply(200, {"jobs": jobs, "next": None})]
    service.queued["/jobs/j1/log"] = [
        Reply(200, {"id": "j1", "lines": ["Read 9 rows.", "Done."]})
    ]
    commands = {
        "models": "m2\ty\tlinear\tr2\t0.5\nm1\n",
        "datasets": "d1\t7\n",
        "model m1": f"{module.Model(MANIFEST)}\n",
        "delete m1": "",
        "cancel j1": "canceled\n",
        "log j1": "Read 9 rows.\nDone.\n",
        "jobs --status finished --model-id m1 --limit "
        "2": "j2\tpredict\tfinished\nj1\tfit\tfinished\n",
    }
    for command, printed in commands.items():
        assert main(["--url", service.url, *command.split()]) == 0
        assert capsys.readouterr() == (printed, "")
    query = {"limit": "2", "status": "finished", "model_id": "m1"}
    assert service.received("/jobs")[0].query == query


@pytest.mark.parametrize(
    "command",
    [
        "",
        "fit",
        "fit d1 --option x",
        "fit d1 --wait --timeout 3",
        "upload a --api-key k",
    ],
)
def test_misuse_of_the_command_line_is_exit_code_2(command, capsys):
    with pytest.raises(SystemExit) as raised:
        main(command.split())
    assert raised.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_names_the_commands_and_where_the_key_comes_from():
    shown = run_python(str(ROOT / "client.py"), "--help").stdout
    for word in (
        "upload",
        "fit",
        "predict",
        "status",
        "cancel",
        "log",
        "jobs",
        "download",
        "models",
        "datasets",
        "delete",
        "ROWCAST_API_KEY",
        "ROWCAST_URL",
    ):
        assert word in shown


# What the client needs


def test_import_loads_nothing_but_requests():
    loaded = run_python("-c", "import client, sys; print(*sys.modules)").stdout.split()
    assert {"pandas", "pyarrow", "numpy", "tqdm", "sklearn", "rowcast"}.isdisjoint(
        loaded
    )


def test_source_is_that_of_python_3_9():
    ast.parse(Path(module.__file__).read_text(), feature_version=(3, 9))


def test_guide_names_every_method_and_error():
    guide = (ROOT / "docs/client.md").read_text()
    methods = [name for name in vars(Client) if not name.startswith("_")]
    for name in [*methods, *(error.__name__ for error in ERRORS)]:
        assert f"`{name}" in guide


def test_download_to_a_path_works_without_pandas(service, tmp_path):
    script = """
import sys
sys.modules["pandas"] = sys.modules["pyarrow"] = sys.modules["numpy"] = None
import client
sys.exit(client.main(["download", "r1", sys.argv[1]]))
"""
    run_python("-c", script, str(tmp_path / "result.parquet"), ROWCAST_URL=service.url)
    assert (tmp_path / "result.parquet").exists()


# On a real service, behind a proxy that loses answers


class Losing(socketserver.ThreadingTCPServer):
    """Passes requests on to a service, each in a connection, and loses the first answers to
    some."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), Lossy)
        self.service = ("127.0.0.1", urlsplit(url).port)
        self.to_lose: dict[str, int] = {}
        self.passed_on: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Lossy(socketserver.StreamRequestHandler):
    """Reads a request as bytes, and gives the answer to it as the bytes that came."""

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line if not line.lower().startswith(b"connection:") else b""
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = self.rfile.read(int(length[1])) if length else b""
        start = head.split(b"?")[0].split(b" HTTP/")[0].decode()
        with socket.create_connection(self.server.service, 60) as upstream:
            upstream.sendall(head[:-2] + b"Connection: close\r\n\r\n" + body)
            answer = b"".join(iter(lambda: upstream.recv(65536), b""))
        self.server.passed_on.append(start)
        if self.server.to_lose.get(start, 0) > 0:
            self.server.to_lose[start] -= 1
        else:
            self.wfile.write(answer)


@pytest.fixture
def losing(stack: Stack) -> Iterator[Losing]:
    with Losing(stack.url) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


@pytest.fixture
def behind(losing: Losing) -> Iterator[Client]:
    with Client(losing.url) as connected:
        yield connected


def test_jobs_whose_answers_were_lost_exist_once(behind, losing, live, pauses):
    dataset_id = live.upload(numbers(50, 2))
    losing.to_lose = {"POST /fit": 2, "POST /predict": 1}
    model_id = behind.fit(dataset_id, validation="none")
    result_id = behind.predict(dataset_id, model_id)
    assert losing.passed_on == ["POST /fit"] * 3 + ["POST /predict"] * 2
    assert [each["id"] for each in live.list_jobs(dataset_id=dataset_id)] == [
        result_id,
        model_id,
    ]
    assert behind.wait(result_id)["model_id"] == model_id


def test_cancel_whose_answer_was_lost_is_no_conflict(behind, losing, stack, pauses):
    with stack.frozen():
        job_id = behind.fit(numbers(50, 2))
        losing.to_lose = {"POST /cancel": 1}
        assert behind.cancel(job_id)["status"] == "canceled"
        assert losing.passed_on[-2:] == ["POST /cancel"] * 2


# What a real service remembers


def test_bytes_that_a_job_has_read_are_not_sent_again(live, tmp_path):
    frame = numbers(15_000, 10, seed=7)
    dataset_id = live.upload(frame)
    live.fit(dataset_id, None, validation="none")
    assert live.upload(frame) == dataset_id
    assert live.upload(frame, reuse=False) != dataset_id


def test_reuse_answers_with_the_earlier_job(live):
    dataset_id = live.upload(numbers(60, 2, seed=8))
    model_id = live.fit(dataset_id, None, validation="none")
    assert live.fit(dataset_id, None, validation="none", reuse=True) == model_id
    assert live.fit(dataset_id, None, validation="none") != model_id
    assert len(live.jobs) == 2


def test_jobs_of_a_real_service_are_listed_and_have_logs(live):
    dataset_id = live.upload(numbers(60, 2))
    model_id = live.fit(dataset_id, None, validation="none")
    result_id = live.predict(dataset_id, model_id, None)
    assert [each["id"] for each in live.list_jobs(2)] == [result_id, model_id]
    assert [
        each["id"] for each in live.list_jobs(dataset_id=dataset_id, kind="fit")
    ] == [model_id]
    assert [
        each["id"] for each in live.list_jobs(model_id=model_id, status="finished")
    ][-1] == model_id
    assert live.log(model_id)
