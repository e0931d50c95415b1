"""A callback_url must be well-formed and lead to the internet."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from rowcast.errors import InvalidRequest
from rowcast.webhooks import urls
from tests.support.webhooks import (
    SECRET,
    settings,
)

PRIVATE = [
    "http://localhost",
    "http://LOCALHOST.:8000/hook",
    "http://hook.localhost/",
    "http://localhost.localdomain/",
    "http://127.0.0.1",
    "http://127.8.8.8:80/",
    "http://127.0.0.1./",
    "http://0.0.0.0",
    "http://10.1.2.3",
    "http://100.64.0.1",
    "http://169.254.169.254/latest/meta-data",
    "http://172.16.0.1",
    "http://172.31.255.255",
    "http://192.0.0.192",
    "http://192.168.1.1",
    "http://198.18.0.1",
    "http://224.0.0.1",
    "http://255.255.255.255",
    "http://168.63.129.16",
    "http://[::]",
    "http://[::1]",
    "http://[0:0:0:0:0:0:0:1]:8000/",
    "http://[::127.0.0.1]",
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:7f00:1]",
    "http://[64:ff9b::127.0.0.1]",
    "http://[64:ff9b::a9fe:a9fe]",
    "http://[64:ff9b:1::1]",
    "http://[2002:7f00:1::]",
    "http://[2001::1]",
    "http://[2001:db8::1]",
    "http://[fd00::]",
    "http://[fd00:ec2::254]",
    "http://[fe80::1]",
    "http://[fec0::1]",
    "http://[ff02::1]",
]


PUBLIC = [
    "https://example.org",
    "https://example.org:8443/hook?token=x",
    "http://sub.example-of_names.org./",
    "https://xn--bcher-kva.example/",
    "HTTPS://EXAMPLE.ORG/",
    "http://93.184.216.34/",
    "http://172.32.0.1",
    "http://[2606:4700:4700::1111]/",
    "http://[64:ff9b::5db8:d822]/",
    "https://example.org/" + "x" * 1980,
]


MALFORMED = [
    "",
    "example.org",
    "ftp://example.org",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://",
    "http:///path",
    "http://:80",
    "https://user@example.org",
    "https://user:password@example.org",
    "https://example.org@127.0.0.1",
    "https://example.org\\@127.0.0.1/",
    "https://example.org#fragment",
    "https://example.org:0",
    "https://example.org:65536",
    "https://example.org:",
    "https://example.org:http",
    "https://exa mple.org",
    "https://example.org/\r\nHost: 127.0.0.1",
    "https://example.org/a\tb",
    "https://b\u00fccher.example",
    "https://\uff11\uff12\uff17.0.0.1",
    "https://-example.org",
    "https://example..org",
    "https://" + "a." * 127 + "org",
    "https://" + "a" * 64 + ".org",
    "https://example.org/" + "x" * 1981,
    "http://0x7f.1",
    "http://0x7f000001",
    "http://0177.0.0.1",
    "http://127.1",
    "http://127.0.0.1.1",
    "http://2130706433",
    "http://2130706433.",
    "http://127.0.0.0x1",
    "http://256.1.1.1",
    "http://[127.0.0.1]",
    "http://[::1",
    "http://[::1]x",
    "http://[fe80::1%25eth0]",
    "http://::1/",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_private_address_is_refused_unless_allowed(url: str) -> None:
    problem = r"^callback_url must not lead to a private address\.$"
    with pytest.raises(InvalidRequest, match=problem):
        urls.check(url, settings(webhook_allow_private=False), "acme")
    urls.check(url, settings(), "acme")


@pytest.mark.parametrize("url", PUBLIC)
def test_public_url_is_accepted(url: str) -> None:
    urls.check(url, settings(webhook_allow_private=False), "acme")


@pytest.mark.parametrize("url", MALFORMED)
@pytest.mark.parametrize("allow_private", [True, False])
def test_malformed_url_is_refused(url: str, allow_private: bool) -> None:
    with pytest.raises(InvalidRequest, match=r"^callback_url must "):
        urls.check(url, settings(webhook_allow_private=allow_private), "acme")


def test_every_problem_is_listed_without_quoting_the_url() -> None:
    url = "https://user:THESECRET@example.org?THESECRET#THESECRET"
    with pytest.raises(InvalidRequest) as caught:
        urls.check(url, settings(), "acme")
    assert len(caught.value.errors) == 2
    assert "THESECRET" not in f"{caught.value.cause()}"


@pytest.mark.parametrize("secrets", ["", f"other:{SECRET}"])
def test_url_is_refused_while_no_secret_would_sign(secrets: str) -> None:
    with pytest.raises(InvalidRequest, match="no secret to sign") as caught:
        urls.check("https://example.org", settings(webhook_secrets=secrets), "acme")
    assert "WEBHOOK_SECRETS" in caught.value.hint


def test_check_asks_no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    urls.check("https://example.org", settings(webhook_allow_private=False), "acme")
