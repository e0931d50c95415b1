"""A caller's connection: what has arrived of its request, and what is left to send.

A thread of the server never waits for a caller. It gets a request once its head has arrived. If the
body is not there when the key was checked, it gets the request a second time, once the body has
arrived. What a caller does not take immediately of its answer is kept here. The waiting is the main
loop's, in gunicorn_worker.py.
"""

from __future__ import annotations

import io
import os
import re
import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn

# Bytes of a request's line and headers.
MAX_HEAD_BYTES = 65_536
# Seconds for the head of a request; also the grace for a body or an answer, before their rate
# counts.
GRACE_S = 10.0
# The least mean rate, after that, at which a body arrives and an answer is taken.
LEAST_BYTES_PER_S = 10_000
# The largest body that the thread of a request reads itself, if it has arrived.
SMALL_BODY_BYTES = 65_536
_HEAD_ENDS = (b"\r\n\r\n", b"\n\n")
_LONGEST_HEAD_END = 4
_CHUNK_SIZE_LINE_BYTES = 100
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;|$)")


class BodyAwaited(BaseException):
    """The body of a request has not arrived yet; no `except Exception` shall catch this."""

    def __init__(self, owner: str, most_bytes: int) -> None:
        """Remember whose body it is, and how many bytes it may have."""
        super().__init__()
        self.owner = owner
        self.most_bytes = most_bytes


class CallerSocket(socket.socket):
    """A socket on which no thread waits: it reads what is there, and keeps what cannot be sent."""

    def __init__(self, accepted: socket.socket) -> None:
        """Take over an accepted socket."""
        family, kind, proto = accepted.family, accepted.type, accepted.proto
        super().__init__(family, kind, proto, accepted.detach())
        super().setblocking(False)
        self.unsent = bytearray()
        self.n_sent = 0
        self.parser: Parser | None = None

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return what has arrived.

        Raises:
            TimeoutError: nothing has.
        """
        try:
            return super().recv(bufsize, flags)
        except BlockingIOError:
            if flags:
                raise
            raise TimeoutError("the caller has sent nothing more") from None

    def setblocking(self, flag: bool, /) -> None:
        """Change nothing: gunicorn asks for a socket to wait on, and nobody waits on this one."""

    def settimeout(self, value: float | None, /) -> None:
        """Change nothing, as `setblocking`."""

    def sendall(self, data: Any, flags: int = 0, /) -> None:  # noqa: ARG002 - as in socket
        """Send what the caller takes now, and keep the rest."""
        if self.unsent:
            self.unsent += data
            self.flush()
            return
        n_sent = self._send(data)
        if n_sent < len(data):
            self.unsent += memoryview(data)[n_sent:]

    def flush(self) -> bool:
        """Send more of what was kept; return whether all is sent."""
        while self.unsent:
            n_sent = self._send(self.unsent)
            if not n_sent:
                return False
            del self.unsent[:n_sent]
        return True

    def _send(self, data: Any) -> int:
        try:
            n_sent = self.send(data)
        except BlockingIOError:
            return 0
        self.n_sent += n_sent
        return n_sent


class Parser(RequestParser):  # type: ignore[misc]
    """A parser that gives a request again whose body has arrived in the meantime."""

    is_again = False
    expects_continue = False

    def __init__(self, *args: Any) -> None:
        """Begin without a request. `notes` outlive the wait of a request for its body."""
        super().__init__(*args)
        self.notes: dict[str, Any] = {}

    def __next__(self) -> Any:
        """Return the next request, or the one that waited for its body."""
        if self.is_again:
            self.is_again = False
            return self.mesg
        self.notes = {}
        request = super().__next__()
        # Gunicorn would ask for the body before anybody has looked at the key.
        self.expects_continue = request._expected_100_continue
        request._expected_100_continue = False
        return request

    def body_has_arrived(self) -> bool:
        """Return whether the rest of the request's body can be read without waiting."""
        reader = getattr(self.mesg.body, "reader", None)
        if isinstance(reader, LengthReader):
            return bool(len(self.unreader.buf.getbuffer()) >= reader.length)
        if isinstance(reader, ChunkedReader):
            return (
                reader.parser is None or chunks_end(self.unreader.buf.getvalue(), 0)[0]
            )
        return True

    def await_body(self, owner: str, most_bytes: int) -> None:
        """Go on only if the body of the request has arrived.

        Raises:
            BodyAwaited: it has not. The request comes again when it has.
        """
        if not self.body_has_arrived():
            self._read_small_body()
        if not self.body_has_arrived():
            raise BodyAwaited(owner, most_bytes)

    def _read_small_body(self) -> None:
        """Read what is there of a small body, without waiting.

        Most callers send head and body in two packets, and the second one has arrived by the time
        that the key was checked. To come again would cost such a request more than all checks.
        """
        reader = getattr(self.mesg.body, "reader", None)
        if not isinstance(reader, LengthReader):
            return
        buffer = self.unreader.buf
        n_missing = reader.length - len(buffer.getbuffer())
        if n_missing > SMALL_BODY_BYTES:
            return
        # The main loop meets the end of a connection, or an error, again.
        with suppress(OSError):
            arrived = self.unreader.sock.recv(n_missing)
            buffer.seek(0, os.SEEK_END)
            buffer.write(arrived)


