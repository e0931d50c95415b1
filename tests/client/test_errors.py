"""Errors: their classes, their text, and answers that are not from Rowcast."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest

import client as module
from client import (
    APIError,
    AuthenticationError,
    Client,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RowcastError,
)
from tests.support import ROOT
from tests.support.fake_service import D1, Reply, Server, problem

ERRORS = [
    error
    for error in vars(module).values()
    if isinstance(error, type) and issubclass(error, RowcastError)
]


@pytest.mark.parametrize("error", ERRORS)
def test_errors_survive_pickle(error: Any) -> None:
    sent = error("What is wrong.", code="some_code", errors=["a"], job_id="j1")
    got = pickle.loads(pickle.dumps(sent))
    assert (type(got), str(got), vars(got)) == (error, "What is wrong.", vars(sent))


def test_guide_names_every_method_and_error() -> None:
    guide = (ROOT / "docs/client.md").read_text()
    methods = [name for name in vars(Client) if not name.startswith("_")]
    errors = [error.__name__ for error in ERRORS]
    for name in methods + errors:
        assert f"`{name}" in guide


@pytest.mark.parametrize("error", ERRORS)
def test_module_docstring_draws_every_error(error: Any) -> None:
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
def test_error_answers_have_classes_to_catch(
    client: Client, service: Server, status: Any, error: Any, builtin: Any
) -> None:
    service.queued["/fit"] = [problem(status, "some_code", request_id="q1")]
    with pytest.raises(builtin) as raised:
        client.fit(D1, learner="boosting")
    assert type(raised.value) is error
    assert raised.value.status == status
    assert raised.value.code == "some_code"
    assert raised.value.request_id == "q1"


def test_text_of_an_error_is_detail_problems_and_hint(
    client: Client, service: Server
) -> None:
    errors = ["'a' is empty", "It is invalid_table."]
    reply = problem(422, "invalid_table", hint="Upload again", errors=errors)
    service.queued["/fit"] = [reply]
    with pytest.raises(InvalidRequestError) as raised:
        client.fit(D1, learner="boosting")
    assert str(raised.value) == "It is invalid_table. 'a' is empty. Upload again."
    assert raised.value.errors == errors


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
def test_error_answer_of_a_proxy_is_a_sentence(
    client: Client, service: Server, body: Any
) -> None:
    service.queued["/fit"] = [Reply(500, body)]
    with pytest.raises(APIError, match=f"{re.escape(service.url)} answered 500: .+"):
        client.fit(D1, learner="boosting")


@pytest.mark.parametrize(
    "body", [b"<html>Please log in</html>", {"other": "service"}, [1], b""]
)
def test_good_answer_of_another_service_is_recognized(
    client: Client, service: Server, body: Any
) -> None:
    service.queued["/fit"] = [Reply(200, body)]
    with pytest.raises(APIError, match="not as Rowcast does"):
        client.fit(D1, learner="boosting")
