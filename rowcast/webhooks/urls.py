"""Which URLs a webhook may be sent to, and at which addresses."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from rowcast.config import Settings
from rowcast.errors import InvalidRequest
from rowcast.webhooks import signatures

_URL = re.compile(r"(https?)://([^/?#]*)(/[^?#]*)?(\?[^#]*)?(#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]+))?", re.IGNORECASE)
_NO_URL_TEXT = re.compile(r"[^!-~]|\\")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# Resolvers read 0x7f.1, 127.1 and 2130706433 as addresses; no name ends in a number.
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_MOST_CHARACTERS = 2000

# Addresses that the internet does not reach, or that are not those of one receiver: IANA's
# registries of special-purpose addresses (RFC 6890), and Azure's address for its own machines.
_PRIVATE_IPV4 = [
    ipaddress.IPv4Network("0.0.0.0/8"),  # this network
    ipaddress.IPv4Network("10.0.0.0/8"),  # private use
    ipaddress.IPv4Network("100.64.0.0/10"),  # behind a provider's NAT
    ipaddress.IPv4Network("127.0.0.0/8"),  # loopback
    ipaddress.IPv4Network("169.254.0.0/16"),  # link-local, with the clouds' metadata
    ipaddress.IPv4Network("172.16.0.0/12"),  # private use
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocols
    ipaddress.IPv4Network("192.0.2.0/24"),  # examples
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays
    ipaddress.IPv4Network("192.168.0.0/16"),  # private use
    ipaddress.IPv4Network("198.18.0.0/15"),  # measurements
    ipaddress.IPv4Network("198.51.100.0/24"),  # examples
    ipaddress.IPv4Network("203.0.113.0/24"),  # examples
    ipaddress.IPv4Network("224.0.0.0/3"),  # multicast, reserved, broadcast
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's services for its machines
]
# Of IPv6 only the global addresses are public, except these.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_PRIVATE_IPV6 = [
    ipaddress.IPv6Network("2001::/23"),  # protocols, such as Teredo
    ipaddress.IPv6Network("2001:db8::/32"),  # examples
    ipaddress.IPv6Network("2002::/16"),  # 6to4
    ipaddress.IPv6Network("3fff::/20"),  # examples
]
# In a network without IPv4 these stand for IPv4 addresses, in their last 32 bits (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Target:
    """A URL in parts: `host` has no brackets, `path` includes the query."""

    is_tls: bool
    authority: str
    host: str
    port: int
    path: str


class PrivateAddress(OSError):
    """A name resolves to a private address."""


def check(url: str, settings: Settings, owner: str) -> None:
    """Check a `callback_url` before its job is made, without asking a name server.

    Raises:
        InvalidRequest: the URL is malformed or leads to a private address, or no secret would sign
            the webhook.
    """
    target = parse(url)
    if not settings.webhook_allow_private and _is_private_host(target.host):
        problem = "callback_url must not lead to a private address."
        hint = (
            "Name a host that the internet reaches, or ask the operator to set "
            "WEBHOOK_ALLOW_PRIVATE=true."
        )
        raise InvalidRequest(problem, hint=hint, errors=[problem])
    if not signatures.secrets_of(owner, settings):
        problem = "callback_url cannot be used: this service has no secret to sign webhooks with."
        hint = "Leave callback_url out, or ask the operator to set WEBHOOK_SECRETS."
        raise InvalidRequest(problem, hint=hint, errors=[problem])


def parse(url: str) -> Target:
    """Split a URL into its parts.

    Raises:
        InvalidRequest: with every problem; none quotes the URL, which may contain a secret.
    """
    problems = [f"callback_url {problem}." for problem in _problems(url)]
    if problems:
        raise InvalidRequest(" ".join(problems), errors=problems)
    scheme, authority, path, query, _ = _match(_URL, url)
    host, port = _match(_AUTHORITY, authority)
    is_tls = scheme.lower() == "https"
    default_port = 443 if is_tls else 80
    return Target(
        is_tls=is_tls,
        authority=authority,
        host=host.lower().strip("[]").removesuffix("."),
        port=int(port or default_port),
        path=(path or "/") + query,
    )


def host_in(url: str) -> str:
    """Return the part of a URL that a log may show; its path or query may contain a secret."""
    authority = _match(_URL, url)[1]
    return _match(_AUTHORITY, authority)[0]


def resolve(target: Target, settings: Settings) -> list[str]:
    """Return the first IPv4 and the first IPv6 address of a host, in the system's order.

    Raises:
        PrivateAddress: one of the host's addresses is private.
        OSError: the host has no address.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in found]
    if not settings.webhook_allow_private and not all(map(is_public, addresses)):
        raise PrivateAddress
    first_of_each = {":" in address: address for address in reversed(addresses)}
    return sorted(first_of_each.values(), key=addresses.index)


def is_public(address: str) -> bool:
    """Return whether an address belongs to the internet and to one machine there."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _PRIVATE_IPV4)
    if found in _NAT64:
        return is_public(str(ipaddress.IPv4Address(found.packed[-4:])))
    is_private = any(found in network for network in _PRIVATE_IPV6)
    return found in _GLOBAL_IPV6 and not is_private


def _is_private_host(host: str) -> bool:
    """Return whether a host is private as far as its text shows."""
    if _address_of(host):
        return not is_public(host)
    return f".{host}".endswith((".localhost", ".localhost.localdomain"))


def _match(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    """Return the groups of a match, all of them empty if there is none."""
    found = pattern.fullmatch(text)
    return found.groups("") if found else ("",) * pattern.groups


def _problems(url: str) -> Iterator[str]:
    scheme, authority, _, _, fragment = _match(_URL, url)
    host, port = _match(_AUTHORITY, authority)
    if len(url) > _MOST_CHARACTERS:
        yield f"must have at most {_MOST_CHARACTERS} characters"
    if _NO_URL_TEXT.search(url):
        yield (
            "must be ASCII without spaces and backslashes; write other characters as %XX, "
            "and a name in Punycode"
        )
    elif not scheme:
        yield "must begin with https:// or http://"
    elif "@" in authority:
        yield "must not contain a user or a password; put a secret into its path"
    elif not _is_host(host.lower()):
        yield "must have a host: a name, four decimal numbers or an IPv6 address in brackets"
    if port and not 1 <= int(port) <= 65_535:
        yield "must have a port from 1 to 65535"
    if fragment:
        yield "must not contain a fragment, which is never sent"


def _is_host(host: str) -> bool:
    if host.startswith("["):
        return ":" in host and _address_of(host.strip("[]")) is not None
    name = host.removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _address_of(name) is not None
    return len(name) <= 253 and all(map(_LABEL.fullmatch, labels))


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
