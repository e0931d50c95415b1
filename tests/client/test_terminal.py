"""Progress and Ctrl-C in a real terminal."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.fake_service import COURSE, Reply, Server
from tests.support.terminal import Terminal
from tests.support.waiting import eventually

WAITING = """
import sys, client
sys.exit(client.main(["--url", sys.argv[1], "status", "j1", "--wait"]))
"""


@pytest.mark.parametrize(
    "setup", ["", "import sys; sys.modules['tqdm'] = None\n"], ids=["tqdm", "plain"]
)
def test_terminal_shows_the_job_on_one_line(busy: Server, setup: Any) -> None:
    if not setup:
        pytest.importorskip("tqdm")
    terminal = Terminal(setup + WAITING, busy.url)
    assert terminal.end() == 0
    lines = terminal.shown.split("\r\n")
    assert lines[1:] == ["finished", ""]
    states = [
        "queued, 2 ahead of it",
        "fitting 43 %, attempt 2, 1 m 12 s left",
        "finished",
    ]
    places = [lines[0].index(state) for state in states]
    assert places == sorted(places)
    assert "\r" in lines[0]


def test_ctrl_c_stops_the_waiting_and_says_how_to_cancel(service: Server) -> None:
    service.answer = lambda _request: Reply(200, COURSE[1])
    terminal = Terminal(WAITING, service.url)
    terminal.wait_for("fitting 43 %")
    terminal.press(b"\x03")
    assert terminal.end() == 130
    how = "client.cancel('j1'), or in a shell: rowcast cancel j1"
    assert f"the job goes on. To cancel it: {how}" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert service.received("/cancel") == []


def test_interrupt_prints_nothing_without_a_terminal(service: Server) -> None:
    service.answer = lambda _request: Reply(200, COURSE[1])
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, service.url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as waiting:
        eventually(lambda: service.requests)
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate() == (b"", b"")
    assert waiting.returncode == 130
