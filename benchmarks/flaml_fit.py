"""Fits FLAML and predicts, with the packages of its own environment: nothing of ours is here.

`python flaml_fit.py FOLDER TARGET TASK SECONDS SEED`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from flaml import AutoML


def main() -> None:
    """Read the two tables of a folder and write the answer beside them."""
    folder, target, task, seconds, seed = sys.argv[1:]
    training = pd.read_parquet(Path(folder, "training.parquet"))
    held = pd.read_parquet(Path(folder, "held.parquet"))
    model = AutoML()
    model.fit(
        training.drop(columns=target),
        training[target],
        task=task,
        metric="log_loss" if task == "classification" else "rmse",
        time_budget=float(seconds),
        seed=int(seed),
        n_jobs=1,
        verbose=0,
    )
    Path(folder, "answer.json").write_text(json.dumps(_answer(model, task, held)))


def _answer(model: Any, task: str, held: pd.DataFrame) -> dict[str, Any]:
    if task == "regression":
        return {"values": [float(x) for x in model.predict(held)], "classes": None}
    classes = [str(label) for label in model.classes_]
    return {"values": model.predict_proba(held).tolist(), "classes": classes}


if __name__ == "__main__":
    main()
