"""Real faults: processes that are stopped or killed, and a store whose answers are held back."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

import psutil


def kill(*processes: psutil.Process) -> None:
    """Kill processes, whatever they do."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def stopped(*processes: psutil.Process) -> Iterator[None]:
    """Stop processes: they keep their connections and never answer, which is worse than a death."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        resume(*processes)


def resume(*processes: psutil.Process) -> None:
    """Let stopped processes continue."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs, or is stopped."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


class Gate:
    """A proxy of a port that can hold back one request, or the answer to one.

    It looks for given bytes in what a client sends, and holds these or the answer until `open`.
    """

    def __init__(self, target: int) -> None:
        """Listen on a free port, and pass everything on to the port `target` of this machine."""
        self.target = target
        self.is_held = threading.Event()
        self._open = threading.Event()
        self._asked = self._answered = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, *, asked: bytes = b"", answered_to: bytes = b"") -> None:
        """Hold back the next request with these bytes, or the rest of the answer to one."""
        self.is_held.clear()
        self._open.clear()
        self._asked, self._answered = asked, answered_to

    def open(self) -> None:
        """Pass on what is held, and everything that follows."""
        self._asked = self._answered = b""
        self._open.set()

    def close(self) -> None:
        """Accept no more connections."""
        self.open()
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(
                    target=self._serve, args=(client,), daemon=True
                ).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self.target)) as it,
        ):
            self._pump(client, it)

    def _pump(self, client: socket.socket, store: socket.socket) -> None:
        is_wanted = False
        while True:
            for source in select.select([client, store], [], [])[0]:
                data = source.recv(1 << 16)
                if not data:
                    return
                if source is client:
                    if self._asked and self._asked in data:
                        data += _rest_from(client)
                        self._hold_if(True)
                    is_wanted = is_wanted or (
                        bool(self._answered) and self._answered in data
                    )
                    store.sendall(data)
                else:
                    client.sendall(data)
                    self._hold_if(is_wanted)

    def _hold_if(self, is_wanted: bool) -> None:
        if is_wanted and not self._open.is_set():
            self.is_held.set()
            self._open.wait()


def _rest_from(client: socket.socket) -> bytes:
    """Return what follows the head of a request, until nothing comes for 0.2 s."""
    data = b""
    while select.select([client], [], [], 0.2)[0] and (more := client.recv(1 << 16)):
        data += more
        if len(data) > 1 << 20:
            break
    return data
