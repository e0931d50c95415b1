"""Forked children: kept running, restarted alone, and stopped by the signals of their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

PARENT = """
import signal, sys, time
from functools import partial
from pathlib import Path
from rowcast.system import forks

folder = Path(sys.argv[1])

def until_told(name, n_signals):
    # Each signal leaves a file; the last one ends the process.
    seen = []
    def note(*_):
        seen.append(1)
        (folder / f"{name}-{len(seen)}").touch()
    signal.signal(signal.SIGTERM, note)
    (folder / name).touch()
    while len(seen) < n_signals:
        time.sleep(0.01)

class Impatient(forks.Child):
    def start(self):
        # As when the system has no process left.
        if (folder / "full").exists():
            (folder / "full").unlink()
            raise OSError(11, "Resource temporarily unavailable")
        super().start()

    def check(self):
        if (folder / "kill").exists():
            (folder / "kill").unlink()
            self.kill()

children = [
    Impatient("first", partial(until_told, "first", 1)),
    forks.Child("second", partial(until_told, "second", int(sys.argv[2]))),
]
forks.ForkSupervisor(children, stop_limit_s=float(sys.argv[3])).run()
"""


class Parent:
    """A process with two children, which leave a file when they have started."""

    def __init__(self, folder: Path, n_signals: int = 1, stop_limit_s: str = "inf"):
        arguments = [str(folder), str(n_signals), stop_limit_s]
        command = [sys.executable, "-c", PARENT, *arguments]
        self.folder = folder
        self.process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        eventually(lambda: self.has("first") and self.has("second"))

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Parent]:
    parent = Parent(tmp_path)
    yield parent
    parent.process.kill()
    parent.process.communicate()


def test_child_that_ends_is_restarted_alone(parent: Parent) -> None:
    first, second = parent.children()
    first.kill()
    (other,) = eventually(
        lambda: [each for each in parent.children() if each not in (first, second)]
    )
    assert second.is_running()
    assert other.pid != first.pid
    parent.process.terminate()
    _, logged = parent.process.communicate(timeout=20)
    assert "first ended (exit code -9); starting another" in logged


def test_child_that_a_check_kills_is_restarted(parent: Parent) -> None:
    first, second = parent.children()
    (parent.folder / "kill").touch()
    eventually(lambda: not first.is_running() and len(parent.children()) == 2)
    assert second.is_running()


def test_child_that_cannot_be_started_first_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "full").touch()
    parent = Parent(tmp_path)
    assert not parent.has("full")
    parent.process.terminate()
    _, logged = parent.process.communicate(timeout=20)
    assert "first cannot be started (Resource temporarily unavailable)" in logged


def test_child_that_cannot_be_started_is_tried_again(parent: Parent) -> None:
    first, second = parent.children()
    (parent.folder / "full").touch()
    first.kill()
    eventually(lambda: not parent.has("full"))
    eventually(lambda: len(parent.children()) == 2)
    assert second.is_running()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_parent_stops_its_children_and_then_itself(
    parent: Parent, number: signal.Signals
) -> None:
    children = parent.children()
    parent.process.send_signal(number)
    assert parent.process.wait(20) == 0
    assert not any(child.is_running() for child in children)


def test_ctrl_c_of_a_terminal_reaches_the_children_once(tmp_path: Path) -> None:
    parent = Parent(tmp_path, n_signals=2)
    os.killpg(parent.process.pid, signal.SIGINT)
    eventually(lambda: parent.has("second-1"))
    time.sleep(0.3)
    assert not parent.has("second-2")
    os.killpg(parent.process.pid, signal.SIGINT)
    assert parent.process.wait(20) == 0
    assert parent.has("second-2")
    parent.process.communicate()


def test_children_that_do_not_stop_are_killed_after_the_limit(tmp_path: Path) -> None:
    parent = Parent(tmp_path, n_signals=9, stop_limit_s="0.5")
    children = parent.children()
    parent.process.terminate()
    assert parent.process.wait(20) == 0
    assert not any(child.is_running() for child in children)
    parent.process.communicate()


def test_children_die_with_a_killed_parent(parent: Parent) -> None:
    children = parent.children()
    parent.process.kill()
    parent.process.wait()
    eventually(lambda: not any(child.is_running() for child in children))


ORPHANS = """
import ctypes, os, sys, time
from rowcast.system import forks

# As in a container, the orphans become children of this process.
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

def sleep():
    for _ in range(20):
        if os.fork() == 0:
            os.fork()
            os._exit(0)
    time.sleep(60)

children = [forks.Child("sleeper", sleep)]
forks.ForkSupervisor(children, collects_orphans=sys.argv[1] == "first").run()
"""


def test_first_process_of_a_container_collects_orphans() -> None:
    command = [sys.executable, "-c", ORPHANS, "first"]
    process = subprocess.Popen(command, cwd=ROOT)
    parent = psutil.Process(process.pid)
    eventually(lambda: len(parent.children()) > 1)
    sleeper = parent.children()[0]
    eventually(lambda: parent.children() == [sleeper])
    process.terminate()
    assert process.wait(10) == 0
