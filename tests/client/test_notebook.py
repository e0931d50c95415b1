"""Progress in the kernel of a notebook."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from client import Client
from tests.support.fake_service import Server


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("tqdm", [True, False])
def test_notebook_shows_progress_without_a_terminal(
    client: Client,
    busy: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tqdm: Any,
) -> None:
    shell = types.SimpleNamespace(kernel=object())
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    if tqdm:
        pytest.importorskip("tqdm.auto")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    client.wait("j1")
    assert "fitting 43 %, attempt 2, 1 m 12 s left" in "".join(capsys.readouterr())


def test_ipython_in_a_pipe_is_not_a_notebook(
    client: Client,
    busy: Server,
    pauses: list[float],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for shell in (None, object()):
        ipython = types.SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        client.wait("j1")
    assert capsys.readouterr() == ("", "")
