"""Child processes that are logged under their names, started again when they die, and never outlive
us.

Everything happens in one thread around one selector: reading what the children print, noticing
deaths and signals, waiting out back-offs. There are deliberately no threads. The kernel sends a
child its death signal when the *thread* that started it ends, and only a process without threads
may safely run Python between fork and exec, which is where the child asks for that signal.

The death signal exists on Linux. Elsewhere children are stopped whenever we end in any way that
Python notices, but they survive a kill -9 of this process.
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
SETTLED_AFTER_S = 10.0
MOST_DEATHS, DEATHS_WINDOW_S = 5, 60.0
LINE_LIMIT_BYTES = 65_536
# For so long lines are gathered after one has come.
GATHER_S = 0.01
N_RECENT_LINES = 20

_COLOURS = {"server": 32, "worker": 36, "online": 34, "redis": 35, "store": 33}
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ESCAPES = {
    code: f"\\x{code:02x}"
    for code in (*range(32), *range(127, 160))
    if code != ord("\t")
}


def after_fork() -> Callable[[], None]:
    """Return what a child runs between fork and exec so that the kernel kills it when we end.

    Meant for `Popen(preexec_fn=...)`, and only in a process without threads. A small program that
    asks the kernel and then becomes the child would do without that condition, but costs the start
    of a second interpreter for every child; none of our parts starts a thread.
    """
    return functools.partial(die_with_parent, os.getpid())


@dataclass(frozen=True)
class Program:
    """What to run, and the name that its lines are logged under."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path


