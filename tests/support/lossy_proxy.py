"""A proxy in front of a real service that loses answers."""

from __future__ import annotations

import re
import socket
import socketserver
from urllib.parse import urlsplit


class LossyProxy(socketserver.ThreadingTCPServer):
    """Passes requests on, one a connection; `to_lose` counts the answers to lose, by request."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), LossyHandler)
        self.service = ("127.0.0.1", urlsplit(url).port)
        self.to_lose: dict[str, int] = {}
        self.passed_on: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class LossyHandler(socketserver.StreamRequestHandler):
    """Passes on the bytes of a request, and those of its answer unless it is to be lost."""

    server: LossyProxy

    def handle(self) -> None:
        head = self.read_head()
        if not head:
            return
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = self.rfile.read(int(length[1])) if length else b""
        answer = self.ask(head[:-2] + b"Connection: close\r\n\r\n" + body)

        start = head.split(b"?")[0].split(b" HTTP/")[0].decode()
        self.server.passed_on.append(start)
        if self.server.to_lose.get(start, 0) > 0:
            self.server.to_lose[start] -= 1
        else:
            self.wfile.write(answer)

    def read_head(self) -> bytes:
        """Return the head of the request without its Connection header; empty at the end."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return b""
            if not line.lower().startswith(b"connection:"):
                head += line
        return head

    def ask(self, request: bytes) -> bytes:
        with socket.create_connection(self.server.service, 60) as upstream:
            upstream.sendall(request)
            return b"".join(iter(lambda: upstream.recv(65536), b""))
