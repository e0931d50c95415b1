"""Keep forked child processes running: restart those that end, and stop all of them on a signal."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.context import ForkProcess

from rowcast.system.process import die_with_parent

log = logging.getLogger("rowcast.processes")

# Seconds between two checks of the children.
TICK_S = 0.1
# Least seconds between two starts of the same child, so that one that fails immediately does not
# keep a core busy.
RESTART_PAUSE_S = 1.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Child:
    """A child process that is kept running; subclass it to check on the process as well."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        """Name the child for the log; `work` is what its process does, from start to end."""
        self.name = name
        self._work = work
        self._process: ForkProcess | None = None
        self._started_at = -math.inf

    @property
    def pid(self) -> int:
        """The process id; 0 before the first start."""
        return (self._process and self._process.pid) or 0

    @property
    def exit_code(self) -> int | None:
        """The exit code of a process that ended, negative for a signal; else None."""
        return self._process.exitcode if self._process else None

    def start(self) -> None:
        """Fork the process. Call it in the main thread, because of the death signal.

        Raises:
            OSError: the system has no process or memory left.
        """
        self._started_at = time.monotonic()
        process = ForkProcess(target=_live, args=(self._work, os.getpid()))
        # A signal that comes before the child has its own handlers must not be lost to ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        if self._process:
            self._process.close()
        self._process = process

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.is_alive()

    def may_restart(self) -> bool:
        """Return whether the last start was long enough ago."""
        return time.monotonic() >= self._started_at + RESTART_PAUSE_S

    def check(self) -> None:
        """Do what is needed for a running process; called every TICK_S seconds."""

    def terminate(self) -> None:
        """Ask the process to stop (SIGTERM)."""
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        if self._process:
            self._process.kill()


def _live(work: Callable[[], None], parent_pid: int) -> None:
    """Do the work of a child, without the signal handlers that it inherited."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A terminal sends Ctrl-C to the children, too. The parent passes on what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    die_with_parent(parent_pid)
    work()


class ForkSupervisor:
    """Keeps children running until SIGTERM or Ctrl-C, then stops them.

    The children get a SIGTERM for each of these signals, and decide what a second one means.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        stop_limit_s: float = math.inf,
        pause: Callable[[float], None] = time.sleep,
        collects_orphans: bool = False,
    ) -> None:
        """Kill the children that have not stopped `stop_limit_s` seconds after the first signal.

        `pause` may use the seconds between two checks of the children, and must not take longer.
        The first process of a container must collect orphans, or they stay there as zombies.
        """
        self._children = children
        self._stop_limit_s = stop_limit_s
        self._pause = pause
        self._collects_orphans = collects_orphans
        self._n_signals = 0

    def run(self, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Start the children, and return when all of them have stopped after a signal.

        That nobody wants them any more is like two signals.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._count_signal)
        for child in self._children:
            self._start(child)
        while not self._n_signals:
            self._pause(TICK_S)
            if not is_wanted():
                self._n_signals += 2
                break
            for child in self._children:
                self._check(child)
            if self._collects_orphans:
                self._collect_orphan()
        self._stop()

    def _collect_orphan(self) -> None:
        """Collect a process that has ended and whose parent has ended before."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with suppress(ChildProcessError):
            ended = os.waitid(os.P_ALL, 0, options)
            if ended and ended.si_pid not in [child.pid for child in self._children]:
                os.waitpid(ended.si_pid, 0)

    def _count_signal(self, *_: object) -> None:
        self._n_signals += 1

    def _check(self, child: Child) -> None:
        if child.is_alive():
            child.check()
        elif child.may_restart():
            log.warning(
                "%s ended (exit code %s); starting another", child.name, child.exit_code
            )
            self._start(child)

    def _start(self, child: Child) -> None:
        try:
            child.start()
        except OSError as error:
            # The others go on, and this child is tried again after a pause.
            log.warning("%s cannot be started (%s)", child.name, error.strerror)

    def _stop(self) -> None:
        deadline = time.monotonic() + self._stop_limit_s
        n_passed_on = 0
        while any(child.is_alive() for child in self._children):
            if time.monotonic() >= deadline:
                break
            if n_passed_on < self._n_signals:
                n_passed_on += 1
                for child in self._children:
                    child.terminate()
            time.sleep(TICK_S)
        for child in self._children:
            child.kill()
