"""fit() and predict(): the two jobs, start to end.

Each downloads, checks, works and publishes. The reason for refusing a table or a model is raised as
one of `rowcast.errors`. Nothing is visible before the manifest, which is written last.
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
from rowcast.learning import Predictor, learners, prediction, spaces, training
from rowcast.store import (
    ObjectMissing,
    Version,
    datasets,
    loading,
    manifests,
    publications,
    signing,
    versions,
)
from rowcast.system import cores
from rowcast.tables import (
    Limits,
    ReadingOptions,
    Selection,
    Source,
    checks,
    drift,
    formats,
    training_table,
)

# Jobs need these, so they are imported before forking.
_USED_BY_JOBS = (
    "pyarrow.compute",
    "sklearn.compose",
    "sklearn.dummy",
    "sklearn.ensemble",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "skrub",
)


def warm_up() -> None:
    """Do once, before forking, what every job would do again; it starts no OpenMP thread."""
    import pandas

    for module in _USED_BY_JOBS:
        importlib.import_module(module)
    cores.libraries()
    # Boosting asks for the physical cores once a process, and joblib starts lscpu to count them.
    joblib.cpu_count(only_physical_cores=True)
    versions.current()
    # scikit-learn reads frames through narwhals, which loads its pandas part at the first one.
    narwhals.stable.v2.from_native(pandas.DataFrame({"x": [0.0]}))
    # Garbage collections skip what exists by now, so that forks share its memory for longer.
    gc.freeze()


def fit(dataset_id: str, model_id: str, options: dict[str, Any]) -> None:
    """Fit a model on a dataset, evaluate it and publish it, signed.

    `options`: what /fit takes, with the target's name; `dataset` with the size and tag noted on
    submitting, and `dataset_sha256` if an earlier job has noted that.

    Raises:
        DatasetNotFound, DatasetChanged, DatasetDamaged, InvalidTable: the dataset cannot be used;
            says why.
        InvalidRequest: the learner's parameters do not fit the task, or leave nothing to tune, or
            options of reading do not apply to the dataset's format.
        StoreUnavailable: the store does not answer.
    """
    run = context.current()
    reading = ReadingOptions.of(options)
    progress = run.progress.start("fit")
    with cores.seat(run.settings.cores_dir) as seat:
        progress.phase("downloading")
        dataset = _download_dataset(run, dataset_id, options)
        progress.phase("reading")
        source = _open_dataset(run, reading)
        table = _training_table(run, source, options)
        plan = _plan(run, table, options)
        rows = training.Rows(
            table.frame, table.target, table.weights, table.times, table.groups
        )
        n_cells = table.frame.size
        threads = seat.threads(n_cells=n_cells, others_wait=run.others_wait)
        with threads as n_threads:
            trained = training.train(
                plan, table.features, rows, progress, suspects=table.suspects
            )

    progress.phase("uploading")
    path = run.folder / publications.MODEL_FILE
    _dump(trained.model, path)
    manifest = {
        "id": model_id,
        **dataset,
        "target": options["target"],
        "sample_weight": options["sample_weight"],
        "time_column": options.get("time_column"),
        "group_column": options.get("group_column"),
        "identifiers": options.get("identifiers", "leave_out"),
        "infinite": options.get("infinite", "refuse"),
        "background": options.get("background", "keep"),
        "reading": reading.given(),
        "selection": Selection.of(options).given(),
        **manifests.of_model(source, table, plan, trained),
        "n_threads": n_threads,
        "file": manifests.of_file(path),
        **manifests.made(progress.durations_s),
    }
    publishing.check_dataset(run, dataset_id, dataset["dataset_sha256"])
    finite = manifests.finite(manifest)
    publishing.publish(run, path, signing.signed(finite, run.sign))
    _note_for_reuse(run, dataset, options)
    progress.end()


def predict(
    dataset_id: str, model_id: str, result_id: str, options: dict[str, Any]
) -> None:
    """Predict a dataset's rows and publish the result: one row out per row in, in order.

    `options`: what /predict takes; `dataset` and `dataset_sha256` as those of a fit.

    Raises:
        DatasetNotFound, DatasetChanged, DatasetDamaged, InvalidTable: the dataset cannot be used;
            says why.
        ModelNotFound, ModelUntrusted, ModelIncompatible: the model cannot be used.
        InvalidRequest: the model cannot give this output; options of reading do not apply.
        StoreUnavailable: the store does not answer.
    """
    run = context.current()
    progress = run.progress.start("predict")
    wanted = prediction.Plan.of(options)
    reading = ReadingOptions.of(options)
    with cores.seat(run.settings.cores_dir) as seat:
        progress.phase("downloading")
        predictor, about = _load_model(run, model_id)
        wanted = prediction.check_plan(about, wanted)
        dataset = _download_dataset(run, dataset_id, options)
        progress.phase("reading")
        source = _open_dataset(run, reading.of_model(about))
        checks.check_predict(source, predictor.features, wanted.keep)
        path = run.folder / publications.RESULT_FILES[wanted.format]
        n_cells = (source.n_rows_expected or 0) * len(predictor.features)
        threads = seat.threads(n_cells=n_cells, others_wait=run.others_wait)
        progress.phase("predicting")
        with threads as n_threads, loading.checking_versions(about):
            rows = prediction.write(path, predictor, source, wanted, progress.rows)

    progress.phase("uploading")
    manifest = {
        "id": result_id,
        "model_id": model_id,
        **dataset,
        "reading": reading.given(),
        **manifests.of_result(source, predictor, wanted, rows),
        "drift": drift.of_table(rows["columns"], about.get("importances")),
        "n_threads": n_threads,
        "file": manifests.of_file(path),
        **manifests.made(progress.durations_s),
    }
    publishing.check_dataset(run, dataset_id, dataset["dataset_sha256"])
    publishing.note_result(run, model_id)
    publishing.publish(run, path, manifests.finite(manifest))
    _note_for_reuse(run, dataset, options, (model_id, about["file"]["sha256"]))
    progress.end()


# What both share


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
    datasets.check(dataset_id, digest, options.get("dataset_sha256"))
    run.note_digest(dataset_id, version, digest)
    return {"dataset_id": dataset_id, "dataset_sha256": digest}


def _open_dataset(run: context.Run, reading: ReadingOptions) -> Source:
    limits = Limits.of(run.settings)
    return formats.open_file(run.folder / "dataset", limits, reading)


def _note_for_reuse(
    run: context.Run,
    dataset: dict[str, Any],
    options: dict[str, Any],
    model: tuple[str, str] | None = None,
) -> None:
    """Let later jobs of the same inputs and options find this one; see `reuse.key_of`."""
    digest = dataset["dataset_sha256"]
    key = reuse.key_of(run.job.kind, digest, options, versions.current(), model)
    run.note_published(key)


# What a fit does


def _training_table(
    run: context.Run, source: Source, options: dict[str, Any]
) -> training_table.TrainingTable:
    return training_table.read(
        source,
        options["target"],
        options["sample_weight"],
        time_column=options.get("time_column"),
        group_column=options.get("group_column"),
        use_identifiers=options.get("identifiers") == "use",
        infinite=options.get("infinite", "refuse"),
        task=options["task"],
        selection=Selection.of(options),
        on_progress=run.progress.rows,
    )


def _plan(
    run: context.Run, table: training_table.TrainingTable, options: dict[str, Any]
) -> training.Plan:
    task = learners.task_of(
        table.target,
        options["task"],
        max_classes=run.settings.max_classes,
        name=options["target"],
    )
    note = learners.note_on_task(table.target, options["task"], task)
    if note:
        table.notes.append(note)
    learners.check(
        options["learner"],
        options["params"],
        task=task,
        class_weight=options["class_weight"],
    )
    effort = options.get("effort", "normal")
    spaces.check(options["learner"], options["params"], effort=effort, task=task)
    return training.Plan(
        learner=options["learner"],
        task=task,
        params=options["params"],
        seed=options["seed"],
        class_weight=options["class_weight"],
        validation=options["validation"],
        importance_s=options["importance_s"],
        background=options.get("background", "keep"),
        effort=effort,
        search_s=options.get("search_s") or spaces.DEFAULT_SEARCH_S,
        deadline=run.deadline,
    )


def _dump(model: Any, path: Path) -> None:
    """Write a model so that joblib can read it, in an eighth of the time that joblib takes."""
    with path.open("wb") as file:
        pickle.dump(model, file, protocol=5)


# What a prediction does


def _load_model(run: context.Run, model_id: str) -> tuple[Predictor, dict[str, Any]]:
    path = run.folder / "model"
    keys = signing.Keys.of(run.settings)
    return loading.load(run.storage, keys, run.owner, model_id, path)
