"""Requests and wrong keys within a minute are limited, for each key and each address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from rowcast.api import rate_limiting
from server import create_app
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack

UNKNOWN_JOB = "/status?id=7bd7ef3e-2bb0-4b3e-8a0e-7d4a43a9b1b0"
MakeClient = Callable[..., FlaskClient]


@pytest.fixture
def client_of(stack: Stack, redis_server: RedisServer, connection: Any) -> MakeClient:
    """Return a function that starts a server process before an empty Redis."""

    def make(**settings: Any) -> FlaskClient:
        keys = "ann:key-of-ann,bob:key-of-bob"
        url = redis_server.url
        found = stack.settings(redis_url=url, api_keys=keys, **settings)
        app = create_app(found)
        return app.test_client()

    return make


def ask(
    client: FlaskClient, key: str = "key-of-ann", address: str = "192.0.2.1"
) -> Any:
    # Version 4 ids are nobody's, which is known without the queue and the store.
    headers = {"Authorization": f"Bearer {key}"}
    return client.get(
        UNKNOWN_JOB, headers=headers, environ_overrides={"REMOTE_ADDR": address}
    )


def statuses(n_requests: int, *arguments: Any) -> list[int]:
    return [ask(*arguments).status_code for _ in range(n_requests)]


def test_a_key_over_its_limit_is_refused_and_others_are_not(
    client_of: MakeClient,
) -> None:
    client = client_of(key_requests_per_minute=5)
    assert statuses(7, client) == [404] * 5 + [429] * 2
    assert ask(client, "key-of-bob").status_code == 404
    # Another process counts the same requests.
    assert ask(client_of(key_requests_per_minute=5)).status_code == 429


def test_refusal_has_the_limit_the_usage_and_when_to_come_again(
    client_of: MakeClient,
) -> None:
    client = client_of(key_requests_per_minute=1, address_requests_per_minute=9)
    assert ask(client).status_code == 404
    answer = ask(client)
    assert answer.mimetype == "application/problem+json"
    assert answer.json["code"] == "rate_limited"
    assert (answer.json["limit"], answer.json["usage"]) == (1, 1)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["RateLimit-Policy"] == '"address";q=9;w=60, "key";q=1;w=60'
    address, key = answer.headers["RateLimit"].split(", ")
    assert address.startswith('"address";r=7;t=')
    assert key == f'"key";r=0;t={answer.headers["Retry-After"]}'


def test_an_address_over_its_limit_is_refused_whatever_its_keys(
    client_of: MakeClient,
) -> None:
    client = client_of(address_requests_per_minute=4)
    assert statuses(3, client) == [404] * 3
    assert statuses(3, client, "key-of-bob") == [404, 429, 429]
    assert ask(client, address="192.0.2.2").status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/docs/"])
def test_watching_and_reading_is_not_counted(client_of: MakeClient, path: str) -> None:
    client = client_of(address_requests_per_minute=1)
    answers = [client.get(path, follow_redirects=True) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert not any("RateLimit" in answer.headers for answer in answers)


def test_keys_cannot_be_guessed_at_full_speed(client_of: MakeClient) -> None:
    client = client_of(address_failures_per_minute=10)
    guesses = [ask(client, f"guess-{number}").status_code for number in range(15)]
    assert guesses == [401] * 10 + [429] * 5
    # The right key does not show itself either.
    assert ask(client).status_code == 429
    assert ask(client, address="192.0.2.2").status_code == 404


def test_guesses_of_others_at_an_address_do_not_refuse_the_key_that_it_uses(
    client_of: MakeClient,
) -> None:
    client = client_of(address_failures_per_minute=3)
    assert ask(client).status_code == 404
    assert statuses(5, client, "wrong-key") == [401] * 3 + [429] * 2
    assert ask(client).status_code == 404


def test_guesses_stay_limited_without_redis(stack: Stack) -> None:
    settings = stack.settings(
        redis_url="redis://127.0.0.1:9/0",
        api_keys="ann:key-of-ann",
        address_failures_per_minute=10,
    )
    client = create_app(settings).test_client()
    # What does not look like a key of the service needs no look-up.
    assert statuses(5, client, "wrong-key") == [401] * 5
    well_formed = "rowcast_" + "a" * 32
    assert statuses(10, client, well_formed) == [503] * 5 + [429] * 5


def test_a_missing_key_is_not_a_guess(client_of: MakeClient) -> None:
    client = client_of(address_failures_per_minute=2)
    assert [client.get(UNKNOWN_JOB).status_code for _ in range(5)] == [401] * 5


def test_limits_of_0_do_not_exist(client_of: MakeClient) -> None:
    client = client_of(
        key_requests_per_minute=0,
        address_requests_per_minute=0,
        address_failures_per_minute=0,
    )
    assert set(statuses(100, client)) == {404}
    assert set(statuses(100, client, "wrong-key")) == {401}
    assert "RateLimit" not in ask(client).headers


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(
    remote: str | None, counted: str
) -> None:
    assert rate_limiting.address_of(remote) == counted
