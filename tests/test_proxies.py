"""The shipped proxies: whole jobs through them, and slow callers that they keep away."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.support import proxies
from tests.support.http import UNKNOWN
from tests.support.proxies import Proxy
from tests.support.stack import Stack, StartStack
from tests.support.tables import parquet, table

KEY = "a-long-key-of-ann"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
N_SLOW = 70


@dataclass
class Site:
    """A proxy and the stack behind it."""

    proxy: Proxy
    stack: Stack

    def call(self, method: str, path: str, **options: object) -> requests.Response:
        given = {"headers": AUTHORIZED, "timeout": 40, **options}
        verify = str(self.proxy.authority)
        return requests.request(method, self.proxy.url + path, verify=verify, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=list(proxies.PROXIES))
def site(
    request: pytest.FixtureRequest,
    start_stack: StartStack,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """Return a stack with few threads behind a proxy."""
    ports = proxies.free_port(), proxies.free_port()
    stack = start_stack(
        workers=1,
        SERVER_WORKERS="1",
        SERVER_THREADS="4",
        API_KEYS=f"ann:{KEY}",
        TRUSTED_PROXIES="127.0.0.1",
        S3_PUBLIC_ENDPOINT=f"https://localhost:{ports[1]}",
    )
    store = json.loads((stack.data / "ports.json").read_text())["store"]
    with proxies.proxy(
        request.param,
        tmp_path_factory.mktemp(request.param),
        ports,
        urlsplit(stack.url).netloc,
        f"127.0.0.1:{store}",
    ) as proxy:
        yield Site(proxy, stack)


def test_a_table_goes_to_the_store_and_its_events_come_back(site: Site) -> None:
    upload = site.call("POST", "/upload").json()
    assert upload["url"].startswith(site.proxy.store_url)
    verify = str(site.proxy.authority)
    put = requests.put(upload["url"], data=parquet(table()), verify=verify, timeout=40)
    assert put.status_code == 200
    job = site.call("POST", f"/fit?id={upload['id']}").json()["id"]
    with site.call("GET", f"/status?id={job}&stream=1", stream=True) as events:
        lines = [line for line in events.iter_lines() if line.startswith(b"data: ")]
    assert json.loads(lines[-1][6:])["status"] == "finished"


def test_events_are_not_held_back(site: Site) -> None:
    with site.stack.frozen():
        upload = site.call("POST", "/upload").json()
        verify = str(site.proxy.authority)
        requests.put(upload["url"], data=parquet(table()), verify=verify, timeout=40)
        job = site.call("POST", f"/fit?id={upload['id']}").json()["id"]
        with site.call("GET", f"/status?id={job}&stream=1", stream=True) as events:
            first = next(line for line in events.iter_lines() if b"data: " in line)
    assert json.loads(first[6:])["status"] == "queued"


def slow_connections(
    site: Site, n_callers: int, held: ExitStack
) -> list[ssl.SSLSocket]:
    """Return connections by TLS, as HTTP/1.1 callers."""
    context = ssl.create_default_context(cafile=site.proxy.authority)
    host, port = urlsplit(site.proxy.url).netloc.split(":")
    connections = []
    for _ in range(n_callers):
        bare = held.enter_context(socket.create_connection((host, int(port))))
        wrapped = context.wrap_socket(bare, server_hostname=host)
        connections.append(held.enter_context(wrapped))
    return connections


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET /healthz HTTP/1.1\r\nX: ",
        b"POST /predict?model_id=%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: 900000\r\n\r\na,b\n"
        % (UNKNOWN.encode(), KEY.encode()),
    ],
    ids=["heads", "bodies"],
)
def test_slow_callers_keep_nobody_out(site: Site, beginning: bytes) -> None:
    with ExitStack() as held:
        slow = slow_connections(site, N_SLOW, held)
        for connection in slow:
            connection.sendall(beginning)
        for _ in range(3):
            time.sleep(0.2)
            for connection in slow:
                connection.sendall(b"1")
        assert site.call("GET", "/healthz", timeout=5).status_code == 200
        assert site.call("GET", "/jobs", timeout=5).status_code == 200
        assert requests.get(site.stack.url + "/healthz", timeout=5).status_code == 200


def test_a_body_over_the_limit_is_refused_by_the_proxy(site: Site) -> None:
    path = f"/predict?model_id={UNKNOWN}"
    headers = {**AUTHORIZED, "Content-Type": "text/csv"}
    answer = site.call("POST", path, data=b"a,b\n" * 2_000_000, headers=headers)
    assert answer.status_code == 413


def test_browsers_are_told_to_come_by_tls_only(site: Site) -> None:
    answer = site.call("GET", "/healthz")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the headers of the request."""

    def do_GET(self) -> None:
        body = json.dumps(dict(self.headers.items())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("name", list(proxies.PROXIES))
def test_proxies_set_forwarded_headers_anew_and_keep_the_host(
    name: str, tmp_path: Path
) -> None:
    ports = proxies.free_port(), proxies.free_port()
    made_up = {
        "X-Forwarded-For": "198.51.100.1",
        "X-Forwarded-Proto": "http",
        "Forwarded": "for=198.51.100.1",
    }
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as echo:
        threading.Thread(target=echo.serve_forever, daemon=True).start()
        upstream = f"127.0.0.1:{echo.server_address[1]}"
        with proxies.proxy(name, tmp_path, ports, upstream, upstream) as proxy:
            seen = requests.get(
                proxy.url, headers=made_up, verify=str(proxy.authority), timeout=20
            ).json()
        echo.shutdown()
    assert seen["X-Forwarded-For"] in ("127.0.0.1", "::1")
    assert seen["X-Forwarded-Proto"] == "https"
    assert seen["Host"] == f"localhost:{ports[0]}"
    assert "Forwarded" not in seen
