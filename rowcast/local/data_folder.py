"""The data folder of a local stack: its lock, its secrets, and the ports of its parts."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rowcast import signatures

HOST = "127.0.0.1"
# The kernel assigns higher ports to outgoing connections. A client that tries to reach a dead part
# could get that very port, and keep the part from coming back.
PORTS = range(20_000, 30_000)


class StackError(Exception):
    """The stack cannot run; the message says why and what to do."""


class StackRuns(StackError):
    """A stack runs on the data folder."""


@dataclass(frozen=True)
class Keys:
    """The secrets of one data folder.

    `signing_key` is the HMAC key of models that earlier versions have signed, if any; `model_key`
    is the private key that signs them since.
    """

    s3_access_key: str
    s3_secret_key: str
    redis_password: str
    model_key: str
    webhook_secret: str
    signing_key: str = ""

    @classmethod
    def kept_in(cls, path: Path) -> Keys:
        """Read the secrets of a file, or create them.

        A file of an earlier version gets what it lacks.

        Raises:
            StackError: the file has other content.
        """
        if not path.exists():
            write_private(path, json.dumps(asdict(cls._new()), indent=2))
        path.chmod(0o600)
        try:
            kept = json.loads(path.read_text())
            names = {field.name for field in fields(cls)}
            known = {name: kept[name] for name in names & kept.keys()}
            keys = cls(**{**_since_first_version(), **known})
        except (AttributeError, TypeError, ValueError):
            raise StackError(
                f"{path} does not contain the secrets of a Rowcast stack. Restore it, or "
                "start with a new folder: the data of this one is unusable without them."
            ) from None

        # What a later version has added stays.
        complete = {**kept, **asdict(keys)}
        if complete != kept:
            write_private(path, json.dumps(complete, indent=2))
        return keys

    @classmethod
    def _new(cls) -> Keys:
        return cls(
            s3_access_key=secrets.token_hex(10),
            s3_secret_key=secrets.token_urlsafe(32),
            redis_password=secrets.token_urlsafe(32),
            **_since_first_version(),
        )


def _since_first_version() -> dict[str, str]:
    """Return new secrets of the kinds that files of earlier versions lack."""
    webhook_secret = base64.b64encode(secrets.token_bytes(32)).decode()
    return {
        "model_key": signatures.private_text(secrets.token_bytes(32)),
        "webhook_secret": f"whsec_{webhook_secret}",
    }


@dataclass(frozen=True)
class Ports:
    """Where the parts listen, on loopback."""

    server: int
    redis: int
    store: int


def choose_ports(server: int, kept: Path) -> Ports:
    """Check the server's port, or find one for 0; choose the other ports.

    Redis and the store get the ports of the last start, which the file `kept` contains, if these
    are free: presigned URLs name the store's port, so it should not change.

    Raises:
        StackError: the server's port is in use, or no port is free.
    """
    if server:
        _check_port(server)
    last: dict[str, int] = {}
    with suppress(FileNotFoundError, ValueError):
        last = json.loads(kept.read_text())

    redis_port = _free_port(last.get("redis"), {server})
    store_port = _free_port(last.get("store"), {server, redis_port})
    server_port = server or _free_port(None, {redis_port, store_port})

    write_private(kept, json.dumps({"redis": redis_port, "store": store_port}))
    return Ports(server_port, redis_port, store_port)


def _check_port(port: int) -> None:
    try:
        _try_port(port)
    except OSError as error:
        raise StackError(
            f"Port {port} cannot be used: {error.strerror}. "
            "Choose another with --port N, or --port 0 for any free port."
        ) from None


def _free_port(preferred: int | None, taken: set[int]) -> int:
    candidates: Sequence[int] = secrets.SystemRandom().sample(PORTS, 100)
    if preferred:
        candidates = [preferred, *candidates]
    for port in candidates:
        with suppress(OSError):
            if port not in taken:
                _try_port(port)
                return port
    raise StackError(f"No port between {PORTS.start} and {PORTS.stop} is free.")


def _try_port(port: int) -> None:
    with socket.socket() as candidate:
        # Servers set this too, so connections in TIME_WAIT do not count.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        candidate.bind((HOST, port))


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the folder's lock, so no second stack runs on it; the kernel frees it at our end.

    Raises:
        StackRuns: a stack runs on it already.
    """
    with (data / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StackRuns(
                f"A Rowcast stack already runs on {data} (process {file.read()}). "
                "Stop it, or choose another folder with --data."
            ) from None

        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _has_text(path: Path, text: str) -> bool:
    with suppress(FileNotFoundError):
        content = text.encode()
        return path.stat().st_size == len(content) and path.read_bytes() == content
    return False


def private_folder(path: Path) -> Path:
    """Return a folder that only this user can enter, and create it if necessary."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def write_private(path: Path, text: str) -> None:
    """Replace a file, in one step, by one that only this user can read.

    One that has this text already is left alone, so that a stack starts on a full disk.
    """
    if _has_text(path, text):
        path.chmod(0o600)
        return
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.chmod(0o600)
    part.write_text(text)
    part.replace(path)
