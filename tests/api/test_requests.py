"""Where the parameters of a request come from, and when its body is a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flask
import pytest

from rowcast.api.requests import Request
from rowcast.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType


class App(flask.Flask):
    request_class = Request


@contextmanager
def requested(path: str, **options: Any) -> Iterator[Request]:
    options = {"method": "POST", **options}
    with App(__name__).test_request_context(path, **options):
        request: Any = flask.request
        yield request


def test_body_takes_precedence_over_the_query() -> None:
    with requested("/fit?id=a&seed=1", json={"seed": 2, "target": None}) as request:
        assert request.args.to_dict() == {"id": "a", "seed": 2}


def test_list_in_a_body_stays_a_list() -> None:
    with requested("/predict", json={"dataset_id": "d", "keep": ["a", "b"]}) as request:
        assert request.args["keep"] == ["a", "b"]


def test_repeated_parameter_is_refused() -> None:
    with (
        requested("/fit?id=a&id=b") as request,
        pytest.raises(InvalidRequest, match="'id' is given more than once"),
    ):
        request.args  # noqa: B018 - a property that checks


@pytest.mark.parametrize("body", [b"[1]", b"{", b"1"])
def test_body_that_is_not_an_object_is_refused(body: bytes) -> None:
    options = {"data": body, "content_type": "application/json"}
    with (
        requested("/fit", **options) as request,
        pytest.raises(InvalidRequest, match="must be a JSON object"),
    ):
        request.args  # noqa: B018 - a property that checks


def test_body_of_another_type_is_refused() -> None:
    with (
        requested("/fit", data=b"x", content_type="text/csv") as request,
        pytest.raises(UnsupportedMediaType),
    ):
        request.args  # noqa: B018 - a property that checks


def test_body_over_the_limit_is_refused() -> None:
    options = {"data": b" " * 1_000_001, "content_type": "application/json"}
    with requested("/fit", **options) as request, pytest.raises(RequestTooLarge):
        request.args  # noqa: B018 - a property that checks


@pytest.mark.parametrize(
    ("path", "body", "content_type", "table"),
    [
        ("/predict?model_id=m", b"a\n1\n", "text/csv", b"a\n1\n"),
        ("/predict?model_id=m", b' [{"a": 1}]', "application/json", b' [{"a": 1}]'),
        ("/predict", b'{"dataset_id": "d"}', "application/json", None),
        ("/predict?dataset_id=d", b"a\n1\n", "text/csv", None),
        ("/fit", b"a\n1\n", "text/csv", None),
        ("/predict?model_id=m", b"", "text/csv", None),
    ],
)
def test_body_is_a_table_only_where_rows_may_be_sent(
    path: str, body: bytes, content_type: str, table: bytes | None
) -> None:
    with requested(path, data=body, content_type=content_type) as request:
        assert request.table == table
