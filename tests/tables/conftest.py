"""Fixtures for the tests of tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rowcast.config import Settings
from rowcast.tables import Limits, Source, formats
from tests.support.files import parquet

LIMITS = Limits.of(Settings())


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[Any], Source]:
    """Return a function that opens a table, or a file's content, as a job does."""

    def open_file(content: pa.Table | bytes) -> Source:
        path = tmp_path / "table"
        path.write_bytes(content if isinstance(content, bytes) else parquet(content))
        return formats.open_file(path, LIMITS)

    return open_file
