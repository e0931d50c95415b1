"""Pools of HTTP connections that do not trust a connection that has rested."""

from __future__ import annotations

import socket
import time
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ReadTimeoutError

from rowcast.redis_clients import STALE_AFTER_S

_READS = frozenset({"GET", "HEAD"})
# An old connection gets this part of the time of an answer, then a new one all of it.
_OLD_SHARE = 1 / 3
_MOST_OLD_S = 3.0

# Probes keep a firewall from forgetting a connection, and find one that is dead within 45 s.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
SOCKET_OPTIONS = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in _KEEPALIVE.items()
        if hasattr(socket, name)
    ),
]


class _FreshPool(urllib3.HTTPConnectionPool):
    """Closes connections that rested, and repeats a read that an old connection does not answer.

    A firewall may have forgotten the connection: then what is sent vanishes without an error.
    """

    stale_after_s = STALE_AFTER_S

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        now = time.monotonic()
        if now - getattr(connection, "released_at", now) > self.stale_after_s:
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.released_at = time.monotonic()
        super()._put_conn(conn)

    def _make_request(self, conn: Any, method: str, *args: Any, **options: Any) -> Any:
        if method not in _READS or conn.sock is None:
            return super()._make_request(conn, method, *args, **options)

        whole = options["timeout"]
        share_s = min(whole.read_timeout * _OLD_SHARE, _MOST_OLD_S)
        options["timeout"] = urllib3.Timeout(whole.connect_timeout, share_s)
        try:
            response = super()._make_request(conn, method, *args, **options)
        except ReadTimeoutError:
            conn.close()
            options["timeout"] = whole
            return super()._make_request(conn, method, *args, **options)

        if conn.sock is not None:
            conn.sock.settimeout(whole.read_timeout)
        return response


class _FreshTLSPool(_FreshPool, urllib3.HTTPSConnectionPool):
    """The same for HTTPS."""


class FreshPoolManager(urllib3.PoolManager):
    """Keeps pools of connections that are replaced when they have rested for long."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, socket_options=SOCKET_OPTIONS)
        self.pool_classes_by_scheme = {"http": _FreshPool, "https": _FreshTLSPool}
