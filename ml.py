"""fit() and predict(): the two jobs, start to end.

Each downloads, checks, works and publishes. Whatever a table or model is refused for is raised as
one of `rowcast.errors`; nothing is visible to anybody before the manifest, which is written last.
"""

from __future__ import annotations

import gc
import importlib
import pickle
from pathlib import Path
from typing import Any

import joblib
import narwhals.stable.v2

from rowcast.errors import DatasetNotFound
from rowcast.jobs import context, publishing, reuse
from rowcast.learning import learners, prediction, training
from rowcast.store import (
    ObjectMissing,
    Version,
    loading,
    manifests,
    publications,
    signing,
    versions,
)
from rowcast.system import cores
from rowcast.tables import checks, formats, training_table

# What most jobs need, imported before forking, so that no job does it again. skrub is left to the
# few tables that need it.
_USED_BY_MOST = (
    "pyarrow.compute",
    "sklearn.dummy",
    "sklearn.ensemble",
    "sklearn.metrics",
    "sklearn.model_selection",
)


def warm_up() -> None:
    """Do once, before forking, what every job would otherwise do again; no OpenMP thread is
    started."""
    import pandas

    for module in _USED_BY_MOST:
        importlib.import_module(module)
    cores.libraries()
    # Boosting asks for them once a process, and a program (lscpu) is started to find out.
    joblib.cpu_count(only_physical_cores=True)
    versions.current()
    # scikit-learn looks at frames through narwhals, which loads its part for pandas at the first
    # one.
    narwhals.stable.v2.from_native(pandas.DataFrame({"x": [0.0]}))
    # What is there already is left out of garbage collections, so that a fork shares its memory for
    # longer.
    gc.freeze()


def fit(dataset_id: str, model_id: str, options: dict[str, Any]) -> None:
    """Fit a model on a dataset, judge it and publish it, signed.

    `options`: what /fit takes, with the target's name; `dataset` with the size and tag noted on
    submitting.

    Raises:
        DatasetNotFound, DatasetChanged, InvalidTable: the dataset cannot be used; says why.
        InvalidRequest: the learner's parameters do not fit the task.
        StoreUnavailable: the store does not answer.
    """
    run = context.current()
    progress = run.progress.start("fit")
    with cores.seat(run.settings.cores_dir) as seat:
        progress.phase("downloading")
        dataset = _download_dataset(run, dataset_id, options)
        progress.phase("reading")
        source = formats.open_file(
            run.folder / "dataset", formats.Limits.of(run.settings)
        )
        target, weights = options["target"], options["sample_weight"]
        use = options.get("identifiers") == "use"
        table = training_table.read(
            source, target, weights, use_identifiers=use, on_progress=progress.rows
        )
        task = learners.task_of(
            table.target, options["task"], max_classes=run.settings.max_classes
        )
        plan = _plan(task, options)
        rows = training.Rows(table.frame, table.target, table.weights)
        with seat.threads(
            n_cells=table.frame.size, others_wait=run.others_wait
        ) as n_threads:
            trained = training.train(plan, table.features, rows, progress)
    progress.phase("uploading")
    path = run.folder / publications.MODEL_FILE
    _dump(trained.model, path)
    manifest = {
        "id": model_id,
        **dataset,
        "target": target,
        "sample_weight": weights,
        "identifiers": options.get("identifiers", "leave_out"),
        **manifests.of_model(source, table, plan, trained),
        "n_threads": n_threads,
        "file": manifests.of_file(path),
        **manifests.made(progress.durations_s),
    }
    publishing.check_dataset(run, dataset_id)
    signed = signing.sign(
        run.signing_keys, run.owner, model_id, manifests.finite(manifest)
    )
    publishing.publish(run, path, signed)
    run.note_published(
        reuse.key_of("fit", dataset["dataset_sha256"], options, versions.current())
    )
    progress.end()


def predict(
    dataset_id: str, model_id: str, result_id: str, options: dict[str, Any]
) -> None:
    """Predict a dataset's rows with a model and publish the result: one row out per row in, in
    order.

    `options`: what /predict takes; `dataset` with the size and tag noted on submitting.

    Raises:
        DatasetNotFound, DatasetChanged, InvalidTable: the dataset cannot be used; says why.
        ModelNotFound, ModelUntrusted, ModelIncompatible: the model cannot be used.
        StoreUnavailable: the store does not answer.
    """
    run = context.current()
    progress = run.progress.start("predict")
    wanted = prediction.Plan(
        options["output"], options["quantiles"], options["keep"], options["format"]
    )
    with cores.seat(run.settings.cores_dir) as seat:
        progress.phase("downloading")
        predictor, about = loading.load(
            run.storage, run.signing_keys, run.owner, model_id, run.folder / "model"
        )
        prediction.check_givable(about, wanted)
        dataset = _download_dataset(run, dataset_id, options)
        progress.phase("reading")
        source = formats.open_file(
            run.folder / "dataset", formats.Limits.of(run.settings)
        )
        checks.check_predict(source, predictor.features, wanted.keep)
        path = run.folder / publications.RESULT_FILES[wanted.format]
        n_cells = (source.n_rows_expected or 0) * len(predictor.features)
        threads = seat.threads(n_cells=n_cells, others_wait=run.others_wait)
        progress.phase("predicting")
        with threads as n_threads, loading.refused_if_of_other_versions(about):
            rows = prediction.write(path, predictor, source, wanted, progress.rows)
    progress.phase("uploading")
    manifest = {
        "id": result_id,
        "model_id": model_id,
        **dataset,
        **manifests.of_result(source, predictor, wanted, rows),
        "n_threads": n_threads,
        "file": manifests.of_file(path),
        **manifests.made(progress.durations_s),
    }
    publishing.check_dataset(run, dataset_id)
    publishing.note_result(run, model_id)
    publishing.publish(run, path, manifests.finite(manifest))
    model = (model_id, about["file"]["sha256"])
    run.note_published(
        reuse.key_of(
            "predict", dataset["dataset_sha256"], options, versions.current(), model
        )
    )
    progress.end()


def _dump(model: Any, path: Path) -> None:
    """Write a model as joblib's reader takes it, in an eighth of the time that joblib's writer
    takes."""
    with path.open("wb") as file:
        pickle.dump(model, file, protocol=5)


def _plan(task: learners.Task, options: dict[str, Any]) -> training.Plan:
    learner, params, class_weight = (
        options["learner"],
        options["params"],
        options["class_weight"],
    )
    learners.check(learner, params, task=task, class_weight=class_weight)
    return training.Plan(
        learner,
        task,
        params,
        options["seed"],
        class_weight,
        options["validation"],
        options["importance_s"],
    )


def _download_dataset(
    run: context.Run, dataset_id: str, options: dict[str, Any]
) -> dict[str, Any]:
    """Download a dataset to the scratch folder and return what manifests say of it."""
    version = Version(**options["dataset"])
    try:
        digest = run.storage.download(
            "datasets",
            run.owner,
            dataset_id,
            "data",
            run.folder / "dataset",
            expected=version,
            on_progress=run.progress.downloaded,
        )
    except ObjectMissing:
        raise DatasetNotFound(
            f"Dataset {dataset_id} was deleted after the job was submitted.",
            hint="Upload the table again and submit the new id.",
        ) from None
    run.note_digest(dataset_id, version, digest)
    return {"dataset_id": dataset_id, "dataset_sha256": digest}