class Connection(TConn):  # type: ignore[misc]
    """A connection, the bytes that no request has taken yet, and the time it has for more."""

    def __init__(self, cfg: Any, accepted: Any, client: Any, server: Any) -> None:
        """Take over an accepted connection."""
        super().__init__(cfg, CallerSocket(accepted), client, server)
        self.parser = self.sock.parser = Parser(cfg, self.sock, client)
        # What gunicorn would do and wait for in a thread.
        self.initialized = self.data_ready = True
        self.received = bytearray()
        self.began_at = time.monotonic()
        self.deadline = 0.0
        self.is_kept = False
        self.n_ignored = 0
        self.body: BodyAwaited | None = None
        self._searched_to = 0

    @property
    def address(self) -> str:
        """The address at the other end."""
        return self.client[0] if isinstance(self.client, tuple) else str(self.client)

    @property
    def is_idle(self) -> bool:
        """Whether the connection is between two requests."""
        return not (self.received or self.body or self.sock.unsent)

    def begin(self) -> None:
        """Begin with the next request, of which some bytes may be there already."""
        self.received = bytearray(self.parser.unreader.take_buffered())
        self.began_at = time.monotonic()
        self._searched_to = 0

    def receive(self, most_bytes: int) -> int:
        """Add what has arrived to `received`; return its length, 0 at the end of the connection.

        Raises:
            TimeoutError: nothing has arrived.
        """
        data = self.sock.recv(most_bytes)
        self.received += data
        return len(data)

    def hand_over(self) -> None:
        """Give what was received to the parser."""
        self.parser.unreader.unread(bytes(self.received))
        self.received = bytearray()

    def head_has_arrived(self) -> bool:
        """Return whether the head of a request has arrived, or what can never be one."""
        start = max(0, self._searched_to - _LONGEST_HEAD_END)
        self._searched_to = len(self.received)
        return any(self.received.find(end, start) >= 0 for end in _HEAD_ENDS)

    def begin_sending(self) -> None:
        """Begin to send what is left of an answer."""
        self.began_at = time.monotonic()
        self.sock.n_sent = 0

    def begin_body(self, awaited: BodyAwaited) -> None:
        """Begin to collect the body of the request that the parser has read."""
        self.begin()
        self.body = awaited

    def ask_for_body(self) -> None:
        """Tell a caller that waits for it that the body is wanted."""
        if self.parser.expects_continue:
            self.parser.expects_continue = False
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def body_has_arrived(self) -> bool:
        """Return whether the whole body is in `received`, or more than it may have."""
        reader = self.parser.mesg.body.reader
        if isinstance(reader, LengthReader):
            return bool(len(self.received) >= reader.length)
        is_over, self._searched_to = chunks_end(self.received, self._searched_to)
        most_bytes = self.body.most_bytes if self.body else 0
        return is_over or len(self.received) > most_bytes

    def hand_over_body(self) -> None:
        """Give the body to the request, and what follows it to the parser."""
        reader = self.parser.mesg.body.reader
        if isinstance(reader, LengthReader):
            # Gunicorn would copy all that is left of the body with every piece that is read.
            self.parser.mesg.body = io.BytesIO(
                memoryview(self.received)[: reader.length]
            )
            self.received = self.received[reader.length :]
        self.hand_over()
        self.parser.is_again = True


def chunks_end(data: bytes | bytearray, position: int) -> tuple[bool, int]:
    """Return whether chunks end in `data`, or are malformed, and where to look on when more comes.

    `position`: where the line with the size of a chunk begins (RFC 9112, section 7.1).
    """
    while True:
        end = data.find(b"\r\n", position)
        if end < 0:
            return len(data) - position > _CHUNK_SIZE_LINE_BYTES, position
        found = _CHUNK_SIZE.match(data, position, end)
        if not found:
            return True, position
        size = int(found[1], 16)
        if size == 0:
            # The trailers, if any, end with an empty line.
            return data.find(b"\r\n\r\n", end) >= 0, position
        if end + 2 + size > len(data):
            return False, position
        position = end + 2 + size + 2
