"""What tests say of HTTP answers."""

from __future__ import annotations

from typing import Any

import requests

from tests.support.stack import Stack

PROBLEM_MEMBERS = {
    "type",
    "title",
    "status",
    "detail",
    "code",
    "hint",
    "errors",
    "request_id",
}


UNKNOWN = "01a20767-aca3-73f1-8125-5e2a6f7d6e75"


def assert_problem(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    body = answer.json()
    assert set(body) == PROBLEM_MEMBERS
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["detail"]
    assert body["hint"]
    assert body["request_id"] == answer.headers["X-Request-ID"]
    return body


def delete(stack: Stack, path: str) -> requests.Response:
    return requests.delete(stack.url + path, headers=stack.headers, timeout=40)
