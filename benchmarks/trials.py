"""One trial: fit a learner on three quarters of a real table, and judge it on the others."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from benchmarks.real_tables import RealTable, Task
from benchmarks.stack import ROOT
from rowcast.config import Settings
from rowcast.learning import LEARNERS, Predictor, learners, prediction, training
from rowcast.tables import Limits, Source, formats, training_table

HELD_SHARE, MIN_HELD = 0.25, 10
# As log loss is defined when a model calls what happened impossible.
LEAST_PROBABILITY = 1e-15
# Changes whenever the same learner on the same table would give other figures.
METHOD = 1
FLAML_S = 60
FLAML_PYTHON = ROOT / ".flaml" / "bin" / "python"

# The default learner until `auto`: scikit-learn's own parameters, whatever `boosting` has today.
FORMER = {
    "learning_rate": 0.1,
    "max_iter": 100,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 20,
    "early_stopping": "auto",
}


@dataclass(frozen=True)
class Trial:
    """What to do; `code` changes when the learner does."""

    table: str
    learner: str
    seed: int
    code: str

    @property
    def key(self) -> str:
        """What tells this trial from others."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Verdict:
    """How a trial ended; `n_rows` counts the table's rows with a target.

    `loss` and `baseline` are those of the rows held back: log loss or RMSE. `error` is why there is
    no loss.
    """

    trial: Trial
    n_rows: int
    loss: float | None = None
    baseline: float | None = None
    cpu_s: float | None = None
    notes: list[str] = field(default_factory=list)
    error: str = ""

    def to_json(self) -> str:
        """Return a line of the cache."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Verdict:
        """Return what `to_json` wrote."""
        fields = json.loads(line)
        return cls(**{**fields, "trial": Trial(**fields["trial"])})


@dataclass(frozen=True)
class Divided:
    """A table whose rows are divided; `truth` belongs to `held`, which lacks the target.

    The rows of `training` may lack a value of the target, as those of any user's table.
    """

    training: pd.DataFrame
    held: pd.DataFrame
    truth: pd.Series

    @property
    def known(self) -> pd.DataFrame:
        """The training rows with a target."""
        return self.training.dropna(subset=[self.truth.name])


@dataclass(frozen=True)
class Predicted:
    """Predictions for the rows held back, and what they cost.

    `values` are (n_held,) numbers, or the probabilities (n_held, n_classes) of `classes`.
    """

    values: np.ndarray
    cpu_s: float
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def run(table: RealTable, trial: Trial, packages: Path) -> Verdict:
    """Run a trial in this process, on one thread; `packages` is where tables come from."""
    frame = table.load(packages)
    divided = divide(frame, table.target, table.task, trial.seed)
    n_rows = int(frame[table.target].notna().sum())
    fit = COMPETITORS.get(trial.learner, fit_learner)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            predicted = fit(divided, table.task, trial)
        except Exception as error:  # noqa: BLE001 - a learner that fails has lost, and says why.
            reason = f"{type(error).__name__}: {error}"
            return Verdict(trial, n_rows, error=reason)

    loss, baseline = losses(divided, table.task, predicted)
    return Verdict(
        trial,
        n_rows,
        loss,
        baseline,
        cpu_s=round(predicted.cpu_s, 3),
        notes=predicted.notes,
    )


# Rows


def divide(frame: pd.DataFrame, target: str, task: Task, seed: int) -> Divided:
    """Hold back a quarter of the rows with a target, at least 10; classes keep their shares.

    A class with a single row is learned from.
    """
    from sklearn.model_selection import train_test_split

    known = frame[target].dropna()
    n_held = max(MIN_HELD, round(HELD_SHARE * len(known)))
    strata = None
    if task == "classification":
        known = known[known.map(known.value_counts()) > 1]
        strata = known if known.nunique() <= n_held else None
    _, held = train_test_split(
        known.index.to_numpy(), test_size=n_held, random_state=seed, stratify=strata
    )
    held = np.sort(held)
    rest = frame.loc[~frame.index.isin(held)]
    return Divided(
        training=rest.reset_index(drop=True),
        held=frame.loc[held].drop(columns=target).reset_index(drop=True),
        truth=frame.loc[held, target].reset_index(drop=True),
    )


# Losses


def losses(divided: Divided, task: Task, predicted: Predicted) -> tuple[float, float]:
    """Return the loss of predictions for the rows held back, and the baseline's."""
    known = divided.known[divided.truth.name]
    if task == "regression":
        truth = divided.truth.to_numpy(np.float64)
        mean = np.full(len(truth), known.mean())
        return rmse(truth, predicted.values), rmse(truth, mean)
    shares = known.value_counts(normalize=True)
    rows = np.tile(shares.to_numpy(), (len(divided.truth), 1))
    baseline = log_loss(divided.truth, rows, list(shares.index))
    assert predicted.classes is not None
    return log_loss(divided.truth, predicted.values, predicted.classes), baseline


