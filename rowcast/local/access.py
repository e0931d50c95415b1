"""Create, list and revoke API keys of a running local stack.

    python -m rowcast.local.access [--data .rowcast] create --owner ann --name laptop --scopes ...
    python -m rowcast.local.access [--data .rowcast] list
    python -m rowcast.local.access [--data .rowcast] revoke ID

It runs `python -m rowcast.access` with the address and password of the stack's Redis.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rowcast.local.data_folder import Keys, Ports, StackError, StackRuns, locked
from rowcast.local.programs import ROOT, Parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `rowcast.access` as the command line says; return its exit code."""
    # All but --data is for rowcast.access, its --help too.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data", type=Path, default=Path(".rowcast"))
    options, command = parser.parse_known_args(arguments)
    try:
        environment = _environment(options.data.resolve(), os.environ)
    except (StackError, OSError) as error:
        sys.stderr.write(f"rowcast.local.access: {error}\n")
        return 1
    argv = [sys.executable, "-m", "rowcast.access", *command]
    return subprocess.run(argv, env=environment, cwd=ROOT, check=False).returncode


def _environment(data: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server of a running stack.

    Raises:
        StackError: no stack runs on this folder.
    """
    try:
        if data.is_dir():
            with locked(data):
                pass
    except StackRuns:
        ports = Ports(0, **json.loads((data / "ports.json").read_text()))
        keys = Keys.kept_in(data / "secrets.json")
        parts = Parts(data, keys, ports, None, environ, log_format=None)
        return dict(parts.server().env)
    raise StackError(
        f"No stack runs on {data}. Start it with `make up`, or name its folder with --data."
    )


if __name__ == "__main__":
    sys.exit(main())