@dataclass(eq=False)
class Child:
    """A program, the process that runs it now (if any), and what became of the earlier ones."""

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
        """The name that lines and messages use."""
        return self.program.name

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that `data` completes; what grows too long counts as a line."""
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        yield from lines
        if len(self._unfinished) > LINE_LIMIT_BYTES:
            yield from self.rest()

    def rest(self) -> Iterator[bytes]:
        """Yield what stands after the last line end, if anything."""
        rest, self._unfinished = self._unfinished, b""
        if rest:
            yield rest

    def note_death(self, now: float) -> bool:
        """Plan the next start, with back-off; False when it has died too often to go on."""
        settled = now - self.started_at >= SETTLED_AFTER_S
        self.backoff_s = FIRST_BACKOFF_S if settled else self._longer_backoff_s()
        self.deaths.append(now)
        if len(self.deaths) == MOST_DEATHS and now - self.deaths[0] < DEATHS_WINDOW_S:
            return False
        self.restart_at = now + self.backoff_s
        return True

    def _longer_backoff_s(self) -> float:
        return min(max(2 * self.backoff_s, FIRST_BACKOFF_S), LONGEST_BACKOFF_S)


class Supervisor:
    """Keep children running until they are told to stop.

    Use it as a context manager, in the main thread of a process without threads. Nothing happens
    but in `turn`, which `wait_until` repeats. SIGINT, SIGTERM and SIGHUP only add to `signals`;
    what they mean is the caller's to decide. Leaving the context kills what still runs.
    """

    def __init__(
        self, log: Callable[[str, str], None], secrets: Iterable[str] = ()
    ) -> None:
        """Give the lines of all children to `log(name, line)`, with `secrets` blotted out."""
        self.signals: list[int] = []
        self.failed: Child | None = None
        self._log = log
        self._secrets = [secret for secret in secrets if secret]
        self._children: dict[str, Child] = {}
        self._has_read = False
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Supervisor:
        """Take over the signals."""
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
        """Kill what still runs and give the signals back."""
        self._cleanup.close()

    def start(self, program: Program) -> None:
        """Start a child; from now on it is started again whenever it dies."""
        child = self._children[program.name] = Child(program)
        self._launch(child)

    def wait_until(
        self,
        condition: Callable[[], bool],
        limit_s: float = math.inf,
        every_s: float = 0.05,
    ) -> bool:
        """Work until `condition()` holds; False when it still does not after `limit_s`.

        It is looked at after every event, such as a death or a signal, and every `every_s` seconds.
        """
        deadline = time.monotonic() + limit_s
        while not condition():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            self.turn(min(every_s, left_s))
        return True

    def turn(self, timeout_s: float) -> None:
        """Log what was printed, note deaths, start what is due; wait at most `timeout_s` for any of
        it."""
        due_s = min(
            (child.restart_at for child in self._children.values()), default=math.inf
        )
        wait_s = max(0.0, min(timeout_s, due_s - time.monotonic()))
        if self._has_read:
            # Under load lines come by the thousand, and waking up costs more than passing one on.
            time.sleep(GATHER_S)
            self._has_read = False
        for key, _ in self._selector.select(wait_s):
            key.data()
        for child in self._children.values():
            if child.process and child.process.poll() is not None:
                self._write_tombstone(child, child.process)
            if child.restart_at <= time.monotonic():
                self._launch(child)

    def running(self, *names: str) -> bool:
        """Send whether any of these children runs."""
        return any(
            self._children[name].process for name in names if name in self._children
        )

    def recent_lines(self, name: str) -> list[str]:
        """Return the last lines that the child printed."""
        return list(self._children[name].recent) if name in self._children else []

    def terminate(self, *names: str) -> None:
        """Ask children to end (SIGTERM); they are not started again."""
        for child in self._mark_stopping(names):
            if child.process:
                child.process.terminate()

    def kill(self, *names: str) -> None:
        """Kill children together with what they started; they are not started again."""
        for child in self._mark_stopping(names):
            if child.process:
                _kill_group(child.process.pid)
                child.process.wait()
                self._write_tombstone(child, child.process)

    def stop(self, *names: str, limit_s: float) -> None:
        """Ask children to end, and kill those that have not after `limit_s`."""
        self.terminate(*names)
        self.wait_until(lambda: not self.running(*names), limit_s)
        self.kill(*names)

    def _mark_stopping(self, names: Iterable[str]) -> Iterator[Child]:
        for child in (self._children[name] for name in names if name in self._children):
            child.stopping, child.restart_at = True, math.inf
            yield child

    def _kill_all(self) -> None:
        self.kill(*self._children)

    def _launch(self, child: Child) -> None:
        child.started_at, child.restart_at = time.monotonic(), math.inf
        child.output, written = os.pipe()
        os.set_blocking(child.output, False)
        self._selector.register(
            child.output, selectors.EVENT_READ, functools.partial(self._read, child)
        )
        try:
            child.process = _spawn(child.program, written)
        except OSError as error:
            self._say(child, str(error).encode())
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
                self._say(child, line)
            # A child may close its output and live on.
            if not data:
                self._close_output(child)

    def _close_output(self, child: Child) -> None:
        if child.output is not None:
            self._selector.unregister(child.output)
            os.close(child.output)
            child.output = None

    def _write_tombstone(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        # What it had started, such as the server's workers, may still hold its port.
        _kill_group(process.pid)
        self._read(child)
        for line in child.rest():
            self._say(child, line)
        self._close_output(child)
        child.process = None
        self._after_death(child, _end_of(process.returncode))

    def _after_death(self, child: Child, how: str) -> None:
        child.last_end = how
        if child.stopping:
            return
        if child.note_death(time.monotonic()):
            self._log(
                "local",
                f"{child.name} ended: {how}; starting it again in {child.backoff_s:g} s",
            )
        else:
            self._log("local", f"{child.name} ended: {how}; giving up")
            self.failed = self.failed or child

    def _say(self, child: Child, line: bytes) -> None:
        if not line.strip():
            return
        text = line.rstrip(b"\r").decode(errors="backslashreplace").translate(_ESCAPES)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        child.recent.append(text)
        self._log(child.name, text)

    def _watch_signals(self) -> None:
        """Note the stop signals, and wake the selector for them and for the death of a child."""
        wakeup, written = os.pipe()
        self._cleanup.callback(os.close, wakeup)
        self._cleanup.callback(os.close, written)
        for end in (wakeup, written):
            os.set_blocking(end, False)
        self._selector.register(
            wakeup, selectors.EVENT_READ, lambda: os.read(wakeup, 4096)
        )
        self._cleanup.callback(
            signal.set_wakeup_fd,
            signal.set_wakeup_fd(written, warn_on_full_buffer=False),
        )
        self._handle(signal.SIGCHLD, lambda *_: None)
        for number in _STOP_SIGNALS:
            # Whoever starts us with nohup means us to go on when the terminal closes.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._handle(number, self._note_signal)

    def _handle(
        self, number: int, handler: Callable[[int, FrameType | None], Any]
    ) -> None:
        self._cleanup.callback(signal.signal, number, signal.signal(number, handler))

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self.signals.append(number)


class Log:
    """Lines of several parts in one stream, each under the name of its part."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, in colour when a person watches."""
        self._stream = stream
        self._coloured = stream.isatty()

    def __call__(self, name: str, line: str) -> None:
        """Write one line; if nobody can read it any more, that is no reason to stop."""
        label = f"{name:<6} |"
        if self._coloured:
            label = f"\x1b[{_COLOURS.get(name, 1)}m{label}\x1b[0m"
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{label} {line}\n")
            self._stream.flush()


def _spawn(program: Program, output: int) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that a terminal's Ctrl-C reaches only us."""
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
    # macOS answers "not permitted" for a group of which only a zombie is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _end_of(return_code: int) -> str:
    if return_code < 0:
        return f"killed by signal {-return_code} ({signal.strsignal(-return_code)})"
    return f"exit code {return_code}"
