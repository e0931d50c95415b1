"""Patterns need time in proportion to the text, whoever wrote it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, patterns

MAX_CPU_S = 60


def run(*paths: str) -> subprocess.CompletedProcess[str]:
    """Attack the patterns of these files, all by default, with a limit of CPU time."""
    return subprocess.run(
        [sys.executable, "-m", "tests.support.patterns", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S)
        ),
    )


def test_every_pattern_needs_linear_time() -> None:
    done = run()
    assert done.stdout == ""
    assert done.returncode == 0, done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "statement",
    [
        r're.fullmatch(r"\d+\.?\d*", "")',
        r're.fullmatch(r"\d{4}-\d{2}([T ]\d{2}(\.\d+)?\s*(Z)?)?\s*", "")',
    ],
)
def test_quadratic_pattern_is_found(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "slow.py"
    path.write_text(f"import re\n{statement}\n")
    assert run(str(path)).stdout.startswith("slow.py:2")


def test_pattern_that_is_not_a_constant_is_found(tmp_path: Path) -> None:
    path = tmp_path / "unknown.py"
    path.write_text("import re\nre.match(pattern, text)\n")
    with pytest.raises(AssertionError, match=r"unknown\.py:2"):
        patterns.collected([path])


def test_patterns_of_all_kinds_are_collected() -> None:
    found = patterns.collected()
    methods = {method for pattern in found for method in pattern.methods}
    assert methods >= {"match", "fullmatch", "search", "findall", "arrow"}
    assert len(found) > 40
