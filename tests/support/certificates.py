"""Certificates of an authority of our own, for services on loopback."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trustme

_CHUNK_BYTES = 65_536


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: the authority that callers trust, and what a service shows."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def made_in(cls, folder: Path) -> Certificates:
        authority = trustme.CA()
        shown = authority.issue_cert("127.0.0.1", "localhost")
        made = cls(folder / "authority.pem", folder / "cert.pem", folder / "key.pem")
        authority.cert_pem.write_to_path(str(made.authority))
        shown.private_key_pem.write_to_path(str(made.key))
        chain = b"".join(part.bytes() for part in shown.cert_chain_pems)
        made.certificate.write_bytes(chain)
        return made


@contextmanager
def tls_before(service: Path, certificates: Certificates) -> Iterator[int]:
    """Terminate TLS on a port of loopback, which is yielded, for a service on a Unix socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(
            target=_accept, args=(listener, context, service), daemon=True
        )
        accepting.start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, context: ssl.SSLContext, service: Path) -> None:
    with suppress(OSError):
        while True:
            caller, _ = listener.accept()
            arguments = (caller, context, service)
            threading.Thread(target=_serve, args=arguments, daemon=True).start()


def _serve(caller: socket.socket, context: ssl.SSLContext, service: Path) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as inside:
        inside.connect(str(service))
        with context.wrap_socket(caller, server_side=True) as outside:
            _pass_on(outside, inside)


def _pass_on(outside: ssl.SSLSocket, inside: socket.socket) -> None:
    """Pass bytes on in both directions until one side closes."""
    while True:
        # What is decrypted already does not make the socket readable.
        ready: list[socket.socket] = [outside] if outside.pending() else []
        if not ready:
            ready, _, _ = select.select([outside, inside], [], [])
        for source in ready:
            content = source.recv(_CHUNK_BYTES)
            if not content:
                return
            (inside if source is outside else outside).sendall(content)
