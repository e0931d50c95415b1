"""Each line of the tables in docs/tables.md is held by the test that it names."""

from __future__ import annotations

import re

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


SOURCES = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
TESTS = set(re.findall(r"^def (test_\w+)", SOURCES, re.MULTILINE))


def exists(test: str) -> bool:
    """Return whether there is a test of this name and, in brackets, a case of this name."""
    name, _, case = test.removesuffix("]").partition("[")
    return name in TESTS and f'"{case}"' in SOURCES


def test_every_table_names_its_tests() -> None:
    headers = [row for row in ROWS if row[-1] == "test"]
    n_tables = len(re.findall(r"^\|[ |-]+\|$", TEXT, re.MULTILINE))
    assert len(headers) == n_tables > 8


def test_table_of_spellings_is_that_of_the_test() -> None:
    start = TEXT.index(spellings.HEADER)
    shown = TEXT[start : TEXT.index("\n\n", start)].splitlines()
    assert shown[2:] == [spelling.row() for spelling in spellings.SPELLINGS]


def test_every_line_names_a_test_that_there_is() -> None:
    named = [row[-1].strip("`") for row in ROWS if row[-1] != "test"]
    assert len(named) > 80
    assert [name for name in named if not exists(name)] == []
