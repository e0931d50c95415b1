"""`make env` writes real secrets, once."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from deploy.make_env import main
from rowcast.setting_types import ed25519_bytes
from rowcast.signatures import PrivateKey
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


def test_env_of_an_earlier_version_is_left_alone_and_what_it_lacks_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / ".env.example", tmp_path)
    lines = (tmp_path / ".env.example").read_text().splitlines()
    new = ("SIGNING_KEY=", "VERIFY_KEYS=", "HMAC_SIGNING_KEYS=")
    old = [line for line in lines if not line.startswith(new)]
    written = tmp_path / ".env"
    written.write_text("\n".join([*old, "SIGNING_KEYS=an-old-key", ""]))
    before = written.read_text()
    assert main(folder=tmp_path) == 1
    assert written.read_text() == before
    said = capsys.readouterr().err
    assert "Rename SIGNING_KEYS to HMAC_SIGNING_KEYS" in said
    (private,) = re.findall(r"^SIGNING_KEY=(.*)", said, re.MULTILINE)
    (public,) = re.findall(r"^VERIFY_KEYS=(.*)", said, re.MULTILINE)
    key = PrivateKey(ed25519_bytes("private", private))
    assert ed25519_bytes("public", public) == key.public_bytes
    assert "S3_SECRET_KEY" not in said
