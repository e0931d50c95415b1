"""The local stack, with a clock of Redis and with connections that tests break.

    python -m tests.support.breakable_stack [the options of rowcast.local]

If the data folder has a file `clock`, the time of Redis is that of the machine and the seconds in
the file, such as +3600. Server and workers reach Redis and the store by proxies, which forget their
connections on SIGUSR1. Clients reach the store directly.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Literal

import psutil

from rowcast.local import __main__ as local
from rowcast.local.data_folder import HOST
from rowcast.local.programs import Parts
from rowcast.local.supervisor import Program
from rowcast.system import die_with_parent, set_process_title
from tests.support.forgetful_proxy import ForgetfulProxy
from tests.support.stack import Stack

Proxied = Literal["redis", "store"]
# The wheel of libfaketime has the library for this platform alone.
HAS_CLOCK = sys.platform == "linux" and platform.machine() == "x86_64"


class BreakableParts(Parts):
    """The programs of the stack, as tests break them."""

    @property
    def redis_url(self) -> str:
        """The URL of the proxy of Redis."""
        port = _proxy_of(self.ports.redis, "redis")
        return f"redis://:{self.keys.redis_password}@{HOST}:{port}/0"

    def redis(self) -> Program:
        """Return Redis, with its own clock if there is one."""
        program = super().redis()
        clock = self.data / "clock"
        if not clock.exists():
            return program
        faked = {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        return dataclasses.replace(program, env={**program.env, **faked})

    def _settings(self, *without: str) -> dict[str, str]:
        settings = super()._settings(*without)
        if not self.given_store:
            port = _proxy_of(self.ports.store, "store")
            settings["S3_PUBLIC_ENDPOINT"] = settings["S3_ENDPOINT"]
            settings["S3_ENDPOINT"] = f"http://{HOST}:{port}"
        return settings


@functools.cache
def _proxy_of(port: int, name: Proxied) -> int:
    """Fork a proxy, and return its port."""
    parent_pid = os.getpid()
    proxy = ForgetfulProxy(port)
    if os.fork():
        proxy.socket.close()
        return proxy.port

    die_with_parent(parent_pid)
    set_process_title(_title(name))
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: proxy.forget())
    proxy.serve_forever()
    os._exit(0)


def _title(name: Proxied) -> str:
    return f"proxy of {name}"


def forget_connections(stack: Stack, name: Proxied) -> None:
    """Have the connections of server and workers to a part fall silent."""
    for child in psutil.Process(stack.process.pid).children():
        if child.name() == _title(name):
            child.send_signal(signal.SIGUSR1)
            return
    raise AssertionError(f"the stack has no proxy of {name}")


def set_clock(data: Path, seconds: float) -> None:
    """Have Redis' clock run ahead by so many seconds; the file must be there at the start."""
    written = data / "clock.new"
    written.write_text(f"{seconds:+g}\n")
    written.replace(data / "clock")


def library() -> Path:
    """Return the path of libfaketime."""
    found = importlib.util.find_spec("libfaketime")
    assert found, "libfaketime is not installed"
    assert found.origin
    return Path(found.origin).parent / "vendor" / "libfaketime" / "src/libfaketime.so.1"


if __name__ == "__main__":
    local.Parts = BreakableParts  # type: ignore[attr-defined]
    sys.exit(local.main())
