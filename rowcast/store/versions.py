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
    """Return what tells one state of the code that fits and predicts from another: 12 hexadecimal
    digits."""
    root = Path(rowcast.__file__).parent
    files = [*sorted(root.glob("*.py")), root.parent / "ml.py"]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[
        :12
    ]


def differences(made_by: Mapping[str, Any]) -> str:
    """Return which libraries differ from those that made a model, as `scikit-learn 1.8.0, here
    1.9.1`."""
    here = current()
    names = [
        name for name in LIBRARIES if name in made_by and made_by[name] != here[name]
    ]
    return ", ".join(f"{name} {made_by[name]}, here {here[name]}" for name in names)
