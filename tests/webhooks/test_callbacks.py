"""A job with a callback_url tells its end there, however it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import table
from tests.support.waiting import eventually

SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Return the URL of a server that verifies what it gets, and what it got."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            Webhook(SECRET).verify(body, dict(self.headers.items()))
            got.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Send nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/done", got
    server.shutdown()
    server.server_close()


def test_the_final_status_of_every_job_is_sent_once(
    start_stack: StartStack, receiver: tuple[str, list[dict[str, Any]]]
) -> None:
    url, got = receiver
    stack = start_stack(workers=1, WEBHOOK_SECRETS=SECRET, WEBHOOK_ALLOW_PRIVATE="true")
    jobs = _jobs_of_all_ends(stack, url)
    statuses = {job: stack.wait(job) for job in jobs}
    assert {status["status"] for status in statuses.values()} == {
        "finished",
        "failed",
        "canceled",
    }
    eventually(lambda: len(got) >= len(jobs))
    assert {status["id"]: status for status in got} == statuses
    assert len(got) == len(jobs)
    stack.stop()


def _jobs_of_all_ends(stack: Stack, url: str) -> list[str]:
    with stack.frozen():
        fit = stack.fit(table(100, 3), callback_url=url)
        failing = stack.fit(table(100, 3).assign(y="one"), callback_url=url)
        rows = stack.upload(table(100, 3))
        predict = submitted(
            stack.post("/predict", dataset_id=rows, model_id=fit, callback_url=url)
        )
        orphan = submitted(
            stack.post("/predict", dataset_id=rows, model_id=failing, callback_url=url)
        )
        canceled = stack.fit(table(100, 3), callback_url=url)
        stack.post("/cancel", id=canceled).raise_for_status()
    return [fit, failing, predict, orphan, canceled]


def test_a_private_address_is_refused(stack: Stack) -> None:
    answer = stack.post(
        "/fit", id=stack.upload(table(100, 3)), callback_url="http://127.0.0.1:1/"
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "callback_url" in answer.json()["detail"]
