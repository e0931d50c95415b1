"""`make env` writes real secrets, once."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.make_env import main
from tests.support import ROOT


def test_env_has_secrets_that_only_its_owner_can_read(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".env.example", tmp_path)
    assert main(folder=tmp_path) == 0
    written = tmp_path / ".env"
    assert "=change-me" not in written.read_text()
    assert written.stat().st_mode & 0o777 == 0o600
    before = written.read_text()
    assert main(folder=tmp_path) == 1
    assert written.read_text() == before
