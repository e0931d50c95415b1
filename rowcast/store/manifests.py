"""What a model or a result says of itself: what it was made from, how, by which versions, how good
it is."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Any

from rowcast.learning import LEARNERS, Predictor, prediction, preprocessing, training
from rowcast.store import versions
from rowcast.tables import Source, training_table


def of_model(
    source: Source,
    table: training_table.TrainingTable,
    plan: training.Plan,
    trained: training.Trained,
) -> dict[str, Any]:
    """Return what is known of a model beside its dataset and its file."""
    is_classification = plan.task == "classification"
    return {
        "format": source.format.as_dict(),
        "target_type": table.target_type if is_classification else "double",
        "task": plan.task,
        "classes": [training.label_text(label) for label in trained.model.classes_]
        if is_classification
        else None,
        "learner": plan.learner,
        "params": dict(plan.params),
        "seed": plan.seed,
        "class_weight": plan.class_weight,
        "features": [feature.as_dict() for feature in trained.features],
        "columns": _columns(table, trained, plan),
        "n_rows": len(table.target),
        "n_rows_left_out": table.n_rows_left_out,
        "validation": trained.validation,
        "importances": trained.importances,
        "intervals": trained.intervals,
        "notes": table.notes + trained.notes,
    }


def _columns(
    table: training_table.TrainingTable, trained: training.Trained, plan: training.Plan
) -> list[dict[str, Any]]:
    """Return what is known of each column, with what was done to it or why it was left out."""
    learner, used = (
        LEARNERS[plan.learner],
        {feature.name for feature in trained.features},
    )
    report = []
    for column in table.report:
        left_out = column["left_out"] or (
            "" if column["name"] in used else "too few values"
        )
        done = (
            ""
            if left_out
            else preprocessing.describe(learner.preprocessing, column["kind"])
        )
        report.append(
            {**column, "preparation": done or None, "left_out": left_out or None}
        )
    return report


def of_result(
    source: Source, predictor: Predictor, wanted: prediction.Plan, rows: dict[str, Any]
) -> dict[str, Any]:
    """Return what is known of a result beside its model, its dataset and its file."""
    used = {
        predictor.target,
        *wanted.keep,
        *(feature.name for feature in predictor.features),
    }
    return {
        "target": predictor.target,
        "output": wanted.output,
        "format": wanted.format,
        **rows,
        "ignored_columns": [name for name in source.schema.names if name not in used],
    }


def of_file(path: Path) -> dict[str, Any]:
    """Return the SHA-256, in hexadecimal, and the bytes of a file."""
    with path.open("rb") as file:
        return {
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            "size": path.stat().st_size,
        }


def finite(value: Any) -> Any:
    """Return a manifest with null in place of what JSON has no number for."""
    if isinstance(value, dict):
        return {name: finite(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def made(durations_s: dict[str, float]) -> dict[str, Any]:
    """Return when, by which versions and in what time something was made, in seconds of each
    phase."""
    return {
        "created_at": time.time(),
        "versions": versions.current(),
        "durations_s": durations_s,
    }
