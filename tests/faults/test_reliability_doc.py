"""Each promise of docs/reliability.md names its tests, and each test of faults is named there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support import ROOT

TEXT = (ROOT / "docs" / "reliability.md").read_text()
PROMISES = TEXT.partition("## Promises\n")[2].partition("\n## ")[0]
ROWS = [
    line.split("|")[1:-1] for line in PROMISES.splitlines() if line.startswith("| ")
][2:]
FOLDER = Path(__file__).parent
# One only begins what other tests check; the others test the soak itself.
WITHOUT_A_LINE = {
    "test_the_part_is_away",
    "test_history_that_makes_sense_is_no_problem",
    "test_history_that_makes_no_sense_is_a_problem",
}


def names_in(folder: Path) -> set[str]:
    """Return the names of the tests in the files of a folder."""
    trees = [
        ast.parse(path.read_text())
        for path in folder.rglob("test_*.py")
        if path != Path(__file__)
    ]
    functions = {
        node.name
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
    return {name for name in functions if name.startswith("test_")} - WITHOUT_A_LINE


@pytest.mark.slow
def test_every_promise_names_tests_that_there_are() -> None:
    named = [re.findall(r"`(test_\w+)`", row[-1]) for row in ROWS]
    assert len(named) > 30
    assert all(named)
    assert {name for names in named for name in names} <= names_in(FOLDER) | names_in(
        ROOT / "tests"
    )


def test_every_test_of_faults_is_named() -> None:
    assert names_in(FOLDER) <= set(re.findall(r"`(test_\w+)`", PROMISES))
