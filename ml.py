"""fit() and predict(): the two jobs, start to end.

Each downloads, checks, works and publishes. Whatever a table or model is refused for is raised as one of
`rowcast.errors`; nothing is visible to anybody before the manifest, which is written last.
"""

from __future__ import annotations

import gc
import hashlib
import platform
import time
from pathlib import Path
from typing import Any

import joblib
import narwhals.stable.v2
import sklearn

import rowcast
from rowcast import cores, learners, publishing, run, signing, tables
from rowcast.errors import DatasetNotFound, ModelNotFound, ModelUntrusted
from rowcast.storage import ObjectMissing, Version


def warm_up() -> None:
    """Do once, before forking, what every job would otherwise do again; no OpenMP thread is started."""
    import pandas

    cores.libraries()
    # scikit-learn looks at frames through narwhals, which loads its part for pandas at the first one.
    narwhals.stable.v2.from_native(pandas.DataFrame({"x": [0.0]}))
    # What is there already is left out of garbage collections, so that a fork shares its memory for longer.
    gc.freeze()


def fit(dataset_id: str, model_id: str, options: dict[str, Any]) -> None:
    """Fit a model on a dataset and publish it, signed.

    `options`: `target` and `task` as /fit takes them, `dataset` with the size and tag noted on submitting.

    Raises:
        DatasetNotFound, DatasetChanged, InvalidTable: the dataset cannot be used; says why.
        StoreUnavailable: the store does not answer.
    """
    job, clock = run.current(), _Clock()
    with cores.seat(job.settings.cores_dir) as seat:
        dataset = _download_dataset(job, dataset_id, options)
        clock.lap("download")
        table = tables.read(job.folder / "dataset")
        columns, frame, target = tables.training_data(table, options["target"])
        task = learners.task_of(target, options["task"], max_classes=job.settings.max_classes)
        clock.lap("read")
        with seat.threads(n_cells=frame.size, others_wait=job.others_wait) as n_threads:
            model = learners.fit(task, columns, frame, target)
        clock.lap("fit")
    features = [column for column in columns if column.name in model.feature_names_in_]
    path = job.folder / publishing.FILES["fit"]
    joblib.dump(model, path)
    manifest = {
        "id": model_id,
        **dataset,
        "target": options["target"],
        "target_type": tables.target_type(table, options["target"], task),
        "task": task,
        "learner": "boosting",
        "seed": 0,
        "features": [feature.as_dict() for feature in features],
        "columns_left_out": [column.name for column in columns if column not in features],
        "n_rows": len(target),
        "n_rows_left_out": table.num_rows - len(target),
        "n_threads": n_threads,
        "file": {"sha256": _sha256(path), "size": path.stat().st_size},
        **_made(clock),
    }
    signed = signing.sign(job.signing_keys, job.owner, model_id, manifest)
    publishing.publish(job, "fit", model_id, path, signed)


def predict(dataset_id: str, model_id: str, result_id: str, options: dict[str, Any]) -> None:
    """Predict a dataset's rows with a model and publish the result: one row out per row in, in order.

    `options`: `dataset` with the size and tag noted on submitting.

    Raises:
        DatasetNotFound, DatasetChanged, InvalidTable: the dataset cannot be used; says why.
        ModelNotFound, ModelUntrusted: the model cannot be used.
        StoreUnavailable: the store does not answer.
    """
    job, clock = run.current(), _Clock()
    with cores.seat(job.settings.cores_dir) as seat:
        model, about = _load_model(job, model_id)
        dataset = _download_dataset(job, dataset_id, options)
        clock.lap("download")
        table = tables.read(job.folder / "dataset")
        features = [tables.Feature(**feature) for feature in about["features"]]
        tables.check_predict(table.schema, features)
        frame = tables.features_frame(table, features)
        clock.lap("read")
        with seat.threads(n_cells=frame.size, others_wait=job.others_wait):
            values = learners.predict(model, frame)
        clock.lap("predict")
    path = job.folder / publishing.FILES["predict"]
    tables.write_result(path, about["target"], values, about["target_type"])
    used = {about["target"], *(feature.name for feature in features)}
    manifest = {
        "id": result_id,
        "model_id": model_id,
        **dataset,
        "target": about["target"],
        "n_rows": table.num_rows,
        "ignored_columns": [name for name in table.column_names if name not in used],
        "file": {"sha256": _sha256(path), "size": path.stat().st_size},
        **_made(clock),
    }
    publishing.publish(job, "predict", result_id, path, manifest)


def _download_dataset(job: run.Run, dataset_id: str, options: dict[str, Any]) -> dict[str, Any]:
    """Download a dataset to the scratch folder and return what manifests say of it."""
    try:
        digest = job.storage.download(
            "datasets",
            job.owner,
            dataset_id,
            "data",
            job.folder / "dataset",
            expected=Version(**options["dataset"]),
        )
    except ObjectMissing:
        raise DatasetNotFound(f"Dataset {dataset_id} was deleted after the job was submitted.") from None
    return {"dataset_id": dataset_id, "dataset_sha256": digest}


def _load_model(job: run.Run, model_id: str) -> tuple[Any, dict[str, Any]]:
    """Return a model and its manifest; nothing is unpickled before the signature and the digest match."""
    found = publishing.find(job.storage, "fit", job.owner, model_id)
    if found is None:
        raise ModelNotFound(f"There is no model {model_id}.")
    signing.verify(job.signing_keys, job.owner, model_id, found.manifest)
    path = job.folder / "model"
    name = f"{found.attempt}/{publishing.FILES['fit']}"
    try:
        digest = job.storage.download("models", job.owner, model_id, name, path)
    except ObjectMissing:
        raise ModelNotFound(f"The file of model {model_id} is missing.") from None
    if digest != found.manifest["file"]["sha256"]:
        raise ModelUntrusted(f"The file of model {model_id} is not the one that was signed.")
    return joblib.load(path), found.manifest


class _Clock:
    """Seconds of each phase of a job."""

    def __init__(self) -> None:
        self.durations_s: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, phase: str) -> None:
        """End a phase."""
        now = time.monotonic()
        self.durations_s[phase] = round(now - self._last, 4)
        self._last = now


def _made(clock: _Clock) -> dict[str, Any]:
    versions = {
        "rowcast": rowcast.__version__,
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
    }
    return {"created_at": time.time(), "versions": versions, "durations_s": clock.durations_s}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
