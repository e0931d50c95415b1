"""Save the data folder of a local stack to a backup, and restore one.

    python -m rowcast.local.backup save [FOLDER] [--data .rowcast]
    python -m rowcast.local.backup restore FOLDER [--data .rowcast]

`save` works while the stack runs, jobs included; otherwise it starts the stack's Redis and store
for a moment. `restore` creates a new data folder. rowcast/backup does the work; this module adds
the secrets of the data folder, without which its models cannot be loaded. So the backup holds the
keys to all data: only its owner can read it, and it should be kept private.
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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

from rowcast.config import ConfigurationError, Settings
from rowcast.local import append_only_file
from rowcast.local.data_folder import (
    Keys,
    Ports,
    StackError,
    StackRuns,
    choose_ports,
    locked,
    private_folder,
)
from rowcast.local.probes import listens, redis_answers
from rowcast.local.programs import ROOT, Parts
from rowcast.local.stack import exit_code_of
from rowcast.local.supervisor import Log, Supervisor, after_fork

SECRETS = "secrets.json"
START_LIMIT_S, STOP_LIMIT_S = 60.0, 10.0


def save(data: Path, folder: Path, environ: Mapping[str, str]) -> int:
    """Save a data folder, whether its stack runs or not; return the exit code.

    Raises:
        StackError: this is not a data folder, or its Redis or store does not start.
    """
    if not (data / SECRETS).is_file():
        raise StackError(
            f"{data} is not the data folder of a Rowcast stack: it has no {SECRETS}."
        )
    command = _command("save", folder, "--include", data / SECRETS)
    try:
        with locked(data):
            ports = choose_ports(0, data / "ports.json")
            return _run_beside_parts(_parts(data, ports, environ), command)
    except StackRuns:
        ports = Ports(0, **json.loads((data / "ports.json").read_text()))
        environment = _parts(data, ports, environ).server().env
        return subprocess.run(command, env=environment, check=False).returncode


def restore(data: Path, folder: Path, environ: Mapping[str, str]) -> int:
    """Create a data folder from a backup; return the exit code.

    Raises:
        StackError: the data folder is in use, the backup is not one of a local stack, or Redis
            or the store does not start.
    """
    secrets = folder / "included" / SECRETS
    if not secrets.is_file():
        raise StackError(
            f"{folder} is not a backup of a local stack: it has no included/{SECRETS}."
        )
    if data.exists() and any(path.name != "lock" for path in data.iterdir()):
        raise StackError(
            f"{data} is not empty. Move it away, or choose another folder with --data "
            "(DATA= of make)."
        )

    with locked(private_folder(data)):
        code = 1
        try:
            shutil.copyfile(secrets, data / SECRETS)
            ports = choose_ports(0, data / "ports.json")
            parts = _parts(data, ports, environ)
            code = _run_beside_parts(parts, _command("restore", folder))
        finally:
            # Half of a data folder would be in the way of the next attempt.
            if code != 0:
                shutil.rmtree(data)
    return code


def _parts(data: Path, ports: Ports, environ: Mapping[str, str]) -> Parts:
    keys = Keys.kept_in(data / SECRETS)
    return Parts(data, keys, ports, workers=None, environ=environ, log_format=None)


def _command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "rowcast.backup", *map(str, arguments)]


def _run_beside_parts(parts: Parts, command: Sequence[str]) -> int:
    """Run a command of rowcast.backup while Redis and the store run; return its exit code."""
    with Supervisor(Log(sys.stderr), astuple(parts.keys)) as supervisor:
        try:
            _start(parts, supervisor)
            if supervisor.signals:
                return 128 + supervisor.signals[0]
            return _run(command, parts.server().env, supervisor)
        finally:
            supervisor.stop("redis", "store", limit_s=STOP_LIMIT_S)


def _start(parts: Parts, supervisor: Supervisor) -> None:
    if mended := append_only_file.mend(parts.redis_folder):
        sys.stderr.write(f"rowcast.local.backup: {mended}\n")
    supervisor.start(parts.redis())
    store = parts.store()
    if store:
        supervisor.start(store)

    def is_ready() -> bool:
        has_store = store is None or listens(parts.ports.store)
        return has_store and redis_answers(parts.redis_url)

    supervisor.wait_until(lambda: _is_over(supervisor) or is_ready(), START_LIMIT_S)
    if supervisor.failed or not (supervisor.signals or is_ready()):
        raise StackError("Redis and the store do not start; the lines above say why.")


def _run(
    command: Sequence[str], environment: Mapping[str, str], supervisor: Supervisor
) -> int:
    process = subprocess.Popen(
        command,
        env=environment,
        preexec_fn=after_fork(),  # noqa: PLW1509 - safe without threads, see after_fork
    )
    supervisor.wait_until(lambda: process.poll() is not None or _is_over(supervisor))
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    process.wait()
    return exit_code_of(process)


def _is_over(supervisor: Supervisor) -> bool:
    return bool(supervisor.signals or supervisor.failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Save or restore as the command line says; return the exit code."""
    options = _parse(arguments)
    data, folder = options.data.resolve(), options.folder.resolve()
    # `python -m rowcast.backup` needs the folder of the code.
    os.chdir(ROOT)
    try:
        Settings.from_environment()
        work = save if options.command == "save" else restore
        return work(data, folder, dict(os.environ))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (StackError, ConfigurationError, OSError) as error:
        sys.stderr.write(f"rowcast.local.backup: {error}\n")
        return 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rowcast.local.backup",
        description="Save the data folder of a stack to a backup, or restore one.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    saving = commands.add_parser("save", help="save the data folder to a new folder")
    saving.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(time.strftime("backup/%Y-%m-%d-%H%M%S")),
        help="new folder (default: backup/<time>)",
    )
    restoring = commands.add_parser(
        "restore", help="create a data folder from a backup"
    )
    restoring.add_argument("folder", type=Path, help="folder of the backup")

    for command in (saving, restoring):
        command.add_argument(
            "--data",
            type=Path,
            default=Path(".rowcast"),
            help="data folder (default: .rowcast)",
        )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
