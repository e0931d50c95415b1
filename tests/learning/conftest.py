"""One thread for every test of learning."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import threadpoolctl


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # Boosting with several threads beside other busy processes takes up to a hundred times as long.
    with threadpoolctl.threadpool_limits(1):
        yield
