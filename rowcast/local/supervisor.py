"""Child processes that are logged by name, restarted when they die, and never outlive us.

Everything happens in one thread with one selector: reading the children's output, noticing deaths
and signals, waiting for restarts. There are no threads, for two reasons. The kernel sends a child
its death signal when the *thread* that started it ends. And a child asks for that signal between
fork and exec, where only a process without threads may safely run Python.

The death signal exists on Linux. Elsewhere, children are stopped whenever this process ends in a
way that Python notices, but they survive a `kill -9` of it.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TextIO

from rowcast.system import die_with_parent

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 5.0
# A child that has lived for so long starts with the first back-off again.
STABLE_AFTER_S = 10.0
# A child that dies so many times within the window is not restarted any more.
MOST_DEATHS, DEATHS_WINDOW_S = 5, 60.0
LINE_LIMIT_BYTES = 65_536
# After a line, further lines are collected for this long.
GATHER_S = 0.01
N_RECENT_LINES = 20

_COLORS = {"server": 32, "worker": 36, "online": 34, "redis": 35, "store": 33}
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CONTROL_CODES = {*range(32), *range(127, 160)} - {ord("\t")}
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROL_CODES}


def after_fork() -> Callable[[], None]:
    """Return a `preexec_fn` for Popen, after which the kernel kills the child when we end.

    Use it only in a process without threads. A small program that asks the kernel and then becomes
    the child would not need that condition, but would start a second interpreter for every child.
    """
    return functools.partial(die_with_parent, os.getpid())


@dataclass(frozen=True)
class Program:
    """A command, and the name for its lines in the log."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path


@dataclass(eq=False)
class Child:
    """A program, its current process if it has one, and how earlier ones ended."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    output: int | None = None
    started_at: float = 0.0
    restart_at: float = math.inf
    backoff_s: float = 0.0
    stopping: bool = False
    last_end: str = ""
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_DEATHS))
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=N_RECENT_LINES))
    _unfinished: bytes = b""

    @property
    def name(self) -> str:
        """The name in the log and in messages."""
        return self.program.name

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that `data` completes; text over the limit counts as a line."""
        text = self._unfinished + data
        *lines, self._unfinished = text.split(b"\n")
        yield from lines
        if len(self._unfinished) > LINE_LIMIT_BYTES:
            yield from self.rest()

    def rest(self) -> Iterator[bytes]:
        """Yield the text after the last line end, if there is any."""
        rest, self._unfinished = self._unfinished, b""
        if rest:
            yield rest

    def note_death(self, now: float, *, counts: bool = True) -> bool:
        """Schedule the next start after a back-off; return False if it died too often.

        A death that does not count forgives the earlier ones.
        """
        was_stable = now - self.started_at >= STABLE_AFTER_S
        self.backoff_s = FIRST_BACKOFF_S if was_stable else self._longer_backoff_s()
        self.deaths.append(now)
        if not counts:
            self.deaths.clear()
            self.restart_at = now + self.backoff_s
            return True
        lasted_s = now - self.deaths[0]
        if len(self.deaths) == MOST_DEATHS and lasted_s < DEATHS_WINDOW_S:
            return False
        self.restart_at = now + self.backoff_s
        return True

    def mark_stopping(self) -> None:
        """Cancel the next start; there will be no other."""
        self.stopping = True
        self.restart_at = math.inf

    def _longer_backoff_s(self) -> float:
        doubled_s = max(2 * self.backoff_s, FIRST_BACKOFF_S)
        return min(doubled_s, LONGEST_BACKOFF_S)


