"""The warm-up of a standby work horse: it asks the store, and fits and predicts a small table.

Much is slow the first time in a process: its memory is its worker's until it is written to,
Python's caches are cold, and libraries load parts of themselves on first use. A warm-up uses one
thread, and leaves nothing behind but its files.
"""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rowcast.config import Settings
from rowcast.errors import StoreUnavailable
from rowcast.ids import new_id
from rowcast.learning import SILENT, learners, prediction, training
from rowcast.store import ObjectMissing, Storage, manifests, patience
from rowcast.system import cores
from rowcast.tables import Limits, checks, formats, training_table

# The small table, and the boosting iterations of its fit.
N_ROWS = 1_000
N_COLUMNS = 10
MAX_ITER = 5


def warm_up(settings: Settings, folder: Path) -> None:
    """Do once in this process what jobs do, without an effect that anybody sees.

    Args:
        settings: those of the worker.
        folder: for the files of the small table and its predictions.

    Raises:
        OSError: the files cannot be written.
    """
    _ask_the_store(settings)
    pa.set_cpu_count(1)
    with (
        cores.warm_up(settings.cores_dir) as may_compute,
        cores.libraries().limit(limits=1),
    ):
        if not may_compute:
            return
        _write_small_table(folder / "dataset")
        predictor = _fit(settings, folder)
        _predict(settings, folder, predictor)


def _ask_the_store(settings: Settings) -> None:
    storage = Storage(settings, patience.MAINTENANCE, connections=1)
    unused_id = new_id()
    with suppress(StoreUnavailable, ObjectMissing):
        storage.names("models", "default", unused_id)
        storage.read("models", "default", unused_id, "data")


def _write_small_table(path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {f"col_{place}": rng.normal(size=N_ROWS) for place in range(N_COLUMNS)}
    target = (columns["col_0"] > 0).astype(np.int64)
    table = pa.table({**columns, checks.DEFAULT_TARGET: target})
    pq.write_table(table, path)


def _fit(settings: Settings, folder: Path) -> prediction.Predictor:
    source = formats.open_file(folder / "dataset", Limits.of(settings))
    table = training_table.read(source, checks.DEFAULT_TARGET)
    task = learners.task_of(table.target, "auto", max_classes=settings.max_classes)
    plan = training.Plan("boosting", task, {"max_iter": MAX_ITER}, validation="none")
    trained = training.train(
        plan, table.features, training.Rows(table.frame, table.target), SILENT
    )
    about = manifests.of_model(source, table, plan, trained)
    # What was pickled right here is safe to load.
    pickled = pickle.dumps(trained.model, protocol=5)
    model = pickle.loads(pickled)  # noqa: S301 # nosec B301
    return prediction.Predictor(
        model,
        table.features,
        checks.DEFAULT_TARGET,
        about["target_type"],
        about["classes"],
        None,
    )


def _predict(settings: Settings, folder: Path, predictor: prediction.Predictor) -> None:
    source = formats.open_file(folder / "dataset", Limits.of(settings))
    checks.check_predict(source, predictor.features)
    prediction.write(folder / "result", predictor, source, prediction.Plan())
