"""Breaking things for real: processes stopped or killed, and answers of a store held back."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

import psutil


def kill(*processes: psutil.Process) -> None:
    """Kill processes at once, whatever they do."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def stopped(*processes: psutil.Process) -> Iterator[None]:
    """Stop processes: they hold their connections and never answer, which is worse than being
    away."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        resume(*processes)


def resume(*processes: psutil.Process) -> None:
    """Wake stopped processes up."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all that came of it."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs or could."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


class Gate:
    """A port before another one. What holds the awaited words waits until the gate is opened.

    Words are looked for in what a client sends, chunk by chunk, or in what it is answered.
    """

    def __init__(self, target: int) -> None:
        """Listen, and pass everything on to the target's port of this machine."""
        self.target = target
        self.is_held = threading.Event()
        self._open = threading.Event()
        self._asked = self._answered = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, *, asked: bytes = b"", answered_to: bytes = b"") -> None:
        """Hold back the next request that holds these words, or the rest of the answer to one."""
        self.is_held.clear()
        self._open.clear()
        self._asked, self._answered = asked, answered_to

    def open(self) -> None:
        """Pass on what is held, and all that comes."""
        self._asked = self._answered = b""
        self._open.set()

    def close(self) -> None:
        """Take no more connections."""
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
    """Return what follows the head of a request, as long as it follows at once."""
    data = b""
    while select.select([client], [], [], 0.2)[0] and (more := client.recv(1 << 16)):
        data += more
        if len(data) > 1 << 20:
            break
    return data
