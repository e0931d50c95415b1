"""Where a request comes from: the host that it names, its browser's page, its proxy.

A page of another site can make a browser send requests here. By DNS rebinding it can even do so
under a host name of its own that leads here, which the browser then takes for the same origin.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import flask
from werkzeug.sansio.utils import host_is_trusted

from rowcast import errors
from rowcast.config import Settings

_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# A GET that makes something: an id.
_CHANGING_PATHS = frozenset({"/upload"})
_SAME_SITE = frozenset({"same-origin", "none"})
_LOOPBACK_NAMES = ("localhost", ".localhost")
_DISTINCT_HOSTS = 256

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]


class TrustedHosts:
    """The host names by which this server may be called; addresses always are.

    No name leads to an address in a URL, so DNS rebinding is impossible there.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the names from the settings, and add loopback and the machine's own name."""
        bound = settings.bind.rpartition(":")[0].strip("[]")
        own = (*_LOOPBACK_NAMES, socket.gethostname().lower(), bound)
        self._names = (*own, *settings.internal_hosts, *settings.trusted_hosts)
        self._is_trusted = lru_cache(_DISTINCT_HOSTS)(self._look_up)

    def check(self, request: flask.Request) -> None:
        """Check the Host header of a request.

        Raises:
            UntrustedHost: it names a host that is not this server's.
        """
        host = request.environ.get("HTTP_HOST")
        if host is not None and not self._is_trusted(host):
            raise errors.UntrustedHost(f"This server is not known as {host[:200]!r}.")

    def _look_up(self, host: str) -> bool:
        if not host_is_trusted(host):
            return False
        name = urlsplit(f"//{host}").hostname or ""
        return _is_address(name) or host_is_trusted(name, self._names)


def check_site(request: flask.Request) -> None:
    """Check that no page of another site makes a browser change something here.

    Raises:
        CrossSiteRequest: one does.
    """
    if request.method not in _CHANGING and request.path not in _CHANGING_PATHS:
        return
    headers = request.environ
    # Browsers send it to HTTPS and loopback, and pages cannot set it.
    site = headers.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        is_own = site in _SAME_SITE
    else:
        origin = headers.get("HTTP_ORIGIN")
        is_own = origin is None or _host_of(origin) == headers.get("HTTP_HOST")
    if not is_own:
        raise errors.CrossSiteRequest("A page of another site sent this request.")


class TrustedProxies:
    """A WSGI application behind proxies, which are the only ones that may speak for others."""

    def __init__(self, wsgi: Wsgi, networks: Iterable[str]) -> None:
        """Serve `wsgi`; `networks` are those of the proxies."""
        self._wsgi = wsgi
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def __call__(self, environ: Environ, start: Any) -> Iterable[bytes]:
        """Replace the proxy's address and scheme by those of the caller."""
        if self._is_proxy(environ.get("REMOTE_ADDR", "")):
            environ["REMOTE_ADDR"] = self._caller_of(environ)
            scheme = environ.get("HTTP_X_FORWARDED_PROTO")
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
        return self._wsgi(environ, start)

    def _caller_of(self, environ: Environ) -> str:
        """Return the last address in X-Forwarded-For that is not a proxy's.

        Each proxy appends the address that it was called from. What is further left may be made up
        by the caller.
        """
        caller: str = environ["REMOTE_ADDR"]
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        for address in (part.strip() for part in reversed(forwarded)):
            if not _is_address(address):
                break
            caller = address
            if not self._is_proxy(address):
                break
        return caller

    def _is_proxy(self, address: str) -> bool:
        if not _is_address(address):
            return False
        found = ipaddress.ip_address(address)
        return any(found in network for network in self._networks)


def _host_of(origin: str) -> str:
    return origin.partition("://")[2]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
