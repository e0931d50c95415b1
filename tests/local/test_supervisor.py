"""The supervisor with small programs of its own: it logs, restarts, stops and kills them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rowcast.local.supervisor import (
    FIRST_BACKOFF_S,
    LINE_LIMIT_BYTES,
    LONGEST_BACKOFF_S,
    Child,
    Log,
    Program,
    Supervisor,
)
from tests.support import ROOT
from tests.support.processes import has_ended
from tests.support.waiting import eventually


class Lines(list[tuple[str, str]]):
    """A log that tests can read."""

    def __call__(self, name: str, line: str) -> None:
        """Note a line."""
        self.append((name, line))

    def of(self, name: str) -> list[str]:
        """Return the lines under one name."""
        return [line for author, line in self if author == name]


@pytest.fixture
def lines() -> Lines:
    """Collect what is logged."""
    return Lines()


@pytest.fixture
def supervisor(lines: Lines) -> Iterator[Supervisor]:
    """Supervise in this very process."""
    with Supervisor(lines, secrets=["hunter2hunter2"]) as supervisor:
        yield supervisor


def shell(name: str, script: str, folder: Path) -> Program:
    """Make a program of a line of shell."""
    return Program(
        name, ["/bin/sh", "-c", script], {"PATH": os.environ["PATH"]}, folder
    )


def python(name: str, script: str, folder: Path) -> Program:
    """Make a program of a line of Python."""
    return Program(name, [sys.executable, "-c", script], {}, folder)


def test_lines_are_logged_under_the_name(
    supervisor: Supervisor, lines: Lines, tmp_path: Path
) -> None:
    supervisor.start(
        shell("child", "echo out; echo err >&2; printf unfinished", tmp_path)
    )
    assert supervisor.wait_until(lambda: bool(lines.of("local")), 5)
    assert lines.of("child") == ["out", "err", "unfinished"]


def test_long_and_binary_output_is_logged_in_printable_pieces(
    supervisor: Supervisor, lines: Lines, tmp_path: Path
) -> None:
    script = (
        "import os,time; os.write(1, b'x' * 200_000 + bytes(range(256)) + b'\\nlast\\n'); "
        "time.sleep(60)"
    )
    supervisor.start(python("child", script, tmp_path))
    assert supervisor.wait_until(lambda: bool(lines) and lines[-1][1] == "last", 5)
    pieces = lines.of("child")
    assert max(map(len, pieces)) < 3 * LINE_LIMIT_BYTES
    assert sum(piece.count("x" * 1000) for piece in pieces) >= 190
    assert all(
        character.isprintable() or character == "\t"
        for piece in pieces
        for character in piece
    )


def test_secrets_are_replaced(
    supervisor: Supervisor, lines: Lines, tmp_path: Path
) -> None:
    supervisor.start(
        shell("child", "echo redis://:hunter2hunter2@host; exec sleep 60", tmp_path)
    )
    assert supervisor.wait_until(lambda: bool(lines), 5)
    assert lines.of("child") == ["redis://:***@host"]


def test_child_that_closes_its_output_continues_to_run(
    supervisor: Supervisor, lines: Lines, tmp_path: Path
) -> None:
    supervisor.start(shell("child", "exec >&- 2>&-; exec sleep 60", tmp_path))
    supervisor.wait_until(lambda: False, 0.3)
    assert supervisor.running("child")
    assert not lines


@pytest.mark.slow
def test_fifth_death_within_a_minute_is_the_last(
    supervisor: Supervisor, lines: Lines, tmp_path: Path
) -> None:
    started_at = time.monotonic()
    supervisor.start(shell("child", "echo no luck; exit 3", tmp_path))
    supervisor.start(shell("other", "exec sleep 60", tmp_path))
    assert supervisor.wait_until(lambda: supervisor.failed is not None, 10)
    assert supervisor.failed
    assert supervisor.failed.name == "child"
    assert supervisor.failed.last_end == "exit code 3"
    assert supervisor.recent_lines("child") == ["no luck"] * 5
    # 0.1 + 0.2 + 0.4 + 0.8 s lay between them.
    assert time.monotonic() - started_at >= 1.5
    assert supervisor.running("other")


@pytest.mark.slow
def test_program_that_cannot_be_started_fails_the_same_way(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(Program("child", ["/nowhere/program"], {}, tmp_path))
    assert supervisor.wait_until(lambda: supervisor.failed is not None, 10)
    assert "No such file" in supervisor.recent_lines("child")[-1]


def test_back_off_doubles_to_its_limit_and_is_reset_after_a_stable_life(
    tmp_path: Path,
) -> None:
    child = Child(shell("child", "", tmp_path))
    now, backoffs = 0.0, []
    for _ in range(9):
        # Too rare for giving up, too soon for a stable life.
        now += 20
        child.started_at = now - 9
        assert child.note_death(now)
        backoffs.append(child.backoff_s)
    assert backoffs == [
        min(FIRST_BACKOFF_S * 2**n, LONGEST_BACKOFF_S) for n in range(9)
    ]
    child.started_at = now
    child.note_death(now + 10)
    assert child.backoff_s == FIRST_BACKOFF_S


def test_descendants_of_a_dead_child_are_gone_before_its_restart(
    supervisor: Supervisor, lines: Lines, tmp_path: Path
) -> None:
    supervisor.start(shell("child", "sleep 60 & echo $!; wait", tmp_path))
    assert supervisor.wait_until(lambda: len(lines.of("child")) == 1, 5)
    grandchild = psutil.Process(int(lines.of("child")[0]))
    os.kill(grandchild.ppid(), signal.SIGKILL)
    assert supervisor.wait_until(lambda: len(lines.of("child")) == 2, 5)
    assert has_ended(grandchild)


def test_child_that_ignores_sigterm_is_killed(
    supervisor: Supervisor, lines: Lines, tmp_path: Path
) -> None:
    supervisor.start(
        shell("child", "trap '' TERM; echo deaf; while :; do sleep 0.1; done", tmp_path)
    )
    assert supervisor.wait_until(lambda: bool(lines), 5)
    supervisor.stop("child", limit_s=0.3)
    assert not supervisor.running("child")
    assert lines == [("child", "deaf")]


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_names_are_colored_on_a_terminal_only() -> None:
    for stream, expected in (
        (io.StringIO(), "redis  | ready\n"),
        (Terminal(), "\x1b[35mredis  |\x1b[0m ready\n"),
    ):
        Log(stream)("redis", "ready")
        assert stream.getvalue() == expected


def test_closed_log_is_not_an_error() -> None:
    stream = io.StringIO()
    log = Log(stream)
    stream.close()
    log("redis", "ready")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_is_only_noted(supervisor: Supervisor, number: int) -> None:
    os.kill(os.getpid(), number)
    assert supervisor.wait_until(lambda: supervisor.signals == [number], 5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a death signal")
def test_child_dies_with_a_killed_supervisor(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from rowcast.local.supervisor import Program, Supervisor
with Supervisor(lambda name, line: print(line, flush=True)) as supervisor:
    command = ["/bin/sh", "-c", "echo $$; exec sleep 60"]
    program = Program("child", command, dict(os.environ), Path.cwd())
    supervisor.start(program)
    supervisor.wait_until(lambda: False)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        child = psutil.Process(int(process.stdout.readline()))
        process.kill()
    assert eventually(lambda: has_ended(child), 2)
