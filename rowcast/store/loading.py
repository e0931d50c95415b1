"""A published model, loaded: nothing is unpickled before its signature and its digest match."""

from __future__ import annotations

import mmap
import pickle
import warnings
from collections.abc import Iterator, Sequence
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
from rowcast.store.publications import JobRef
from rowcast.tables import Feature


def load(
    storage: Storage,
    keys: Sequence[str],
    owner: str,
    model_id: str,
    path: Path,
    *,
    max_bytes: int | None = None,
) -> tuple[Predictor, dict[str, Any]]:
    """Return a model, whose file is downloaded to `path`, and its manifest.

    Raises:
        ModelNotFound: there is none, or its file is missing.
        ModelUntrusted: its signature or its file is not what the workers have made.
        ModelIncompatible: it was made by other versions of libraries, and cannot be loaded.
        ModelTooLarge: its file has more than `max_bytes`.
        StoreUnavailable: the store does not answer.
    """
    found = publications.find(storage, JobRef(owner, "fit", model_id))
    if found is None:
        raise ModelNotFound(f"Model {model_id} does not exist.")
    about = found.manifest
    signing.verify(keys, owner, model_id, about)
    if max_bytes is not None and about["file"]["size"] > max_bytes:
        raise ModelTooLarge(
            f"Model {model_id} has {about['file']['size']:,} bytes; {max_bytes:,} may be kept."
        )
    name = f"{found.attempt}/{publications.MODEL_FILE}"
    try:
        digest = storage.download("models", owner, model_id, name, path)
    except ObjectMissing:
        raise ModelNotFound(f"The file of model {model_id} is missing.") from None
    if digest != about["file"]["sha256"]:
        raise ModelUntrusted(
            f"The file of model {model_id} is not the one that was signed."
        )
    with refused_if_of_other_versions(about):
        return _predictor(path, about), about


def _predictor(path: Path, about: dict[str, Any]) -> Predictor:
    with warnings.catch_warnings():
        # scikit-learn warns of a model of another version; what does not work is refused.
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
    )


def _unpickled(path: Path) -> Any:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        # What joblib wrote names its wrapper of arrays; its own reader takes all pickles, but is
        # slow.
        if content.find(b"NumpyArrayWrapper") >= 0:
            return joblib.load(path)
        return pickle.load(file)  # noqa: S301 - its signature and digest have been verified


@contextmanager
def refused_if_of_other_versions(about: dict[str, Any]) -> Iterator[None]:
    """Turn what a model raises into ModelIncompatible where other versions, the likely cause, made
    it."""
    try:
        yield
    except (
        ImportError,
        AttributeError,
        TypeError,
        KeyError,
        ValueError,
        EOFError,
    ) as error:
        different = versions.differences(about.get("versions", {}))
        if not different:
            raise
        raise ModelIncompatible(
            f"Model {about['id']} was made by other versions of libraries and does not work "
            "with these: "
            f"{different}."
        ) from error
