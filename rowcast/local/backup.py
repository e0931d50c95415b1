"""A copy of the local stack's data folder, and back.

    python -m rowcast.local.backup save [FOLDER] [--data .rowcast]
    python -m rowcast.local.backup restore FOLDER [--data .rowcast]

The stack may run while it is saved, with jobs running; if it does not, its Redis and its store are
started for as long as it takes. Restoring makes a new data folder. The work is that of
rowcast/backup/; here the secrets of the data folder are added, without which its models cannot be
loaded. So a copy holds the keys to all there is: only its owner can read it, and it should be kept
where that stays so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple
from functools import partial
from pathlib import Path

from rowcast.config import ConfigurationError, Settings
from rowcast.local.programs import (
    ROOT,
    Keys,
    Parts,
    Ports,
    StackError,
    StackRuns,
    choose_ports,
    listens,
    locked,
    private_folder,
    redis_answers,
)
from rowcast.local.supervisor import Log, Supervisor, after_fork

SECRETS = "secrets.json"
START_LIMIT_S, STOP_LIMIT_S = 60.0, 10.0


def save(data: Path, folder: Path, environ: Mapping[str, str]) -> int:
    """Copy what a data folder holds, whether its stack runs or not; return the exit code.

    Raises:
        StackError: there is no such data folder, or its parts do not start.
    """
    if not (data / SECRETS).is_file():
        raise StackError(
            f"{data} is no data folder of a Rowcast stack: it holds no {SECRETS}."
        )
    command = ["save", str(folder), "--include", str(data / SECRETS)]
    try:
        with locked(data):
            return _beside_parts(_parts(data, environ), command)
    except StackRuns:
        environment = _parts(data, environ, running=True).server().env
        return subprocess.run(_argv(command), env=environment, check=False).returncode


def restore(data: Path, folder: Path, environ: Mapping[str, str]) -> int:
    """Make a data folder from a copy; return the exit code.

    Raises:
        StackError: the data folder is in use, the copy is not one of a local stack, or no part
            starts.
    """
    secrets = folder / "included" / SECRETS
    if not secrets.is_file():
        raise StackError(
            f"{folder} is no backup of a local stack: it holds no included/{SECRETS}."
        )
    if data.exists() and any(path.name != "lock" for path in data.iterdir()):
        raise StackError(
            f"{data} holds something already. Move it away, or name another with --data (DATA= "
            "of make)."
        )
    with locked(private_folder(data)), _emptied_unless_done(data) as done:
        shutil.copyfile(secrets, data / SECRETS)
        done.append(
            code := _beside_parts(_parts(data, environ), ["restore", str(folder)])
        )
    return code


@contextmanager
def _emptied_unless_done(data: Path) -> Iterator[list[int]]:
    """Remove a data folder unless a list of exit codes ends with 0: half of it would be in the
    way."""
    codes: list[int] = []
    try:
        yield codes
    finally:
        if codes != [0]:
            shutil.rmtree(data)


def _parts(data: Path, environ: Mapping[str, str], *, running: bool = False) -> Parts:
    keys, kept = Keys.kept_in(data / SECRETS), data / "ports.json"
    ports = (
        Ports(0, **json.loads(kept.read_text())) if running else choose_ports(0, kept)
    )
    return Parts(data, keys, ports, None, environ, None)


def _beside_parts(parts: Parts, command: Sequence[str]) -> int:
    """Run a command of rowcast.backup while Redis and the store run, and return its exit code."""
    with ExitStack() as cleanup:
        supervisor = cleanup.enter_context(
            Supervisor(Log(sys.stderr), astuple(parts.keys))
        )
        cleanup.callback(
            partial(supervisor.stop, "redis", "store", limit_s=STOP_LIMIT_S)
        )
        _start(parts, supervisor)
        if supervisor.signals:
            return 128 + supervisor.signals[0]
        process = subprocess.Popen(
            _argv(command),
            env=parts.server().env,
            preexec_fn=after_fork(),  # noqa: PLW1509 - safe without threads, see after_fork
        )
        supervisor.wait_until(
            lambda: process.poll() is not None or _is_over(supervisor)
        )
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        code = process.wait()
        return code if code >= 0 else 128 - code


def _start(parts: Parts, supervisor: Supervisor) -> None:
    programs = [program for program in (parts.redis(), parts.store()) if program]
    answers = {
        "redis": partial(redis_answers, parts.redis_url),
        "store": partial(listens, parts.ports.store),
    }
    for program in programs:
        supervisor.start(program)

    def all_answer() -> bool:
        return all(answers[program.name]() for program in programs)

    supervisor.wait_until(lambda: _is_over(supervisor) or all_answer(), START_LIMIT_S)
    if supervisor.failed or not (supervisor.signals or all_answer()):
        raise StackError("Redis and the store do not start; the lines above say why.")


def _is_over(supervisor: Supervisor) -> bool:
    return bool(supervisor.signals or supervisor.failed)


def _argv(command: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "rowcast.backup", *command]


def main(arguments: Sequence[str] | None = None) -> int:
    """Save or restore as the command line says; return the exit code."""
    options = _parse(arguments)
    # The work is done by a process that is started in the folder of the code.
    data, folder = options.data.resolve(), options.folder.resolve()
    os.chdir(ROOT)
    try:
        Settings.from_environment()
        return (save if options.command == "save" else restore)(
            data, folder, dict(os.environ)
        )
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (StackError, ConfigurationError, OSError) as error:
        sys.stderr.write(f"rowcast.local.backup: {error}\n")
        return 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rowcast.local.backup",
        description="Copy the data folder of a stack, and back.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    saving = commands.add_parser(
        "save", help="copy to a new folder; backup/<time> if left out"
    )
    saving.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(time.strftime("backup/%Y-%m-%d-%H%M%S")),
    )
    restoring = commands.add_parser("restore", help="make a data folder from a copy")
    restoring.add_argument("folder", type=Path)
    for command in (saving, restoring):
        command.add_argument(
            "--data",
            type=Path,
            default=Path(".rowcast"),
            help="folder, .rowcast if left out",
        )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