def rmse(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the root of the mean squared error of predictions (n_rows,)."""
    return float(np.sqrt(np.mean((predicted - truth) ** 2)))


def log_loss(truth: pd.Series, probabilities: np.ndarray, classes: list[str]) -> float:
    """Return the log loss of probabilities (n_rows, n_classes); unknown classes have none."""
    places = {label: place for place, label in enumerate(classes)}
    found = np.array(
        [
            row[places[label]] if label in places else 0.0
            for label, row in zip(truth, probabilities, strict=True)
        ]
    )
    return float(-np.log(np.clip(found, LEAST_PROBABILITY, 1)).mean())


# Competitors


def predict_interval(
    divided: Divided, learner: str, seed: int, level: float
) -> np.ndarray:
    """Return the bounds (n_held, 2) of a quantity's interval, by a learner that is fitted first."""
    target = str(divided.truth.name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, held = _as_files(divided, folder)
        table = training_table.read(source, target)
        plan = training.Plan(learner, "regression", seed=seed, importance_s=0)
        rows = training.Rows(table.frame, table.target)
        trained = training.train(plan, table.features, rows)
        predictor = _predictor(trained, target, table.target_type, "regression")
        levels = [(1 - level) / 2, (1 + level) / 2]
        output = prediction.Plan("quantiles", levels)
        prediction.write(folder / "result", predictor, held, output)
        result = pq.read_table(folder / "result").to_pandas()
    return result[predictor.names(output)[1:]].to_numpy(np.float64)


def fit_learner(divided: Divided, task: Task, trial: Trial) -> Predicted:
    """Fit one of our learners on a CSV file, as a job does, and predict another."""
    former = trial.learner == "former"
    learner = "boosting" if former else trial.learner
    params = FORMER if former else {}
    target = str(divided.truth.name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, held = _as_files(divided, folder)

        began = time.process_time()
        table = training_table.read(source, target)
        task = learners.task_of(table.target, task, max_classes=1_000)
        plan = training.Plan(
            learner, task, params=params, seed=trial.seed, importance_s=0
        )
        rows = training.Rows(table.frame, table.target)
        trained = training.train(plan, table.features, rows, suspects=table.suspects)
        cpu_s = time.process_time() - began

        predictor = _predictor(trained, target, table.target_type, task)
        output = prediction.Plan("labels" if task == "regression" else "probabilities")
        prediction.write(folder / "result", predictor, held, output)
        result = pq.read_table(folder / "result").to_pandas()

    notes = [*table.notes, *trained.notes]
    if task == "regression":
        return Predicted(result[target].to_numpy(np.float64), cpu_s, notes=notes)
    classes = list(predictor.classes or ())
    return Predicted(
        result[predictor.names(output)[1:]].to_numpy(np.float64),
        cpu_s,
        [_as_written(label, divided.truth) for label in classes],
        notes,
    )


def _as_files(divided: Divided, folder: Path) -> tuple[Source, Source]:
    """Return the training rows and those held back as CSV files of a folder."""
    limits = Limits.of(Settings())
    divided.training.to_csv(folder / "training.csv", index=False)
    divided.held.to_csv(folder / "held.csv", index=False)
    found = (folder / "training.csv", folder / "held.csv")
    return formats.open_file(found[0], limits), formats.open_file(found[1], limits)


def _predictor(
    trained: training.Trained, target: str, target_type: str, task: Task
) -> Predictor:
    classes = None
    if task == "classification":
        classes = [training.label_text(label) for label in trained.model.classes_]
    return Predictor(
        trained.model,
        trained.features,
        target,
        target_type if task == "classification" else "double",
        classes,
        trained.intervals,
    )


def _as_written(label: str, truth: pd.Series) -> str:
    """Return a class as the table has it: `True` in a file is read as a boolean, not as text."""
    written = {str(value).lower(): str(value) for value in truth.unique()}
    return written.get(label.lower(), label)


def fit_by_hand(divided: Divided, task: Task, trial: Trial) -> Predicted:
    """Fit skrub's `tabular_pipeline` with its defaults, on the table as pandas reads it."""
    from skrub import tabular_pipeline

    known = divided.known
    target = divided.truth.name
    kind = "classifier" if task == "classification" else "regressor"
    began = time.process_time()
    model = tabular_pipeline(kind)
    model.set_params(**{f"{model.steps[-1][0]}__random_state": trial.seed})
    model.fit(known.drop(columns=target), known[target])
    cpu_s = time.process_time() - began
    if task == "regression":
        return Predicted(model.predict(divided.held), cpu_s)
    return Predicted(model.predict_proba(divided.held), cpu_s, list(model.classes_))


def fit_flaml(divided: Divided, task: Task, trial: Trial) -> Predicted:
    """Fit FLAML for a minute in a process of its own, with its own packages."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        divided.known.to_parquet(folder / "training.parquet")
        divided.held.to_parquet(folder / "held.parquet")
        script = Path(__file__).with_name("flaml_fit.py")
        target = str(divided.truth.name)
        options = [task, str(FLAML_S), str(trial.seed)]
        before = _children_s()
        done = subprocess.run(
            [FLAML_PYTHON, script, folder, target, *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=10 * FLAML_S,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        answer = json.loads((folder / "answer.json").read_text())
        cpu_s = _children_s() - before
    return Predicted(np.array(answer["values"]), cpu_s, answer["classes"])


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


COMPETITORS: dict[str, Callable[[Divided, Task, Trial], Predicted]] = {
    "skrub": fit_by_hand,
    "flaml": fit_flaml,
}


# What a trial depends on


def code_of(learner: str) -> str:
    """Return what changes when a learner does: a hash of our code, or a version of theirs."""
    if learner == "flaml":
        pinned = (ROOT / "locks" / "flaml.txt").read_text()
        (flaml,) = re.findall(r"(?m)^flaml==\S+", pinned)
        return f"{METHOD} {flaml} {FLAML_S}"
    if learner in COMPETITORS:
        versions = [f"{name} {version(name)}" for name in ("skrub", "scikit-learn")]
        return f"{METHOD} {' '.join(versions)}"
    digest = hashlib.sha256()
    for folder in ("learning", "tables"):
        for path in sorted((ROOT / "rowcast" / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return f"{METHOD} {digest.hexdigest()[:16]}"


def is_known(learner: str) -> bool:
    """Return whether a name can be judged."""
    return learner in {*LEARNERS, *COMPETITORS, "former", "auto", "blend"}


def use_one_thread() -> None:
    """Have the processes that this one starts use one thread each."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