class Supervisor:
    """Keep children running until they are stopped.

    Use it as a context manager, in the main thread of a process without threads. All work is done
    in `turn`, which `wait_until` repeats. SIGINT, SIGTERM and SIGHUP are only added to `signals`;
    the caller decides what they mean. Leaving the context kills the remaining children.
    """

    def __init__(
        self,
        log: Callable[[str, str], None],
        secrets: Iterable[str] = (),
        explain: Callable[[], str] = str,
    ) -> None:
        """Pass the children's lines to `log(name, line)`, with `secrets` replaced by ***.

        `explain` is asked at each death. If it returns a reason for which the child is not to
        blame, the child is restarted however often it has died.
        """
        self.signals: list[int] = []
        self.failed: Child | None = None
        self._log = log
        self._explain = explain
        self._secrets = [secret for secret in secrets if secret]
        self._children: dict[str, Child] = {}
        self._has_read = False
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Supervisor:
        """Install the signal handlers."""
        self._selector = self._cleanup.enter_context(selectors.DefaultSelector())
        self._watch_signals()
        self._cleanup.callback(self._kill_all)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill the remaining children and restore the signal handlers."""
        self._cleanup.close()

    def start(self, program: Program) -> None:
        """Start a child, and restart it whenever it dies."""
        child = self._children[program.name] = Child(program)
        self._launch(child)

    def wait_until(
        self,
        condition: Callable[[], bool],
        limit_s: float = math.inf,
        every_s: float = 0.05,
    ) -> bool:
        """Work until `condition()` is true; return False if it is not within `limit_s`.

        It is checked after every event, such as a death or a signal, and every `every_s` seconds.
        """
        deadline = time.monotonic() + limit_s
        while not condition():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            self.turn(min(every_s, left_s))
        return True

    def turn(self, timeout_s: float) -> None:
        """Log output, note deaths and restart children; wait for an event at most `timeout_s`."""
        if self._has_read:
            # Under load lines come by the thousand, and waking up costs more than passing one on.
            time.sleep(GATHER_S)
            self._has_read = False

        for key, _ in self._selector.select(self._wait_s(timeout_s)):
            key.data()

        for child in self._children.values():
            if child.process and child.process.poll() is not None:
                self._note_end(child, child.process)
            if child.restart_at <= time.monotonic():
                self._launch(child)

    def _wait_s(self, timeout_s: float) -> float:
        """Return the seconds until the next restart, at most `timeout_s`."""
        restarts = (child.restart_at for child in self._children.values())
        due_s = min(restarts, default=math.inf) - time.monotonic()
        return max(0.0, min(timeout_s, due_s))

    def running(self, *names: str) -> bool:
        """Return whether any of these children runs."""
        return any(child.process for child in self._named(names))

    def recent_lines(self, name: str) -> list[str]:
        """Return the last lines that a child printed."""
        child = self._children.get(name)
        return list(child.recent) if child else []

    def terminate(self, *names: str) -> None:
        """Send children SIGTERM, and do not restart them."""
        for child in self._named(names):
            child.mark_stopping()
            if child.process:
                child.process.terminate()

    def kill(self, *names: str) -> None:
        """Kill children and their descendants, and do not restart them."""
        for child in self._named(names):
            child.mark_stopping()
            if child.process:
                _kill_group(child.process.pid)
                child.process.wait()
                self._note_end(child, child.process)

    def stop(self, *names: str, limit_s: float) -> None:
        """Send children SIGTERM, and kill those that still run after `limit_s`."""
        self.terminate(*names)
        self.wait_until(lambda: not self.running(*names), limit_s)
        self.kill(*names)

    def _named(self, names: Iterable[str]) -> list[Child]:
        """Return the children of these names that were ever started."""
        return [self._children[name] for name in names if name in self._children]

    def _kill_all(self) -> None:
        self.kill(*self._children)

    def _launch(self, child: Child) -> None:
        child.started_at = time.monotonic()
        child.restart_at = math.inf
        child.output, written = os.pipe()
        os.set_blocking(child.output, False)
        on_output = functools.partial(self._read, child)
        self._selector.register(child.output, selectors.EVENT_READ, on_output)

        try:
            child.process = _spawn(child.program, written)
        except OSError as error:
            self._log_line(child, str(error).encode())
            self._close_output(child)
            self._after_death(child, "it could not be started")
        finally:
            os.close(written)

    def _read(self, child: Child) -> None:
        if child.output is None:
            return
        with contextlib.suppress(BlockingIOError):
            data = os.read(child.output, LINE_LIMIT_BYTES)
            self._has_read = True
            for line in child.take(data):
                self._log_line(child, line)
            # A child may close its output and continue to run.
            if not data:
                self._close_output(child)

    def _close_output(self, child: Child) -> None:
        if child.output is not None:
            self._selector.unregister(child.output)
            os.close(child.output)
            child.output = None

    def _note_end(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        # Its own children, such as the server's workers, may still hold its port.
        _kill_group(process.pid)
        self._read(child)
        for line in child.rest():
            self._log_line(child, line)
        self._close_output(child)
        child.process = None
        self._after_death(child, _end_of(process.returncode))

    def _after_death(self, child: Child, how: str) -> None:
        child.last_end = how
        if child.stopping:
            return
        reason = self._explain()
        if child.note_death(time.monotonic(), counts=not reason):
            next_step = f"restarting it in {child.backoff_s:g} s"
        else:
            next_step = "giving up"
            self.failed = self.failed or child
        parts = [f"{child.name} ended: {how}", reason, next_step]
        self._log("local", "; ".join(filter(None, parts)))

    def _log_line(self, child: Child, line: bytes) -> None:
        if not line.strip():
            return
        text = line.rstrip(b"\r").decode(errors="backslashreplace")
        text = text.translate(_ESCAPES)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        child.recent.append(text)
        self._log(child.name, text)

    def _watch_signals(self) -> None:
        """Note the stop signals, and wake the selector for them and for the death of a child."""
        wakeup, written = os.pipe()
        for end in (wakeup, written):
            self._cleanup.callback(os.close, end)
            os.set_blocking(end, False)
        drain = functools.partial(os.read, wakeup, 4096)
        self._selector.register(wakeup, selectors.EVENT_READ, drain)

        previous = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        self._cleanup.callback(signal.set_wakeup_fd, previous)

        self._handle(signal.SIGCHLD, lambda *_: None)
        for number in _STOP_SIGNALS:
            # A caller that starts us with nohup wants us to continue when the terminal closes.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._handle(number, self._note_signal)

    def _handle(
        self, number: int, handler: Callable[[int, FrameType | None], Any]
    ) -> None:
        previous = signal.signal(number, handler)
        self._cleanup.callback(signal.signal, number, previous)

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self.signals.append(number)


class Log:
    """A stream for the lines of several parts, each after the name of its part."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, in color on a terminal."""
        self._stream = stream
        self._is_colored = stream.isatty()

    def __call__(self, name: str, line: str) -> None:
        """Write one line; a closed or full stream is not an error."""
        label = f"{name:<6} |"
        if self._is_colored:
            color = _COLORS.get(name, 1)
            label = f"\x1b[{color}m{label}\x1b[0m"
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{label} {line}\n")
            self._stream.flush()


def _spawn(program: Program, output: int) -> subprocess.Popen[bytes]:
    """Start a program in its own session, so that a terminal's Ctrl-C reaches only us."""
    return subprocess.Popen(
        program.argv,
        env=program.env,
        cwd=program.cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        umask=0o077,
        preexec_fn=after_fork(),  # noqa: PLW1509 - safe without threads, see after_fork
    )


def _kill_group(pid: int) -> None:
    # macOS answers "not permitted" if only a zombie is left of the group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _end_of(return_code: int) -> str:
    if return_code < 0:
        number = -return_code
        return f"killed by signal {number} ({signal.strsignal(number)})"
    return f"exit code {return_code}"
