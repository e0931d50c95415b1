"""Each promise of docs/reliability.md is held by the tests it names; each test of faults is named there."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from conftest import ROOT

TEXT = (ROOT / "docs" / "reliability.md").read_text()
PROMISES = TEXT.partition("## Promises\n")[2].partition("\n## ")[0]
ROWS = [line.split("|")[1:-1] for line in PROMISES.splitlines() if line.startswith("| ")][2:]
# These begin what others see the end of, or look at documents.
WITHOUT_A_LINE = {"test_the_part_is_away"}


def collected(*paths: str) -> set[str]:
    """Return the names of the tests in these files and folders, without their cases."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
    ]
    found = subprocess.run([*command, *paths], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {line.partition("::")[2].partition("[")[0] for line in found.splitlines() if "::" in line}


@pytest.fixture(scope="module")
def of_faults() -> set[str]:
    return {name for name in collected("tests/faults") if name not in globals()} - WITHOUT_A_LINE


def test_every_promise_names_its_tests(of_faults: set[str]) -> None:
    named = [re.findall(r"`(test_\w+)`", row[-1]) for row in ROWS]
    assert len(named) > 30
    assert all(named)
    beside = [f"tests/test_{subject}.py" for subject in ("control", "outages", "publishing", "worker")]
    others = collected(*beside)
    assert {name for names in named for name in names} <= of_faults | others


def test_every_test_of_faults_is_named(of_faults: set[str]) -> None:
    assert of_faults <= set(re.findall(r"`(test_\w+)`", PROMISES))
