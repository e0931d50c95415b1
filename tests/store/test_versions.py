"""The digest of the code that decides the numbers: what changes it, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rowcast.store import versions
from tests.support import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the code that may be changed."""
    shutil.copytree(ROOT / "rowcast", tmp_path / "rowcast")
    for name in ("ml.py", "server.py", "worker.py"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def change(path: Path) -> None:
    path.write_text(path.read_text() + "\n# Changed.\n")


def test_digest_of_a_copy_is_that_of_the_code(checkout: Path) -> None:
    assert versions.code_of(checkout) == versions.code()


@pytest.mark.parametrize(
    "name",
    [
        "ml.py",
        "rowcast/tables/columns.py",
        "rowcast/learning/training.py",
        "rowcast/learning/explanations/permutation.py",
    ],
)
def test_change_of_what_decides_the_numbers_changes_the_digest(
    checkout: Path, name: str
) -> None:
    change(checkout / name)
    assert versions.code_of(checkout) != versions.code()


def test_new_module_that_decides_the_numbers_changes_the_digest(checkout: Path) -> None:
    (checkout / "rowcast" / "tables" / "orc.py").write_text("")
    assert versions.code_of(checkout) != versions.code()


@pytest.mark.parametrize(
    "name",
    ["server.py", "worker.py", "rowcast/api/routes/jobs.py", "rowcast/jobs/queue.lua"],
)
def test_change_of_a_route_or_of_the_queue_leaves_the_digest(
    checkout: Path, name: str
) -> None:
    change(checkout / name)
    assert versions.code_of(checkout) == versions.code()
