"""A small HTTP server that plays the service or the store, and makes their rare faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pandas as pd

PREDICTIONS = pd.DataFrame({"y": [2, 0, 1]})
D1 = "01a20842-a75d-7589-a082-0000000000d1"
D2 = "01a20842-a75d-7589-a082-0000000000d2"
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
PROGRESS = {
    "phase": "fitting",
    "percent": 42.6,
    "rows_done": None,
    "rows_total": None,
    "iterations_done": 43,
    "iterations_total": 100,
}


class Request(NamedTuple):
    """What a server received."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """What a server answers; `cut` announces so many more bytes than it sends."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    cut: int = 0


# The server closes the connection without an answer.
DROP = Reply(0)


class Server(ThreadingHTTPServer):
    """Sends the replies queued for a path, then those of `answer`; records all requests."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[Request], Reply], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answer = answer
        self.requests: list[Request] = []
        # Each is a Reply, or a function from a Request to one.
        self.queued: dict[str, list[Any]] = {}
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
    """Parses a Request, and writes the Reply."""

    server: Server
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        request = self.read()
        reply = self.server.reply(request)
        self.close_connection = reply is DROP or bool(reply.cut)
        if reply is not DROP:
            self.write(reply)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - http.server looks for these names

    def read(self) -> Request:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        headers = {name.lower(): value for name, value in self.headers.items()}
        n_bytes = int(headers.get("content-length", 0))
        body = self.rfile.read(n_bytes)
        if len(body) < n_bytes:
            raise ConnectionError("the request broke off")
        return Request(self.command, url.path, query, headers, body)

    def write(self, reply: Reply) -> None:
        body = reply.body
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"Content-Length": str(len(body) + reply.cut), **reply.headers}
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing to stderr."""


def job(status: str = "finished", **rest: Any) -> dict[str, Any]:
    """Return the status of a job, as the service sends it."""
    return {"id": "j1", "kind": "fit", "status": status, "error": None, **rest}


# What the status of a running job shows, one after the other.
COURSE = [
    job("queued", position=2, eta_s=None, progress=None),
    job("started", attempts=2, progress=PROGRESS, eta_s=71.2),
]


def problem(status: int, code: str, **rest: Any) -> Reply:
    """Return an error, as the service sends it."""
    body = {"status": status, "code": code, "detail": f"It is {code}.", **rest}
    return Reply(status, body)


def queue_full(retry_after_s: int) -> Reply:
    headers = {"Retry-After": str(retry_after_s)}
    return problem(429, "queue_full")._replace(headers=headers)


def keys_of(requests: list[Request]) -> list[str | None]:
    """Return the idempotency keys of requests."""
    return [request.headers.get("idempotency-key") for request in requests]
