"""Each promise of docs/security.md names its tests, and there are such tests."""

from __future__ import annotations

import re

import pytest

from tests.support import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text()
PROMISES = TEXT.partition("## Promises\n")[2].partition("\n## ")[0]
ROWS = [
    line.split("|")[1:-1] for line in PROMISES.splitlines() if line.startswith("| ")
][2:]


@pytest.mark.slow
def test_every_promise_names_tests_that_there_are() -> None:
    assert len(ROWS) > 5
    texts = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    everything = "\n".join(texts)
    for promise, _, tests in ROWS:
        named = re.findall(r"`(test_\w+)`", tests)
        assert named, promise
        for name in named:
            assert f"def {name}(" in everything, name
