"""Save the store and Redis to a folder, or restore them from one.

    python -m rowcast.backup save FOLDER [--include FILE]
    python -m rowcast.backup restore FOLDER [--merge]

The settings say where the store and Redis are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import redis

from rowcast.backup.copying import N_THREADS, restore, save
from rowcast.backup.folder import BackupError, Index
from rowcast.config import ConfigurationError, Settings
from rowcast.errors import StoreUnavailable
from rowcast.redis_clients import connect_for_work
from rowcast.store import Storage, patience


def main(arguments: Sequence[str] | None = None) -> int:
    """Save or restore as the command line says; return the exit code."""
    options = _parse(arguments)
    try:
        index = _run(options)
    except (BackupError, ConfigurationError, OSError, redis.RedisError) as error:
        return _fail(str(error))
    except StoreUnavailable as error:
        return _fail(error.detail)
    done = "Saved" if options.command == "save" else "Restored"
    counted = f"{len(index['objects'])} objects and {index['n_keys']} keys of Redis"
    sys.stdout.write(f"{done} {counted}: {options.folder}\n")
    return 0


def _run(options: argparse.Namespace) -> Index:
    settings = Settings.from_environment()
    storage = Storage(settings, patience.WORKER, connections=N_THREADS)
    with closing(connect_for_work(settings)) as connection:
        if options.command == "save":
            return save(options.folder, storage, connection, options.include)
        return restore(options.folder, storage, connection, merge=options.merge)


def _fail(message: str) -> int:
    sys.stderr.write(f"rowcast.backup: {message}\n")
    return 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    description = "Save the store and Redis to a folder, or restore them from one."
    parser = argparse.ArgumentParser(
        prog="python -m rowcast.backup", description=description
    )
    commands = parser.add_subparsers(dest="command", required=True)
    saving = commands.add_parser("save", help="save to a new folder")
    saving.add_argument(
        "--include", type=Path, action="append", default=[], help="also save this file"
    )
    restoring = commands.add_parser(
        "restore", help="restore a backup after checking all of it"
    )
    restoring.add_argument(
        "--merge", action="store_true", help="replace what has the same name"
    )
    for command in (saving, restoring):
        command.add_argument("folder", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
