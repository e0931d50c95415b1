"""Receivers of webhooks, on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.receiver import Receiver


@pytest.fixture
def start_receiver() -> Iterator[Callable[[], Receiver]]:
    """Return a function that starts a receiver, which runs until the test ends."""
    receivers: list[Receiver] = []

    def start() -> Receiver:
        receivers.append(Receiver())
        return receivers[-1]

    yield start
    for receiver in receivers:
        receiver.stop()


@pytest.fixture
def receiver(start_receiver: Callable[[], Receiver]) -> Receiver:
    return start_receiver()
