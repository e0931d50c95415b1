"""Callers with a bare connection, for what no library does: fall silent, drip, never read."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.support.stack import Stack


def connect(stack: Stack, receive_buffer: int = 0) -> socket.socket:
    host, port = urlsplit(stack.url).netloc.split(":")
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(30)
    connection.connect((host, int(port)))
    return connection


@contextmanager
def connected(
    stack: Stack, n_callers: int, receive_buffer: int = 0
) -> Iterator[list[socket.socket]]:
    """Give as many connections, which are closed at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with ExitStack() as held:
        yield [
            held.enter_context(connect(stack, receive_buffer)) for _ in range(n_callers)
        ]


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Read one answer; return its status, its headers in lower case and its JSON."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, head
        head += piece
    line, *fields = head.decode().split("\r\n")[:-2]
    headers = {
        name.lower(): value.strip()
        for name, _, value in (field.partition(":") for field in fields)
    }
    body = b""
    while len(body) < int(headers["content-length"]):
        body += connection.recv(int(headers["content-length"]) - len(body))
    return int(line.split()[1]), headers, json.loads(body)
