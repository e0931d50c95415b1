"""A real Redis beside the stack: empty, without workers, and there to be killed."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import redis

from rowcast.local.programs import redis_binary
from tests.support.waiting import eventually

# What is written survives a kill of the process, which costs no fsync.
DURABLE = ("--appendonly", "yes", "--appendfsync", "no")


class RedisServer:
    """A Redis on a Unix socket, which keeps its data in a folder through a kill."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "socket"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def connect(self, **options: Any) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), **options)

    def start(self) -> None:
        options = [
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--save",
            "",
            "--loglevel",
            "warning",
        ]
        self.process = subprocess.Popen(
            [redis_binary(), *options, *DURABLE], cwd=self.socket.parent
        )
        eventually(self.answers)

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), self.connect() as client:
            return bool(client.ping())
        return False

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
