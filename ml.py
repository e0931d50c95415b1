"""fit() and predict(): the two jobs, start to end.

Each downloads, checks, works and publishes. Whatever a table or model is refused for is raised as one of
`rowcast.errors`; nothing is visible to anybody before the manifest, which is written last.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import time
import warnings
from pathlib import Path
from typing import Any

import joblib
import narwhals.stable.v2

from rowcast import (
    cores,
    formats,
    learners,
    predictions,
    preparation,
    publishing,
    run,
    signing,
    tables,
    training,
    versions,
)
from rowcast.columns import Feature
from rowcast.errors import DatasetNotFound, ModelIncompatible, ModelNotFound, ModelUntrusted
from rowcast.storage import ObjectMissing, Version

# What most jobs need; imported before forking, so that no job does it again. skrub is left to the few
# tables that need it.
_USED_BY_MOST = (
    "sklearn.ensemble",
    "sklearn.dummy",
    "sklearn.metrics",
    "sklearn.model_selection",
    "pyarrow.compute",
)


def warm_up() -> None:
    """Do once, before forking, what every job would otherwise do again; no OpenMP thread is started."""
    import pandas

    for module in _USED_BY_MOST:
        importlib.import_module(module)
    cores.libraries()
    versions.current()
    # scikit-learn looks at frames through narwhals, which loads its part for pandas at the first one.
    narwhals.stable.v2.from_native(pandas.DataFrame({"x": [0.0]}))
    # What is there already is left out of garbage collections, so that a fork shares its memory for longer.
    gc.freeze()


def fit(dataset_id: str, model_id: str, options: dict[str, Any]) -> None:
    """Fit a model on a dataset, judge it and publish it, signed.

    `options`: what /fit takes, with the target's name; `dataset` with the size and tag noted on submitting.

    Raises:
        DatasetNotFound, DatasetChanged, InvalidTable: the dataset cannot be used; says why.
        InvalidRequest: the learner's parameters do not fit the task.
        StoreUnavailable: the store does not answer.
    """
    job, clock = run.current(), _Clock()
    with cores.seat(job.settings.cores_dir) as seat:
        dataset = _download_dataset(job, dataset_id, options)
        clock.lap("download")
        source = formats.open_file(job.folder / "dataset", formats.Limits.of(job.settings))
        table = tables.training(source, options["target"], options["sample_weight"])
        task = learners.task_of(table.target, options["task"], max_classes=job.settings.max_classes)
        plan = _plan(task, options)
        clock.lap("read")
        rows = training.Rows(table.frame, table.target, table.weights)
        with seat.threads(n_cells=table.frame.size, others_wait=job.others_wait) as n_threads:
            trained = training.train(plan, table.features, rows, clock.lap)
    path = job.folder / publishing.MODEL_FILE
    joblib.dump(trained.model, path)
    clock.lap("save")
    manifest = {
        "id": model_id,
        **dataset,
        "format": source.format.as_dict(),
        "target": options["target"],
        "target_type": table.target_type if task == "classification" else "double",
        "task": task,
        "classes": _class_names(trained.model) if task == "classification" else None,
        "learner": plan.learner,
        "params": dict(plan.params),
        "seed": plan.seed,
        "class_weight": plan.class_weight,
        "sample_weight": options["sample_weight"],
        "features": [feature.as_dict() for feature in trained.features],
        "columns": _column_report(table, trained, plan),
        "n_rows": len(table.target),
        "n_rows_left_out": table.n_rows_left_out,
        "validation": trained.validation,
        "importances": trained.importances,
        "intervals": trained.intervals,
        "notes": table.notes + trained.notes,
        "n_threads": n_threads,
        "file": {"sha256": _sha256(path), "size": path.stat().st_size},
        **_made(clock),
    }
    publishing.check_needed(job, dataset_id=dataset_id)
    signed = signing.sign(job.signing_keys, job.owner, model_id, manifest)
    publishing.publish(job, "fit", model_id, path, signed)


def predict(dataset_id: str, model_id: str, result_id: str, options: dict[str, Any]) -> None:
    """Predict a dataset's rows with a model and publish the result: one row out per row in, in order.

    `options`: what /predict takes; `dataset` with the size and tag noted on submitting.

    Raises:
        DatasetNotFound, DatasetChanged, InvalidTable: the dataset cannot be used; says why.
        ModelNotFound, ModelUntrusted, ModelIncompatible: the model cannot be used.
        StoreUnavailable: the store does not answer.
    """
    job, clock = run.current(), _Clock()
    wanted = predictions.Plan(options["output"], options["quantiles"], options["keep"], options["format"])
    with cores.seat(job.settings.cores_dir) as seat:
        model, about = _load_model(job, model_id)
        dataset = _download_dataset(job, dataset_id, options)
        clock.lap("download")
        source = formats.open_file(job.folder / "dataset", formats.Limits.of(job.settings))
        predictor = _predictor(model, about)
        tables.check_predict(source, predictor.features, wanted.keep)
        path = job.folder / publishing.RESULT_FILES[wanted.format]
        with seat.threads(
            n_cells=_n_cells(job.folder / "dataset", source, predictor), others_wait=job.others_wait
        ):
            rows = _written(path, predictor, source, wanted, about)
        clock.lap("predict")
    used = {about["target"], *wanted.keep, *(feature.name for feature in predictor.features)}
    manifest = {
        "id": result_id,
        "model_id": model_id,
        **dataset,
        "target": about["target"],
        "output": wanted.output,
        "format": wanted.format,
        **rows,
        "n_threads": n_threads,
        "ignored_columns": [name for name in source.schema.names if name not in used],
        "file": {"sha256": _sha256(path), "size": path.stat().st_size},
        **_made(clock),
    }
    publishing.check_needed(job, dataset_id=dataset_id)
    publishing.note_result(job, model_id, result_id)
    publishing.publish(job, "predict", result_id, path, manifest)


def _plan(task: learners.Task, options: dict[str, Any]) -> training.Plan:
    learner, params, class_weight = options["learner"], options["params"], options["class_weight"]
    learners.check(learner, params, task=task, class_weight=class_weight)
    return training.Plan(
        learner, task, params, options["seed"], class_weight, options["validation"], options["importance_s"]
    )


def _class_names(model: Any) -> list[str]:
    return [training.label_text(label) for label in model.classes_]


def _column_report(
    table: tables.Training, trained: training.Trained, plan: training.Plan
) -> list[dict[str, Any]]:
    """Return what is known of each column, with what was done to it or why it was left out."""
    learner, used = learners.LEARNERS[plan.learner], {feature.name for feature in trained.features}
    report = []
    for column in table.report:
        left_out = column["left_out"] or ("" if column["name"] in used else "too few values")
        done = "" if left_out else preparation.words_for(learner.preparation, column["kind"])
        report.append({**column, "preparation": done or None, "left_out": left_out or None})
    return report


def _predictor(model: Any, about: dict[str, Any]) -> predictions.Predictor:
    features = [Feature(**feature) for feature in about["features"]]
    return predictions.Predictor(
        model, features, about["target"], about["target_type"], about["classes"], about["intervals"]
    )


def _n_cells(dataset: Path, source: formats.Source, predictor: predictions.Predictor) -> int:
    """Return how many values there are to predict from, estimated where the file does not say."""
    n_rows = source.n_rows or dataset.stat().st_size // (8 * max(1, len(source.schema)))
    return n_rows * len(predictor.features)


def _written(
    path: Path,
    predictor: predictions.Predictor,
    source: formats.Source,
    wanted: predictions.Plan,
    about: dict[str, Any],
) -> dict[str, Any]:
    try:
        return predictions.write(path, predictor, source, wanted)
    except (AttributeError, TypeError, KeyError) as error:
        _refuse_other_versions(about, error)
        raise


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
    name = f"{found.attempt}/{publishing.MODEL_FILE}"
    try:
        digest = job.storage.download("models", job.owner, model_id, name, path)
    except ObjectMissing:
        raise ModelNotFound(f"The file of model {model_id} is missing.") from None
    if digest != found.manifest["file"]["sha256"]:
        raise ModelUntrusted(f"The file of model {model_id} is not the one that was signed.")
    return _unpickled(path, found.manifest), found.manifest


def _unpickled(path: Path, about: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        # scikit-learn warns of a model of another version; what does not work is refused below.
        warnings.simplefilter("ignore")
        try:
            return joblib.load(path)
        except Exception as error:
            _refuse_other_versions(about, error)
            raise


def _refuse_other_versions(about: dict[str, Any], error: Exception) -> None:
    """Raise ModelIncompatible if other versions than ours made the model, which then are the likely cause."""
    if different := versions.differences(about.get("versions", {})):
        raise ModelIncompatible(
            f"Model {about['id']} was made by other versions of libraries and does not work with these: "
            f"{different}."
        ) from error


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
    return {"created_at": time.time(), "versions": versions.current(), "durations_s": clock.durations_s}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
