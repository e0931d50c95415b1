"""Tables, and models fitted on them, for the tests of training and validation."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from decimal import Decimal
from functools import cache
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pytest

from rowcast.learning import learners, training
from rowcast.learning.learners import LEARNERS, TASKS, Task
from rowcast.learning.progress import SILENT, Progress
from rowcast.learning.training import Plan, Rows, Trained
from rowcast.tables import Feature, columns, training_table
from tests.support.tables import source_of

N_ROWS = 300
RNG = np.random.default_rng(0)
CLASS = RNG.integers(0, 2, N_ROWS)
# Enough to learn what the tests have to learn, in a tenth of the time.
QUICK: dict[str, dict[str, Any]] = {
    "boosting": {"max_iter": 20},
    "forest": {"n_estimators": 20},
    "extra_trees": {"n_estimators": 20},
}
FORESTS = ("forest", "extra_trees")
LEARNING = [name for name in LEARNERS if name != "baseline"]

each_task = pytest.mark.parametrize("task", TASKS)
each_learner = pytest.mark.parametrize("learner", learners.NAMES)
each_learning = pytest.mark.parametrize("learner", LEARNING)


def telling_numbers() -> np.ndarray:
    return CLASS + RNG.normal(size=N_ROWS) / 4


def days() -> pa.Array:
    """Return days in winter for one class and in summer for the other."""
    starts = [
        dt.date(2020 + row % 3, 7 if row_class else 1, 1)
        for row, row_class in enumerate(CLASS)
    ]
    return pa.array(
        [day + dt.timedelta(days=row % 40) for row, day in enumerate(starts)]
    )


def sentences() -> pa.Array:
    words = ["a good", "quite a bad"]
    return pa.array(
        [
            f"this is {words[row_class]} thing, number {row}"
            for row, row_class in enumerate(CLASS)
        ]
    )


def some_missing(values: list[Any]) -> pa.Array:
    return pa.array(
        [None if row % 10 == 0 else value for row, value in enumerate(values)]
    )


COLUMNS: dict[str, pa.Array] = {
    "numbers": pa.array(telling_numbers()),
    "numbers with missing ones": some_missing(telling_numbers().tolist()),
    "booleans": some_missing((CLASS == 1).tolist()),
    "booleans as words": pa.array(np.where(CLASS, "yes", "no").tolist()),
    "decimals": pa.array(
        [Decimal(int(label)) for label in CLASS], pa.decimal128(21, 2)
    ),
    "words": some_missing(np.where(CLASS, "up", "down").tolist()),
    "categories": pa.array(CLASS).dictionary_encode(),
    "sentences": sentences(),
    "sentences with missing ones": some_missing(sentences().to_pylist()),
    "dates": days(),
    "dates with missing ones": some_missing(days().to_pylist()),
    "dates as text": pa.array([str(day) for day in days().to_pylist()]),
    "times with a zone": days()
    .cast(pa.timestamp("us"))
    .cast(pa.timestamp("us", "Europe/Paris")),
    "durations": pa.array(
        (CLASS * 100 + np.arange(N_ROWS) % 50).tolist(), pa.duration("s")
    ),
}
MIXED = (
    "numbers with missing ones",
    "words",
    "sentences with missing ones",
    "dates with missing ones",
    "booleans",
)


def table_of(*names: str, task: Task = "classification") -> pa.Table:
    y = (
        CLASS
        if task == "classification"
        else CLASS * 10 + np.random.default_rng(3).normal(size=N_ROWS)
    )
    return pa.table({**{name: COLUMNS[name] for name in names}, "y": y})


def trained(
    table: pa.Table,
    learner: str = "boosting",
    *,
    weights: str | None = None,
    progress: Progress = SILENT,
    **how: Any,
) -> tuple[Trained, training_table.TrainingTable]:
    """Fit on a table as a job does; by default with few iterations and without validation."""
    order = {
        option: how.pop(option)
        for option in ("time_column", "group_column")
        if option in how
    }
    data = training_table.read(source_of(table), "y", weights, **order)
    task = learners.task_of(data.target, how.pop("task", "auto"), max_classes=1000)
    plan = Plan(
        learner, task, **{"params": QUICK.get(learner, {}), "validation": "none", **how}
    )
    rows = Rows(data.frame, data.target, data.weights, data.times, data.groups)
    found = training.train(plan, data.features, rows, progress, suspects=data.suspects)
    return found, data


def frame_for(features: list[Feature], table: pa.Table) -> Any:
    return columns.frame_of(
        {
            feature.name: columns.read(feature, table.column(feature.name)).array
            for feature in features
        }
    )


def predicted(found: Trained, table: pa.Table) -> np.ndarray:
    return np.asarray(found.model.predict(frame_for(found.features, table)))


@cache
def model_of(learner: str, name: str, task: Task) -> tuple[Trained, pa.Table]:
    table = table_of(name, task=task)
    return trained(table, learner)[0], table


def dumped(found: Trained) -> str:
    file = io.BytesIO()
    joblib.dump(found.model, file)
    return hashlib.sha256(file.getvalue()).hexdigest()


def numbers(n_rows: int, n_classes: int = 2) -> pa.Table:
    y = np.arange(n_rows) % n_classes
    return pa.table({"x": y + np.random.default_rng(1).normal(size=n_rows) / 4, "y": y})
