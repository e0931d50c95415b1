"""JSON messages over a Unix socket between two processes of a machine."""

from __future__ import annotations

import json
import socket
import struct
from multiprocessing.connection import Connection
from typing import Any

# What a message of another version, or of a process that went wrong, may raise.
MALFORMED = (ValueError, KeyError, TypeError, RecursionError)
# What a side that died or fell silent raises, as well.
LOST = (EOFError, OSError, *MALFORMED)


def connection_of(connected: socket.socket, silence_s: float) -> Connection:
    """Return a connected socket as a connection; a single read or write waits `silence_s`.

    The limit is the kernel's, because it must hold for messages of which only a part came.
    """
    limit = struct.pack("@ll", int(silence_s), int(silence_s % 1 * 1e6))
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    return Connection(connected.detach())


def send(connection: Connection, message: dict[str, Any]) -> None:
    """Send a message. Raises OSError if nobody reads it."""
    connection.send_bytes(json.dumps(message).encode())


def receive(connection: Connection, max_bytes: int | None = None) -> Any:
    """Return the next message, of at most `max_bytes`.

    Raises:
        EOFError, OSError: the other side died, fell silent or sent too much.
        ValueError, RecursionError: this is not JSON.
    """
    return json.loads(connection.recv_bytes(max_bytes))
