"""Folders whose content is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from rowcast.system.directories import private


def test_a_new_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert private(tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_is_refused_by_name(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(
        PermissionError, match="shared must belong to the user that runs Rowcast"
    ):
        private(shared)
