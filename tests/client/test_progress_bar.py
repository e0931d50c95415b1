"""Progress of uploads and jobs on stderr."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import client as module
from client import Client, NotFoundError
from tests.support.fake_service import D1, Server, problem, queue_full


@pytest.mark.usefixtures("watched")
def test_wait_shows_one_line_to_a_person_without_tqdm(
    client: Client,
    busy: Server,
    pauses: list[float],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setenv("COLUMNS", "70")
    client.wait("j1")
    lines = [
        "fit j1: queued, 2 ahead of it (0 s)",
        "fit j1: fitting 43 %, attempt 2, 1 m 12 s left (0 s)",
        "fit j1: finished (0 s)",
    ]
    shown = [f"\r{line:<69}" for line in lines]
    assert capsys.readouterr().err == "".join(shown) + "\n"
    assert busy.requests[0].query["wait"] == "1.0"


@pytest.mark.usefixtures("watched", "pauses")
def test_line_is_not_longer_than_the_terminal(
    client: Client,
    busy: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setenv("COLUMNS", "20")
    client.wait("j1")
    lines = re.split("[\r\n]", capsys.readouterr().err)
    assert {len(line) for line in lines} == {0, 19}


@pytest.mark.usefixtures("watched", "pauses")
def test_wait_shows_one_bar_to_a_person(
    client: Client, busy: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm")
    client.wait("j1")
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "fit ...j1" in shown
    assert "queued, 2 ahead of it" in shown
    assert "fitting 43 %, attempt 2, 1 m 12 s left" in shown
    assert "finished" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.2, "1 m 0 s"),
        (3599, "59 m 59 s"),
        (3600, "1 h 0 m"),
        (9e4, "25 h 0 m"),
    ],
)
def test_times_are_shown_in_their_two_largest_units(seconds: Any, text: Any) -> None:
    assert module._duration(seconds) == text


@pytest.mark.usefixtures("watched", "pauses")
def test_unknown_job_shows_nothing(
    client: Client, service: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    service.queued["/status"] = [problem(404, "job_not_found")]
    with pytest.raises(NotFoundError):
        client.wait("j1")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("watched", "pauses")
def test_full_queue_is_shown_once(
    client: Client, service: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    service.queued["/fit"] = [queue_full(1)] * 3
    client.fit(D1, learner="boosting")
    shown = capsys.readouterr().err
    assert shown == "It is queue_full. Waiting for a place in the queue.\n"


@pytest.mark.usefixtures("watched")
def test_upload_shows_a_bar_to_a_person(
    client: Client, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm")
    client.upload(table)
    assert "100%" in capsys.readouterr().err


@pytest.mark.usefixtures("watched")
def test_upload_shows_a_line_without_tqdm(
    client: Client,
    table: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    client.upload(table)
    assert capsys.readouterr().err == "uploading 0.0 MB\n"


def test_nothing_is_shown_without_a_terminal(
    client: Client, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.fit(client.upload(table), timeout=None, learner="boosting")
    assert capsys.readouterr() == ("", "")
