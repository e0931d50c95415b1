"""Which code and which libraries made a model, and whether it may be used with others."""

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
    own = {
        "rowcast": rowcast.__version__,
        "code": code(),
        "python": platform.python_version(),
    }
    return {**own, **{name: importlib.metadata.version(name) for name in LIBRARIES}}


@functools.cache
def code() -> str:
    """Return the digest of the code that decides the numbers of a model; see `code_of`."""
    return code_of(Path(rowcast.__file__).parent.parent)


def code_of(root: Path) -> str:
    """Return what tells one state of the deciding code from another: 12 hexadecimal digits.

    It covers `ml.py` and everything in `rowcast/tables` and `rowcast/learning`. A change of other
    code, such as a route, leaves it as it is, so that `reuse` still finds earlier jobs.
    """
    digest = hashlib.sha256()
    for path in _deciding_files(root):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _deciding_files(root: Path) -> list[Path]:
    modules = [
        path for folder in DECIDING_FOLDERS for path in (root / folder).rglob("*.py")
    ]
    return [root / "ml.py", *sorted(modules)]


def differences(made_by: Mapping[str, Any]) -> str:
    """Return which libraries differ from those that made a model, as `scikit-learn 1.8.0, here
    1.9.1`."""
    here = current()
    names = [
        name for name in LIBRARIES if name in made_by and made_by[name] != here[name]
    ]
    return ", ".join(f"{name} {made_by[name]}, here {here[name]}" for name in names)
