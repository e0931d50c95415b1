"""Who sends a request, by its API key, and what it may do."""

from __future__ import annotations

import flask
import pytest

from rowcast.access import ANONYMOUS, SCOPES, Caller
from rowcast.api.authentication import (
    OPEN_ENDPOINTS,
    ApiKeys,
    check_scopes,
    is_open,
    scopes_of,
)
from rowcast.config import Settings
from rowcast.errors import Forbidden, Unauthorized
from server import create_app

KEYED = ApiKeys(Settings(api_keys="ann:key-of-ann-1,bob:key-of-bob-1"))


@pytest.mark.parametrize(
    ("header", "owner"),
    [
        ("Bearer key-of-ann-1", "ann"),
        ("bearer key-of-bob-1", "bob"),
        ("Bearer  key-of-ann-1 ", "ann"),
    ],
)
def test_key_names_its_owner(header: str, owner: str) -> None:
    assert KEYED.caller_of(header).owner == owner


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ("", "The API key is missing."),
        ("Bearer key-of-eve-1", "The API key is not valid."),
        ("Bearer", "The API key is not valid."),
        ("Basic key-of-ann-1", "The API key is not valid."),
        ("Bearer key-of-ann", "The API key is not valid."),
        ("Bearer schlüssel", "The API key is not valid."),
    ],
)
def test_missing_or_wrong_key_is_refused(header: str, detail: str) -> None:
    with pytest.raises(Unauthorized) as raised:
        KEYED.caller_of(header)
    assert raised.value.detail == detail


@pytest.mark.parametrize("path", [*OPEN_ENDPOINTS, "/docs/swagger"])
def test_open_endpoints_need_no_key(path: str) -> None:
    assert is_open(path)


def test_without_keys_everything_belongs_to_one_owner() -> None:
    caller = ApiKeys(Settings()).caller_of("Bearer anything")
    assert caller == ANONYMOUS
    assert (caller.owner, caller.scopes) == ("default", frozenset(SCOPES))


def test_key_of_the_settings_is_no_administrator() -> None:
    caller = KEYED.caller_of("Bearer key-of-ann-1")
    assert caller.scopes == {"read", "predict", "fit"}


def test_missing_scope_is_named() -> None:
    caller = Caller("ann", scopes=frozenset({"read"}))
    check_scopes(caller, ("read",))
    with pytest.raises(Forbidden) as raised:
        check_scopes(caller, ("predict", "fit"))
    assert raised.value.detail == "This key lacks the scope 'predict' or 'fit'."


def test_every_route_declares_who_may_use_it() -> None:
    app = create_app(Settings())
    undeclared = [
        rule.rule
        for rule in app.url_map.iter_rules()
        if not is_open(rule.rule)
        and rule.endpoint != "static"
        and not scopes_of(app.view_functions[rule.endpoint])
    ]
    assert undeclared == []


def test_route_that_declares_nothing_is_closed() -> None:
    app = create_app(Settings(api_keys="ann:key-of-ann-1"))
    app.add_url_rule("/new", view_func=lambda: flask.jsonify({}))
    headers = {"Authorization": "Bearer key-of-ann-1"}
    assert app.test_client().get("/new", headers=headers).status_code == 403
