"""Write the manifests of models and results: what each was made from, how, and how good it is."""

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
    """Return a model's part of its manifest; the dataset's and the file's are not in it."""
    target_type, classes = "double", None
    if plan.task == "classification":
        target_type = table.target_type
        classes = [training.label_text(label) for label in trained.model.classes_]
    return {
        "format": source.format.as_dict(),
        "target_type": target_type,
        "task": plan.task,
        "classes": classes,
        "learner": plan.learner,
        "params": dict(plan.params),
        "effort": plan.effort,
        "search_s": plan.search_s if plan.effort == "thorough" else None,
        "chosen": trained.choice.chosen(),
        "why": trained.choice.why,
        "leaderboard": trained.choice.leaderboard(),
        "search": trained.choice.search,
        "seed": plan.seed,
        "class_weight": plan.class_weight,
        "features": [feature.as_dict() for feature in trained.features],
        "columns": _columns(table, trained),
        "n_rows": len(table.target),
        "n_rows_left_out": table.n_rows_left_out,
        "verdict": trained.verdict,
        "validation": trained.validation,
        "importances": trained.importances,
        "effects": trained.effects,
        "n_background": trained.n_background,
        "intervals": trained.intervals,
        "sets": trained.sets,
        "plots": trained.plots,
        "notes": table.notes + trained.notes,
    }


def _columns(
    table: training_table.TrainingTable, trained: training.Trained
) -> list[dict[str, Any]]:
    """Return the report on each column: how it was preprocessed, or why it was left out.

    Of several learners, the one with the largest weight decides what the report says.
    """
    learner = LEARNERS[trained.choice.members[0][0].learner]
    used = {feature.name for feature in trained.features}
    report = []
    for column in table.report:
        left_out = column["left_out"]
        if not left_out and column["name"] not in used:
            left_out = "too few values"
        done = None
        if not left_out:
            done = preprocessing.describe(learner.preprocessing, column["kind"])
        report.append({**column, "preparation": done, "left_out": left_out or None})
    return report


def of_result(
    source: Source, predictor: Predictor, plan: prediction.Plan, rows: dict[str, Any]
) -> dict[str, Any]:
    """Return a result's part of its manifest; the model's, dataset's and file's are not in it.

    `rows` is what `prediction.write` returned.
    """
    used = {predictor.target, *plan.keep}
    used.update(feature.name for feature in predictor.features)
    return {
        "target": predictor.target,
        "output": plan.output,
        "cut": plan.cut and plan.cut.as_dict(),
        "format": plan.format,
        **rows,
        "ignored_columns": [name for name in source.schema.names if name not in used],
    }


def of_file(path: Path) -> dict[str, Any]:
    """Return the SHA-256, in hexadecimal, and the size in bytes of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return {"sha256": digest.hexdigest(), "size": path.stat().st_size}


def finite(value: Any) -> Any:
    """Return a manifest with null in place of NaN and infinity, which JSON cannot express."""
    if isinstance(value, dict):
        return {name: finite(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def made(durations_s: dict[str, float]) -> dict[str, Any]:
    """Return when and by which versions something was made, with the seconds of each phase."""
    return {
        "created_at": time.time(),
        "versions": versions.current(),
        "durations_s": durations_s,
    }
