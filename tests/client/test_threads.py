"""One client in many threads."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import client as module
from client import Client
from tests.support.fake_service import PREDICTIONS, Server


def test_threads_share_a_client(
    client: Client, service: Server, objects: dict[str, bytes], pauses: list[float]
) -> None:
    def whole_path(i: int) -> int:
        dataset_id = client.upload(bytes([i]) * 100_000)
        model_id = client.fit(dataset_id, timeout=None, learner="boosting")
        result_id = client.predict(dataset_id, model_id, timeout=None)
        return len(client.download(result_id))

    with ThreadPoolExecutor(40) as pool:
        lengths = list(pool.map(whole_path, range(40)))
    assert lengths == [len(PREDICTIONS)] * 40
    assert len(client.jobs) == 80


def test_progress_is_shown_only_in_the_main_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert module._is_watched()
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(module._is_watched).result()
