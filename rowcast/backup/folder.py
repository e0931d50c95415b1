"""The folder of a backup: where its files are, and an index that proves they are unchanged.

    index.json          every object and the SHA-256 of every file; of datasets, the versions that
                        jobs expect
    redis.jsonl         a line for each key: its value as Redis' DUMP writes it, and its expiry
    objects/ab/abcd...  the bytes of objects, named by their SHA-256
    included/...        files that were given with --include

The index is written last, so a folder without one is not a finished backup. Only the user that
made a backup can read it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

FORMAT = 1
INDEX = "index.json"
REDIS = "redis.jsonl"
OBJECTS = "objects"
INCLUDED = "included"

# As JSON: `format`, `created_at` in Unix seconds, `n_keys`, `files` (a SHA-256 by path), `objects`.
Index = dict[str, Any]
# An object in the index: `bucket`, `key`, `sha256`, and its version's `size` and `tag`.
Entry = dict[str, Any]


class BackupError(Exception):
    """A backup cannot be made or restored; the message says why and what to do."""


def prepare(folder: Path) -> None:
    """Make the folder of a new backup.

    Raises:
        BackupError: the folder is not empty.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BackupError(f"{folder} is not empty. Name a new folder.")
    for name in (OBJECTS, INCLUDED):
        (folder / name).mkdir(mode=0o700)


def include(folder: Path, path: Path) -> None:
    """Copy a file of the caller's into the backup."""
    copy = folder / INCLUDED / path.name
    shutil.copyfile(path, copy)
    copy.chmod(0o600)


def finish(folder: Path, n_keys: int, objects: Sequence[Entry]) -> Index:
    """Write the index of a backup that is complete, and return it."""
    files = [folder / REDIS, *(folder / INCLUDED).iterdir()]
    index = {
        "format": FORMAT,
        "created_at": time.time(),
        "n_keys": n_keys,
        "files": {str(path.relative_to(folder)): digest(path) for path in files},
        "objects": list(objects),
    }
    write_index(folder, index)
    return index


def write_index(folder: Path, index: Index) -> None:
    """Write the index as a whole or not at all, with its own SHA-256."""
    signed = {"sha256": _text_digest(json.dumps(index)), "index": index}
    part = folder / f"{INDEX}.part"
    with open_private(part) as file:
        file.write(json.dumps(signed).encode())
    part.replace(folder / INDEX)


def verified(folder: Path) -> Index:
    """Return the index of a backup, all of whose files are there and unchanged.

    Raises:
        BackupError: the backup is damaged or was not finished; the message names what is wrong.
    """
    index = _read_index(folder)
    expected = dict(index["files"])
    for entry in index["objects"]:
        expected[place_of(entry["sha256"])] = entry["sha256"]
    for name, sha256 in expected.items():
        if not (folder / name).is_file():
            raise BackupError(f"The backup {folder} is damaged: {name} is missing.")
        if digest(folder / name) != sha256:
            raise _changed(folder, name)
    return index


def _read_index(folder: Path) -> Index:
    if not folder.is_dir():
        raise BackupError(f"Folder {folder} does not exist.")
    if not (folder / INDEX).is_file():
        raise BackupError(
            f"The backup {folder} was not finished: it has no {INDEX}. Make a new backup."
        )
    try:
        saved = json.loads((folder / INDEX).read_bytes())
        index, sha256 = saved["index"], saved["sha256"]
    except (ValueError, TypeError, KeyError):
        raise _changed(folder, INDEX) from None
    if not isinstance(index, dict) or _text_digest(json.dumps(index)) != sha256:
        raise _changed(folder, INDEX)
    if index.get("format") != FORMAT:
        raise BackupError(
            f"Another version of Rowcast made the backup {folder} "
            f"(format {index['format']}, not {FORMAT})."
        )
    return index


def _changed(folder: Path, name: str) -> BackupError:
    return BackupError(f"The backup {folder} is damaged: {name} is not what was saved.")


def place_of(sha256: str) -> str:
    """Return where in the folder an object with these bytes is."""
    return f"{OBJECTS}/{sha256[:2]}/{sha256}"


def open_private(path: Path) -> BinaryIO:
    """Open a file for writing that only its owner can read."""
    path.touch(mode=0o600)
    return path.open("wb")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
