"""The whole stack as child processes, on a machine without Docker.

    python -m rowcast.local [--port 8080] [--data .rowcast] [--workers N] [-- COMMAND ...]

Redis, an S3 store, the server, the workers and the online workers run on loopback, with secrets
that are created once and kept in the data folder. When `/readyz` answers 200, a line on standard
output has the server's URL; all parts log to standard error. Ctrl-C or SIGTERM stops everything,
the worker first, which may finish its jobs; a second signal stops them immediately.

COMMAND runs with ROWCAST_URL set, and the stack stops when it ends. The parts then log to
`local.log` in the data folder.

STORE selects the store: `embedded` (rclone, the default) or `minio` (from PATH). If S3_ENDPOINT is
set, that running store is used. All other settings are passed on to the parts.

On Linux no part outlives this process, even after `kill -9`. macOS has no parent-death signal:
there the parts survive a `kill -9`, and must be ended by hand before the next start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from rowcast.config import ConfigurationError, Settings
from rowcast.local.data_folder import (
    Keys,
    StackError,
    choose_ports,
    locked,
    private_folder,
    write_private,
)
from rowcast.local.programs import Parts
from rowcast.local.reserve import Reserve
from rowcast.local.stack import InterruptedStack, Stack
from rowcast.local.supervisor import Log, Supervisor

LAST_PORT, MOST_WORKERS = 65_535, 1024


@dataclass(frozen=True)
class Options:
    """The command line."""

    port: int
    data: Path
    workers: int | None
    command: Sequence[str]


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


def _parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m rowcast.local",
        usage="%(prog)s [--port N] [--data DIR] [--workers N] [-- COMMAND ...]",
        description="Run Redis, an S3 store, the server and the workers on this machine, "
        "until Ctrl-C or until COMMAND ends.",
    )
    parser.add_argument(
        "--port",
        type=partial(_number, LAST_PORT),
        default=8080,
        help="port of the server; 0: any free port (default: 8080)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(".rowcast"),
        help="data folder (default: .rowcast)",
    )
    parser.add_argument(
        "--workers",
        type=partial(_number, MOST_WORKERS),
        help="number of worker processes; 0: one for each core (default: WORKERS)",
    )

    own = list(arguments)
    command: list[str] = []
    if "--" in own:
        position = own.index("--")
        own, command = own[:position], own[position + 1 :]
        if not command:
            parser.error("a command is expected after --")
    given = parser.parse_args(own)
    return Options(given.port, given.data, given.workers, command)


def _number(most: int, text: str) -> int:
    if not (text.isdigit() and int(text) <= most):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {most}")
    return int(text)


def _run(options: Options, environ: Mapping[str, str]) -> int:
    settings = Settings.from_environment()
    _check_given_store(environ)
    if options.command and not shutil.which(options.command[0]):
        raise StackError(f"The command {options.command[0]} does not exist.")

    say = partial(Log(sys.stderr), "local")
    for name in ("BIND", "REDIS_URL"):
        if environ.get(name):
            say(
                f"{name} is set but ignored: this stack listens on its --port and has a "
                "Redis of its own."
            )

    data = _data_folder(options.data)
    reserve = Reserve(data, say)
    # On a full disk, the files of the start need the reserve as well.
    reserve.look()
    with ExitStack() as cleanup:
        cleanup.enter_context(locked(data))
        parts = _parts(options, data, environ)
        stream: TextIO = sys.stderr
        if options.command:
            stream = cleanup.enter_context(_log_file(data))
        supervisor = Supervisor(
            Log(stream), _secrets(parts, settings), reserve.explanation
        )
        cleanup.enter_context(supervisor)

        stack = Stack(parts, supervisor, reserve, say, settings)
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


def _check_given_store(environ: Mapping[str, str]) -> None:
    required = ("S3_ACCESS_KEY", "S3_SECRET_KEY")
    missing = [name for name in required if not environ.get(name)]
    if environ.get("S3_ENDPOINT") and missing:
        raise StackError(
            f"S3_ENDPOINT is set, so {' and '.join(missing)} must be set as well. "
            "Leave S3_ENDPOINT out to start a store."
        )


def _parts(options: Options, data: Path, environ: Mapping[str, str]) -> Parts:
    ports = choose_ports(options.port, data / "ports.json")
    keys = Keys.kept_in(data / "secrets.json")
    is_watched = sys.stderr.isatty() and not options.command
    log_format = "text" if is_watched else None
    return Parts(data, keys, ports, options.workers, environ, log_format)


def _secrets(parts: Parts, settings: Settings) -> list[str]:
    """Return the secrets that no log line may show."""
    api_keys = [key.get_secret_value().partition(":")[2] for key in settings.api_keys]
    others = [
        settings.s3_secret_key,
        settings.signing_key,
        *settings.hmac_signing_keys,
        *settings.webhook_secrets,
    ]
    values = [secret.get_secret_value() for secret in others if secret]
    return [*filter(None, astuple(parts.keys)), *api_keys, *values]


def _data_folder(path: Path) -> Path:
    try:
        return private_folder(path.resolve())
    except OSError as error:
        raise StackError(
            f"{path} cannot be the data folder: {error.strerror}. "
            "Choose another with --data."
        ) from None


@contextmanager
def _log_file(data: Path) -> Iterator[TextIO]:
    path = data / "local.log"
    write_private(path, "")
    with path.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        yield stream


if __name__ == "__main__":
    sys.exit(main())
