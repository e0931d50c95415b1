"""Folders that only their owner may write, because what lies in them is trusted."""

from __future__ import annotations

import os
from pathlib import Path


def private(path: Path) -> Path:
    """Return the folder, made if need be.

    Raises:
        PermissionError: it belongs to another user, or others may write it, as in a shared
            temporary folder.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(
            f"{path} must belong to the user that runs Rowcast, and nobody else may write it: "
            "correct its owner and mode, or name another folder"
        )
    return path
