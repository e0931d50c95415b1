"""A proxy that forgets its connections, as a firewall does: what they send vanishes."""

from __future__ import annotations

import select
import socket
import socketserver


class ForgetfulProxy(socketserver.ThreadingTCPServer):
    """Passes bytes on to a port of this machine, for connections that it has not forgotten."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.port = int(self.server_address[1])
        self.known: set[object] = set()
        self.n_accepted = 0

    def forget(self) -> None:
        """Pass nothing on any more for the connections of now, nor close them."""
        self.known.clear()


class _Handler(socketserver.BaseRequestHandler):
    server: ForgetfulProxy

    def handle(self) -> None:
        self.server.known.add(self)
        self.server.n_accepted += 1
        with socket.create_connection(("127.0.0.1", self.server.target)) as it:
            ends = {self.request: it, it: self.request}
            while True:
                for source in select.select(list(ends), [], [])[0]:
                    data = source.recv(1 << 16)
                    if not data and source is self.request:
                        return
                    if self not in self.server.known:
                        self.swallow()
                        return
                    if not data:
                        return
                    ends[source].sendall(data)

    def swallow(self) -> None:
        """Read what the client sends until it closes the connection."""
        while self.request.recv(1 << 16):
            pass
