"""Load a published model; nothing is unpickled before its signature and its digest match."""

from __future__ import annotations

import mmap
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib

from rowcast.errors import (
    ModelIncompatible,
    ModelNotFound,
    ModelTooLarge,
    ModelUntrusted,
)
from rowcast.learning import Predictor
from rowcast.store import publications, signing, versions
from rowcast.store.answers import ObjectMissing
from rowcast.store.object_store import Storage
from rowcast.store.publications import JobRef, Publication
from rowcast.tables import Feature

# Members of a manifest without which a model cannot be used.
_NEEDED = ("file", "features", "target", "target_type", "task", "classes", "intervals")
# What unpickling or calling a model raises where libraries have changed.
_LIKELY_ERRORS = (
    ImportError,
    AttributeError,
    TypeError,
    KeyError,
    ValueError,
    EOFError,
)


def load(
    storage: Storage,
    keys: signing.Keys,
    owner: str,
    model_id: str,
    path: Path,
    *,
    max_bytes: int | None = None,
) -> tuple[Predictor, dict[str, Any]]:
    """Return a model and its manifest; the model's file is downloaded to `path`.

    Raises:
        ModelNotFound: the model or its file does not exist.
        ModelUntrusted: the workers have not signed its manifest, or its file has changed.
        ModelIncompatible: other versions of libraries made it, and it cannot be loaded.
        ModelTooLarge: its file has more than `max_bytes`.
        StoreUnavailable: the store does not answer.
    """
    job = JobRef(owner, "fit", model_id)
    found = publications.find(storage, job)
    if found is None:
        raise ModelNotFound(f"Model {model_id} does not exist.")
    about = found.manifest
    keys.verify(job, found.attempt, about)
    _check_members(model_id, about)

    size = about["file"]["size"]
    if max_bytes is not None and size > max_bytes:
        raise ModelTooLarge(
            f"Model {model_id} has {size:,} bytes, more than the maximum of {max_bytes:,}."
        )
    _download(storage, owner, model_id, found, path)
    with checking_versions(about):
        return _predictor(path, about), about


def _check_members(model_id: str, about: dict[str, Any]) -> None:
    missing = [name for name in _NEEDED if name not in about]
    if missing:
        raise ModelIncompatible(
            f"The manifest of model {model_id} is that of an earlier version: it lacks "
            f"{', '.join(missing)}."
        )


def _download(
    storage: Storage, owner: str, model_id: str, found: Publication, path: Path
) -> None:
    """Download a model's file, and check that it is the one that was signed."""
    name = f"{found.attempt}/{publications.MODEL_FILE}"
    try:
        digest = storage.download("models", owner, model_id, name, path)
    except ObjectMissing:
        raise ModelNotFound(f"The file of model {model_id} is missing.") from None
    if digest != found.manifest["file"]["sha256"]:
        raise ModelUntrusted(
            f"The file of model {model_id} is not the one that was signed."
        )


def _predictor(path: Path, about: dict[str, Any]) -> Predictor:
    with warnings.catch_warnings():
        # scikit-learn warns about models of other versions. A model that does not work raises.
        warnings.simplefilter("ignore")
        model = _unpickled(path)
    features = [Feature(**feature) for feature in about["features"]]
    return Predictor(
        model,
        features,
        about["target"],
        about["target_type"],
        about["classes"],
        about["intervals"],
        sets=about.get("sets"),
    )


def _unpickled(path: Path) -> Any:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        # Files that joblib wrote name its wrapper of arrays. joblib can read any pickle, but is
        # slow.
        if content.find(b"NumpyArrayWrapper") >= 0:
            return joblib.load(path)
        # Its signature and digest have been verified.
        return pickle.load(file)  # noqa: S301 # nosec B301


@contextmanager
def checking_versions(about: dict[str, Any]) -> Iterator[None]:
    """Raise ModelIncompatible for an error of a model that other versions of libraries made.

    The versions are its likely cause. Errors of models of the same versions pass unchanged.
    """
    try:
        yield
    except _LIKELY_ERRORS as error:
        different = versions.differences(about.get("versions", {}))
        if not different:
            raise
        raise ModelIncompatible(
            f"Model {about['id']} was made with other versions of the libraries, and does not "
            f"work with the current ones: {different}."
        ) from error
