"""One thread for every test of learning."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _use_one_thread(one_thread: None) -> None:
    """Fit with one thread."""
