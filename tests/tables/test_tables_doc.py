"""Each line of the tables in docs/tables.md is held by the test that it names."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support import ROOT, spellings

TEXT = (ROOT / "docs" / "tables.md").read_text()
# A bar within a cell is escaped.
LINES = [
    re.split(r"(?<!\\)\|", line)[1:-1]
    for line in TEXT.splitlines()
    if line.startswith("|")
]
ROWS = [
    [cell.strip() for cell in line] for line in LINES if set("".join(line)) - set("- ")
]


@pytest.fixture(scope="module")
def tests() -> set[str]:
    """Return the names of all tests of tables, with and without their cases."""
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
    paths = [
        "tests/tables",
        "tests/learning",
        "tests/test_ml.py",
        "tests/test_server.py",
    ]
    found = subprocess.run(
        [*command, *paths], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = {line.partition("::")[2] for line in found.splitlines() if "::" in line}
    return names | {name.partition("[")[0] for name in names}


def test_every_table_names_its_tests() -> None:
    headers = [row for row in ROWS if row[-1] == "test"]
    n_tables = len(re.findall(r"^\|[ |-]+\|$", TEXT, re.MULTILINE))
    assert len(headers) == n_tables > 8


def test_table_of_spellings_is_that_of_the_test() -> None:
    start = TEXT.index(spellings.HEADER)
    shown = TEXT[start : TEXT.index("\n\n", start)].splitlines()
    assert shown[2:] == [spelling.row() for spelling in spellings.SPELLINGS]


@pytest.mark.slow
def test_every_line_names_a_test_that_there_is(tests: set[str]) -> None:
    named = [row[-1].strip("`") for row in ROWS if row[-1] != "test"]
    assert len(named) > 80
    assert [name for name in named if name not in tests] == []
