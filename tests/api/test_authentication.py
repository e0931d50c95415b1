"""Who sends a request, by its API key, and what it may do."""

from __future__ import annotations

from dataclasses import replace

import flask
import pytest

from rowcast.access import ANONYMOUS, SCOPES, Caller, Key, KeyRing
from rowcast.access.keys import digest_of, new_key
from rowcast.api.authentication import (
    OPEN_ENDPOINTS,
    Authentication,
    check_scopes,
    is_open,
    scopes_of,
)
from rowcast.config import Settings
from rowcast.errors import Forbidden, Unauthorized
from server import create_app

KEYED = Authentication(Settings(api_keys="ann:key-of-ann-1,bob:key-of-bob-1"))


PLAIN = "rowcast_" + "a2" * 16


class Ring(KeyRing):
    """Keys that stand in no Redis."""

    def __init__(self, **found: Key) -> None:
        self.found = {digest_of(plain): key for plain, key in found.items()}

    def find(self, digest: str) -> Key | None:
        return self.found.get(digest)


def caller_of(
    header: str, callers: Authentication = KEYED, found: Key | None = None
) -> Caller:
    return callers.caller_of(header, Ring(**({PLAIN: found} if found else {})))[0]


@pytest.mark.parametrize(
    ("header", "owner"),
    [
        ("Bearer key-of-ann-1", "ann"),
        ("bearer key-of-bob-1", "bob"),
        ("Bearer  key-of-ann-1 ", "ann"),
    ],
)
def test_key_names_its_owner(header: str, owner: str) -> None:
    assert caller_of(header).owner == owner


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
        caller_of(header)
    assert raised.value.detail == detail


@pytest.mark.parametrize("path", [*OPEN_ENDPOINTS, "/docs/swagger"])
def test_open_endpoints_need_no_key(path: str) -> None:
    assert is_open(path)


def test_without_keys_everything_belongs_to_one_owner() -> None:
    caller = caller_of("Bearer anything", Authentication(Settings()))
    assert caller == ANONYMOUS
    assert (caller.owner, caller.scopes) == ("default", frozenset(SCOPES))


def test_key_of_the_settings_is_no_administrator() -> None:
    caller = caller_of("Bearer key-of-ann-1")
    assert caller.scopes == {"read", "predict", "fit"}


def made_key(**ends: float) -> Key:
    _, key = new_key("cas", "laptop", ["read"])
    return replace(key, **ends)  # type: ignore[arg-type]


def test_created_key_acts_for_its_owner_with_its_scopes() -> None:
    key = made_key()
    caller = caller_of(f"Bearer {PLAIN}", found=key)
    assert caller == Caller("cas", key.id, "laptop", frozenset({"read"}))


@pytest.mark.parametrize(
    ("ends", "detail"),
    [
        ({"expires_at": 1.0}, "The API key has expired."),
        ({"revoked_at": 1.0}, "The API key was revoked."),
    ],
)
def test_ended_key_is_refused(ends: dict[str, float], detail: str) -> None:
    with pytest.raises(Unauthorized) as raised:
        caller_of(f"Bearer {PLAIN}", found=made_key(**ends))
    assert raised.value.detail == detail


def test_without_anonymous_callers_created_keys_are_the_only_ones() -> None:
    closed = Authentication(Settings(allow_anonymous=False))
    with pytest.raises(Unauthorized):
        caller_of("Bearer anything", closed)
    assert caller_of(f"Bearer {PLAIN}", closed, found=made_key()).owner == "cas"


@pytest.mark.parametrize(
    "query",
    [
        "api_key=0123456789",
        "id=1&apikey=0123456789",
        "X-API-Key=0123456789",
        "access_token=0123456789",
        "token=",
        "id=rowcast_" + "a2" * 16,
        "id=rowcast%5F" + "a2" * 16,
    ],
)
def test_key_in_the_url_is_refused_and_not_logged(
    query: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    client = create_app(Settings(api_keys="ann:key-of-ann-1")).test_client()
    headers = {"Authorization": "Bearer key-of-ann-1"}
    answer = client.get(f"/status?{query}", headers=headers)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")
    assert "header" in answer.get_json()["hint"]
    assert "0123456789" not in caplog.text + answer.text
    assert "a2a2" not in caplog.text + answer.text


def test_key_in_a_path_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    create_app(Settings()).test_client().get("/jobs/rowcast_" + "a2" * 16)
    assert "/jobs/..." in caplog.text
    assert "a2a2" not in caplog.text


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
