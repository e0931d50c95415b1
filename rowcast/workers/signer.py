"""The signer: a process that alone keeps the private key, and signs models for the workers.

Work horses parse foreign bytes, so they must not be able to take the key, or to have a model of
another owner signed. So `worker.py` starts the signer first, and then replaces itself, without
the key. A work horse asks its worker for a signature; the worker adds the owner, the model and the
attempt, which it knows from the order, and asks the signer:

    worker  ["rowcast model", "ann", "<model>", 1, "<digest>"], and one end of a pipe
    signer  {"key_id": "...", "signature": "..."}, into that pipe

The workers share one socket. A work horse closes it before it does anything else. The memory and
the open files of signer and workers are closed to it by the kernel, on Linux, unless it is root
with all privileges.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from contextlib import suppress
from typing import Any, NoReturn

from rowcast.signatures import PrivateKey
from rowcast.system import die_with_parent, hide_memory, set_process_title

# The longest question; the kernel passes it as a whole.
_QUESTION_BYTES = 4_000
_ANSWER_BYTES = 1_000
_NO_ANSWER = (OSError, ValueError, RecursionError)
# Seconds that a worker waits for its signature.
ANSWER_S = 3.0
# Seconds between two looks, where the kernel has no death signal, whether the workers live.
_PARENT_CHECK_S = 5.0


class Signer:
    """The signer as the workers see it."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        """Take the workers' end of its socket."""
        self._channel = channel
        self.pid = pid

    @classmethod
    def named(cls, name: str) -> Signer:
        """Return the signer that `inherited_name` has named, after the process was replaced."""
        descriptor, _, pid = name.partition(":")
        channel = socket.socket(fileno=int(descriptor))
        channel.set_inheritable(False)
        channel.settimeout(ANSWER_S)
        return cls(channel, int(pid))

    def inherited_name(self) -> str:
        """Return what `named` needs in the program that replaces this one."""
        self._channel.set_inheritable(True)
        return f"{self._channel.fileno()}:{self.pid}"

    def is_alive(self) -> bool:
        """Return whether the process runs; its parent may ask."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, options) is None
        except ChildProcessError:
            return False

    def close(self) -> None:
        """Give up the socket, in a process that must not have anything signed."""
        self._channel.close()

    def sign(self, statement: list[Any]) -> dict[str, str] | None:
        """Return `key_id` and `signature` of a statement; None if the signer does not answer.

        One that hangs is killed, so that the workers start again with another.
        """
        question = json.dumps(statement).encode()
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as answers:
            is_sent = self._send(question, writer)
            received = _received(answers.fileno()) if is_sent else None
        if received is None and self.is_alive():
            os.kill(self.pid, signal.SIGKILL)
        return received

    def _send(self, question: bytes, answer_to: int) -> bool:
        """Send a question with the pipe for its answer, which is then the signer's alone."""
        try:
            socket.send_fds(self._channel, [question], [answer_to])
        except OSError:
            return False
        finally:
            os.close(answer_to)
        return True


def _received(reader: int) -> dict[str, str] | None:
    readable, _, _ = select.select([reader], [], [], ANSWER_S)
    line = os.read(reader, _ANSWER_BYTES) if readable else b""
    return json.loads(line) if line else None


def start(key: PrivateKey) -> Signer:
    """Fork the signer. Call it before there are threads, in the main thread.

    Raises:
        OSError: the system has no process, memory or file left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    parent_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _live(theirs, key, parent_pid)
    theirs.close()
    return Signer(ours, pid)


def _live(channel: socket.socket, key: PrivateKey, parent_pid: int) -> NoReturn:
    try:
        hide_memory()
        die_with_parent(parent_pid)
        # It ends with the workers, which may need it until their last job has ended.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        set_process_title("signer")
        channel.settimeout(_PARENT_CHECK_S)
        while os.getppid() == parent_pid:
            with suppress(TimeoutError):
                _answer(channel, key)
    finally:
        os._exit(1)


def _answer(channel: socket.socket, key: PrivateKey) -> None:
    question, pipes, _, _ = socket.recv_fds(channel, _QUESTION_BYTES, 1)
    # A worker that has ended takes no answer, and what is no JSON gets none.
    for pipe in pipes:
        with suppress(*_NO_ANSWER), os.fdopen(pipe, "wb", buffering=0) as answers:
            answers.write(json.dumps(key.sign(json.loads(question))).encode())
