"""Requests over one persistent connection, with little of the caller's own in the time that they
take."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """An answer, and the milliseconds from the first byte sent to the last one received."""

    status: int
    body: Any
    ms: float


class Caller:
    """A connection that is kept open; http.client sets TCP_NODELAY on it."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str = "application/json",
    ) -> Answer:
        """Return the answer to a request, whose body is JSON."""
        headers = {"Content-Type": kind} if body is not None else {}
        began = time.perf_counter()
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        ms = (time.perf_counter() - began) * 1000
        return Answer(response.status, json.loads(content), ms)


@contextmanager
def calling(url: str) -> Iterator[Caller]:
    """Connect to a service."""
    with closing(
        http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    ) as connection:
        yield Caller(connection)
