"""The processes of a pool: a parent that looks at no table, and its inspectors.

A server process starts the pool with its end of a pair of sockets as standard input. The pool ends
when that breaks, however the server has ended. It has no settings but those of inspections, and so
no secrets.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import sys
from functools import partial

# Loaded before the fork, so that the inspectors share the memory.
from rowcast.config import ConfigurationError, Settings
from rowcast.inspection import inspector, limits
from rowcast.observability import logs
from rowcast.system import LimitedChild, forks, memory, set_process_title

log = logging.getLogger("rowcast.inspection")


def main() -> None:
    """Run the pool of a server process until that has ended."""
    try:
        settings = Settings.from_environment()
    except ConfigurationError as error:
        sys.exit(f"rowcast: {error}")
    logs.configure(settings, "inspection")
    set_process_title("inspectors")
    # Forks close standard input.
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as control:
        run(settings, control)


def run(settings: Settings, control: socket.socket) -> None:
    """Keep INSPECTORS processes running until the other end of `control` closes, or SIGTERM."""
    # The part of an inspector that is there before the first table is not the tables'.
    most_bytes = memory.resting_bytes(os.getpid()) + settings.inspection_memory_bytes
    serve = partial(inspector.serve, settings, control)
    inspectors = [
        LimitedChild("inspector", serve, most_bytes) for _ in range(settings.inspectors)
    ]
    supervisor = forks.ForkSupervisor(inspectors, stop_limit_s=limits.STOP_S)
    supervisor.run(is_wanted=partial(_has_server, control))


def _has_server(control: socket.socket) -> bool:
    broken = select.poll()
    # A closed end is reported whether asked for or not.
    broken.register(control, 0)
    return not broken.poll(0)
