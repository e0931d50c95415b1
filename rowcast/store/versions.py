"""The versions of the code and the libraries that made a model, and how they differ from ours."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rowcast

DECIDING_FOLDERS = ("rowcast/tables", "rowcast/learning")
LIBRARIES = ("scikit-learn", "skrub", "numpy", "pandas", "pyarrow", "joblib")


@functools.cache
def current() -> dict[str, str]:
    """Return the versions of Rowcast, Python and the libraries that a model depends on."""
    versions = {
        "rowcast": rowcast.__version__,
        "code": code(),
        "python": platform.python_version(),
    }
    for name in LIBRARIES:
        versions[name] = importlib.metadata.version(name)
    return versions


@functools.cache
def code() -> str:
    """Return the digest of the code that decides the numbers of a model; see `code_of`."""
    return code_of(Path(rowcast.__file__).parent.parent)


def code_of(root: Path) -> str:
    """Return a digest of the deciding code of a checkout: 12 hexadecimal digits.

    It covers `ml.py` and everything in `rowcast/tables` and `rowcast/learning`. A change of other
    code, such as a route, does not change it, so `reuse` still finds earlier jobs.
    """
    digest = hashlib.sha256()
    for path in _deciding_files(root):
        name = path.relative_to(root).as_posix()
        digest.update(name.encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _deciding_files(root: Path) -> list[Path]:
    modules: list[Path] = []
    for folder in DECIDING_FOLDERS:
        modules += (root / folder).rglob("*.py")
    return [root / "ml.py", *sorted(modules)]


def differences(made_by: Mapping[str, Any]) -> str:
    """Return the libraries that differ from a model's, such as `joblib 1.4.0, here 1.5.2`."""
    here = current()
    changed = [
        name for name in LIBRARIES if made_by.get(name, here[name]) != here[name]
    ]
    texts = [f"{name} {made_by[name]}, here {here[name]}" for name in changed]
    return ", ".join(texts)
