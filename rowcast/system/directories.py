"""Folders that only their owner may write to, because their content is trusted."""

from __future__ import annotations

import os
from pathlib import Path


def private(path: Path) -> Path:
    """Return a folder, and create it if necessary.

    Raises:
        PermissionError: it belongs to another user, or others may write to it, as may happen in a
            shared temporary folder.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(
            f"{path} must belong to the user that runs Rowcast, and nobody else may write to "
            "it: correct its owner and mode, or choose another folder"
        )
    return path
