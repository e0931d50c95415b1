"""Which hosts, pages and proxies are believed, and the headers that browsers obey."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import flask
import pytest
import requests
from flask.testing import FlaskClient

from rowcast.api import headers
from rowcast.api.origins import TrustedProxies
from rowcast.config import Settings
from server import create_app
from tests.support.callers import answer_of, connected
from tests.support.http import UNKNOWN, assert_problem
from tests.support.stack import Stack

PROXY = "10.1.2.3"
CALLER = "203.0.113.7"


@pytest.fixture(scope="module")
def browser() -> Iterator[FlaskClient]:
    """Return a client of an application that has no parts behind it."""
    settings = Settings(
        s3_access_key="access",
        s3_secret_key="secret-key",
        internal_hosts="server",
        trusted_hosts="rowcast.example.org,.intern.example.org",
    )
    with create_app(settings).test_client() as client:
        yield client


@pytest.mark.parametrize(
    "host",
    [
        "localhost:8080",
        "LOCALHOST",
        "127.0.0.1:8080",
        "[::1]:8080",
        "192.168.7.3",
        "rowcast.example.org",
        "a.intern.example.org:443",
        "server:8080",
        socket.gethostname(),
    ],
)
def test_the_servers_own_names_and_all_addresses_are_trusted(
    browser: FlaskClient, host: str
) -> None:
    assert browser.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "rowcast.example.org.evil.example",
        "evilserver",
        "127.0.0.1.evil.example",
        "2130706433",
    ],
)
def test_another_host_is_refused_with_the_setting_to_change(
    browser: FlaskClient, host: str
) -> None:
    answer = browser.get("/healthz", headers={"Host": host})
    assert answer.status_code == 400
    problem = answer.get_json()
    assert problem["code"] == "untrusted_host"
    assert "TRUSTED_HOSTS" in problem["hint"]


@pytest.mark.parametrize("host", ["", "a b", "user@localhost", "localhost:99999999"])
def test_what_is_no_host_is_refused(stack: Stack, host: str) -> None:
    with connected(stack, 1) as callers:
        callers[0].sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer_of(callers[0])[0] == 400


@pytest.mark.parametrize(
    "given",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/fit"),
        ("POST", "/cancel"),
        ("DELETE", "/models/1"),
        ("GET", "/upload"),
    ],
)
def test_a_page_of_another_site_changes_nothing(
    browser: FlaskClient, method: str, path: str, given: dict[str, str]
) -> None:
    answer = browser.open(path, method=method, headers=given)
    assert (answer.status_code, answer.get_json()["code"]) == (
        403,
        "cross_site_request",
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost"},
        {"Origin": "https://localhost"},
    ],
)
def test_programs_and_own_pages_may_change_things(
    browser: FlaskClient, given: dict[str, str]
) -> None:
    # It lacks an id, which is found out after the check of the origin.
    answer = browser.post("/fit", headers=given)
    assert answer.get_json()["code"] == "invalid_request"


def test_other_sites_may_link_to_what_changes_nothing(browser: FlaskClient) -> None:
    answer = browser.get("/healthz", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200


def seen_by(
    peer: str, forwarded: dict[str, str], networks: list[str]
) -> tuple[str, str]:
    """Return the address and the scheme that an application sees."""
    app = flask.Flask("seen")
    app.add_url_rule(
        "/", view_func=lambda: [flask.request.remote_addr, flask.request.scheme]
    )
    app.wsgi_app = TrustedProxies(app.wsgi_app, networks)  # type: ignore[method-assign,assignment]
    found = app.test_client().get(
        "/", headers=forwarded, environ_base={"REMOTE_ADDR": peer}
    )
    address, scheme = found.get_json()
    return address, scheme


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        (PROXY, CALLER, CALLER),
        (PROXY, f"198.51.100.1, {CALLER}", CALLER),
        (PROXY, f"198.51.100.1, {CALLER}, 10.9.9.9", CALLER),
        (PROXY, "2001:db8::7", "2001:db8::7"),
        (PROXY, "nonsense", PROXY),
        (PROXY, "", PROXY),
        (CALLER, "198.51.100.1", CALLER),
    ],
)
def test_only_proxies_say_for_whom_they_speak(
    peer: str, forwarded_for: str, address: str
) -> None:
    forwarded = {"X-Forwarded-For": forwarded_for, "X-Forwarded-Proto": "https"}
    scheme = "https" if peer == PROXY else "http"
    assert seen_by(peer, forwarded, ["10.0.0.0/8"]) == (address, scheme)


@pytest.mark.parametrize(
    "header",
    ["SCRIPT_NAME: /healthz", "X-Forwarded-Proto: https", "Path_Info: /upload"],
)
def test_no_header_changes_the_path_or_the_scheme(stack: Stack, header: str) -> None:
    request = f"GET /docs HTTP/1.1\r\nHost: localhost\r\n{header}\r\nConnection: close\r\n\r\n"
    with connected(stack, 1) as callers:
        callers[0].sendall(request.encode())
        head = callers[0].recv(4096)
    assert b"\r\nLocation: /docs/\r\n" in head


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/upload", "no-store"),
        ("/jobs", "no-store"),
        (f"/status?id={UNKNOWN}", "no-store"),
        ("/nothing", "no-store"),
        ("/openapi.json", "no-store"),
        ("/client.py", "no-cache"),
        ("/docs/swagger/js/swagger-ui-bundle.js", "no-cache"),
    ],
)
def test_every_answer_has_the_headers_that_browsers_obey(
    stack: Stack, path: str, kept: str
) -> None:
    found = stack.get(path).headers
    for name, value in headers.ALWAYS:
        assert found[name] == value
    assert found["Content-Security-Policy"].startswith("default-src 'none'; frame-")
    assert found["Cache-Control"] == kept


def test_what_the_application_never_sees_has_them_too(stack: Stack) -> None:
    with connected(stack, 1) as callers:
        callers[0].sendall(b"nonsense\r\n\r\n")
        status, found, _ = answer_of(callers[0])
    assert status == 400
    for name, value in (*headers.ALWAYS, *headers.DEFAULTS):
        assert found[name.lower()] == value


def test_the_page_of_the_documentation_may_run_only_what_is_written_in_it(
    stack: Stack,
) -> None:
    page = stack.get("/docs/swagger")
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    n_inline = len(re.findall(r"<(?:script|style)>", page.text))
    assert policy.count("'sha256-") == n_inline >= 2
    assert headers.policy_of(page.content.replace(b"window", b"evil")) != policy


def test_redirects_are_relative(stack: Stack) -> None:
    answer = requests.get(stack.url + "/docs", allow_redirects=False, timeout=20)
    assert answer.headers["Location"] == "/docs/"


def test_a_refusal_of_a_host_is_a_problem(stack: Stack) -> None:
    answer = requests.get(
        stack.url + "/healthz", headers={"Host": "evil.example"}, timeout=20
    )
    assert_problem(answer, 400, "untrusted_host")
