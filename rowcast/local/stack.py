"""The whole stack as child processes, for a machine without Docker.

    python -m rowcast.local [--port 8080] [--data .rowcast] [--workers N] [-- COMMAND ...]

Redis, an S3 store, the server, the workers and the online workers run on loopback, with secrets
made once and kept in the data folder. When `/readyz` says so, one line on standard output tells
where the server is; the lines of all parts go to standard error. Ctrl-C or SIGTERM stops
everything, the worker first, which may finish its jobs; a second one stops at once. With COMMAND,
that runs with ROWCAST_URL set, the lines of the parts go to `local.log` in the data folder, and its
end is the end of everything.

STORE chooses the store: `embedded` (rclone, the default) or `minio` (found on PATH). When
S3_ENDPOINT is set, that running store is used. All other settings are passed on to the parts.

On Linux nothing survives, not even a kill -9 of this process. macOS knows no death signal: there
the parts survive a kill -9, and must be ended by hand before the next start.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from rowcast.config import ConfigurationError, Settings
from rowcast.local.programs import (
    HOST,
    Keys,
    Parts,
    StackError,
    choose_ports,
    listens,
    locked,
    private_folder,
    redis_answers,
    write_private,
)
from rowcast.local.supervisor import Log, Program, Supervisor, after_fork

LAST_PORT, MOST_WORKERS = 65_535, 1024
START_LIMIT_S = 60.0
# An idle pool of workers takes about a second to stop.
IDLE_STOP_LIMIT_S = 2.0
# A stopping worker gets this long beyond STOP_GRACE_S, to kill and requeue what it has not
# finished.
REQUEUE_LIMIT_S = 10.0
SERVER_STOP_LIMIT_S, STORE_STOP_LIMIT_S = 5.0, 10.0
COMMAND_STOP_LIMIT_S = 5.0


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


class Stack:
    """The parts, running: start them, work, stop them."""

    def __init__(
        self,
        parts: Parts,
        supervisor: Supervisor,
        say: Callable[[str], None],
        settings: Settings,
    ) -> None:
        """Tell people through `say`; a stopping worker has STOP_GRACE_S seconds to finish its
        jobs."""
        self.url = f"http://{HOST}:{parts.ports.server}"
        self._parts = parts
        self._supervisor = supervisor
        self._say = say
        self._grace_s, self._online_workers = (
            settings.stop_grace_s,
            settings.online_workers,
        )

    def start(self) -> None:
        """Start all parts and wait until the server can serve.

        Raises:
            StackError: a part cannot be started, keeps dying, or does not answer in time.
            InterruptedStack: a signal came first.
        """
        ports = self._parts.ports
        programs = [
            program for program in (self._parts.redis(), self._parts.store()) if program
        ]
        answers = {
            "redis": partial(redis_answers, self._parts.redis_url),
            "store": partial(listens, ports.store),
        }
        for program in programs:
            self._supervisor.start(program)
        for program in programs:
            self._await(program.name, answers[program.name])
        for program in (self._parts.server(), self._parts.worker(), *self._online()):
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
                preexec_fn=after_fork(),  # noqa: PLW1509 - safe without threads, see after_fork
            )
        except OSError as error:
            raise StackError(f"{command[0]} cannot be run: {error.strerror}.") from None
        self._supervisor.wait_until(
            lambda: process.poll() is not None or self._over(), every_s=3600
        )
        self._end(process)
        self._raise_if_over()
        return (
            process.returncode if process.returncode >= 0 else 128 - process.returncode
        )

    def _online(self) -> list[Program]:
        return [self._parts.online()] if self._online_workers else []

    def stop(self) -> None:
        """Stop the worker, then the server, then what they stand on; a further signal hurries
        it."""
        n_before = len(self._supervisor.signals)
        self._stop_worker(lambda: len(self._supervisor.signals) > n_before)
        self._supervisor.stop("server", limit_s=SERVER_STOP_LIMIT_S)
        self._supervisor.stop("online", limit_s=SERVER_STOP_LIMIT_S)
        self._supervisor.stop("redis", "store", limit_s=STORE_STOP_LIMIT_S)

    def _stop_worker(self, hurried: Callable[[], bool]) -> None:
        self._supervisor.terminate("worker")

        def over() -> bool:
            return hurried() or not self._supervisor.running("worker")

        # Only a longer wait needs a word.
        if (
            not self._supervisor.wait_until(over, limit_s=IDLE_STOP_LIMIT_S)
            and self._jobs_can_finish()
        ):
            self._say(
                f"Running jobs may finish, for up to {self._grace_s:g} s; Ctrl-C stops them at "
                "once."
            )
            self._supervisor.wait_until(over, limit_s=self._grace_s + REQUEUE_LIMIT_S)
        if hurried():
            self._supervisor.kill("worker", "server", "online")
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
        in_time = self._supervisor.wait_until(
            lambda: self._over() or answers(), START_LIMIT_S
        )
        self._raise_if_over()
        if not in_time:
            raise StackError(
                f"{name} did not answer within {START_LIMIT_S:g} s.{self._last_lines(name)}"
            )

    def _over(self) -> bool:
        return bool(self._supervisor.signals or self._supervisor.failed)

    def _raise_if_over(self) -> None:
        if self._supervisor.signals:
            raise InterruptedStack(self._supervisor.signals[0])
        self._raise_if_failed()

    def _raise_if_failed(self) -> None:
        if failed := self._supervisor.failed:
            raise StackError(
                f"{failed.name} died {len(failed.deaths)} times within a minute, so everything "
                "was stopped. "
                f"The last time: {failed.last_end}.{self._last_lines(failed.name)}"
            )

    def _last_lines(self, name: str) -> str:
        lines = self._supervisor.recent_lines(name)
        return (
            "".join(["\nIts last lines:", *(f"\n  {line}" for line in lines)])
            if lines
            else ""
        )


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
            say(
                f"{name} is set, and not used: this stack listens on its --port and has a "
                "Redis of its own."
            )
    data = _data_folder(options.data)
    with ExitStack() as cleanup:
        cleanup.enter_context(locked(data))
        parts = _plan(options, data, environ)
        log = Log(
            cleanup.enter_context(_log_file(data)) if options.command else sys.stderr
        )
        supervisor = cleanup.enter_context(Supervisor(log, _secrets(parts, settings)))
        stack = Stack(parts, supervisor, say, settings)
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
        default=8080,
        help="server port, 8080 if left out; 0: any free",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(".rowcast"),
        help="folder, .rowcast if left out",
    )
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
    missing = [
        name for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY") if not environ.get(name)
    ]
    if environ.get("S3_ENDPOINT") and missing:
        raise StackError(
            f"S3_ENDPOINT is set, so {' and '.join(missing)} must be set as well. "
            "Leave S3_ENDPOINT out to have a store started."
        )


def _plan(options: Options, data: Path, environ: Mapping[str, str]) -> Parts:
    ports = choose_ports(options.port, data / "ports.json")
    log_format = "text" if sys.stderr.isatty() and not options.command else None
    return Parts(
        data,
        Keys.kept_in(data / "secrets.json"),
        ports,
        options.workers,
        environ,
        log_format,
    )


def _secrets(parts: Parts, settings: Settings) -> list[str]:
    """Return what no log line may show."""
    owned_keys = [key.get_secret_value().partition(":")[2] for key in settings.api_keys]
    secrets = [
        *settings.signing_keys,
        *settings.webhook_secrets,
        settings.s3_secret_key,
    ]
    return [
        *astuple(parts.keys),
        *owned_keys,
        *(secret.get_secret_value() for secret in secrets),
    ]


def _data_folder(path: Path) -> Path:
    try:
        return private_folder(path.resolve())
    except OSError as error:
        raise StackError(
            f"{path} cannot be the data folder: {error.strerror}. Choose another with --data."
        ) from None


@contextmanager
def _log_file(data: Path) -> Iterator[TextIO]:
    path = data / "local.log"
    write_private(path, "")
    with path.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        yield stream


def _is_ready(port: int) -> bool:
    # Not urllib: a proxy in the environment is not meant for this.
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    return False
