"""Sections, tables and code blocks of the documents."""

from __future__ import annotations

import re

from tests.support import ROOT

# Every document by its path below docs/, and the two at the root by their names.
DOCS = {
    "README.md": ROOT / "README.md",
    "CONTRIBUTING.md": ROOT / "CONTRIBUTING.md",
    **{
        str(path.relative_to(ROOT / "docs")): path for path in ROOT.glob("docs/**/*.md")
    },
}


def text_of(name: str) -> str:
    return DOCS[name].read_text()


def section_of(name: str, heading: str) -> str:
    parts = re.split(r"^## ", text_of(name), flags=re.MULTILINE)
    return next(part for part in parts if part.startswith(heading + "\n"))


def rows_of(text: str, *header: str) -> list[list[str]]:
    """Return the rows of all Markdown tables in a text that have this header."""
    rows, is_wanted = [], False
    for line in text.splitlines():
        cells = (
            [cell.strip() for cell in line[1:-1].split("|")]
            if line.startswith("|")
            else []
        )
        is_wanted = cells == list(header) or (is_wanted and bool(cells))
        if is_wanted and cells != list(header) and not set(line) <= set("| -"):
            rows.append(cells)
    return rows


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def code_blocks(name: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", text_of(name), re.MULTILINE | re.DOTALL
    )
