"""What users do in the soak: fits of many kinds, and predictions with them, through `client.py`.

The same seed gives the same jobs, so that two runs of them can be compared.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from client import (
    APIError,
    Client,
    JobCanceledError,
    JobFailedError,
    RowcastError,
    ServiceUnreachableError,
    WaitTimeoutError,
)

T = TypeVar("T")
# Seconds that a user repeats a failing request, before the soak has failed.
PATIENCE_S = 300.0
PASSING = frozenset({429, 500, 502, 503, 504})
# Which of these codes a job without a model gets depends on the moment.
SAME = {
    "model_failed": "no model",
    "fit_ended": "no model",
    "dependency_failed": "no model",
    "model_not_found": "no model",
}
FORMATS = ("parquet", "csv", "jsonl")


@dataclass(frozen=True)
class Prediction:
    """One prediction: its format, and whether it is submitted early, with a bad table."""

    format: str
    is_early: bool
    is_bad: bool


@dataclass(frozen=True)
class Story:
    """One user's fit and the predictions with it; it begins at the fraction `at` of the soak."""

    seed: int
    at: float
    size: str
    options: dict[str, Any]
    is_canceled: bool
    is_bad: bool
    predictions: tuple[Prediction, ...]

    @property
    def n_jobs(self) -> int:
        """The number of its jobs."""
        return 1 + len(self.predictions)


@dataclass
class Account:
    """How each job of a story ended, with its predictions, and the ids of the jobs."""

    ends: list[Any] = field(default_factory=list)
    jobs: dict[str, str] = field(default_factory=dict)
    # Submissions whose answer was lost: each may have made a job that the user does not know.
    n_unknown: int = 0


def stories(n_jobs: int, seed: int) -> list[Story]:
    """Return stories of `n_jobs` jobs in all, in the order of their beginning."""
    rng, found = random.Random(seed), list[Story]()
    while (n_left := n_jobs - sum(story.n_jobs for story in found)) > 0:
        found.append(_story(rng, n_left))
    return sorted(found, key=lambda story: story.at)


def _story(rng: random.Random, n_left: int) -> Story:
    size = rng.choices(("small", "medium", "long", "endless"), (45, 35, 18, 2))[0]
    learner = (
        rng.choices(("boosting", "linear", "forest"), (60, 20, 20))[0]
        if size != "endless"
        else "boosting"
    )
    options: dict[str, Any] = {"learner": learner, "importance_s": 0}
    if size == "long":
        options |= {
            "learner": "boosting",
            "validation": "none",
            "params": {"max_iter": 60},
        }
    if size == "endless":
        options |= {"validation": "none", "params": {"max_iter": 2000}, "timeout_s": 3}
    n_predictions = min(rng.choices((0, 1, 2, 3), (15, 40, 30, 15))[0], n_left - 1)
    return Story(
        seed=rng.randrange(10**6),
        at=rng.random(),
        size=size,
        options=options,
        is_canceled=size == "long" and rng.random() < 0.2,
        is_bad=size == "small" and rng.random() < 0.1,
        predictions=tuple(
            Prediction(rng.choice(FORMATS), rng.random() < 0.4, rng.random() < 0.1)
            for _ in range(n_predictions)
        ),
    )


def table(story: Story) -> pd.DataFrame:
    """Return the table of a story: numbers, words and gaps; a bad one has a single class."""
    rng = np.random.default_rng(story.seed)
    n_rows, n_columns = {"small": (300, 4), "medium": (4_000, 8)}.get(
        story.size, (3_000, 20)
    )
    frame = pd.DataFrame(
        rng.normal(size=(n_rows, n_columns)),
        columns=[f"col_{i}" for i in range(n_columns)],
    )
    score = (
        frame["col_0"] + frame["col_1"] * frame["col_2"] + rng.normal(size=n_rows) / 4
    )
    if story.size in ("long", "endless"):
        return frame.assign(y=[f"class {i}" for i in rng.integers(0, 20, n_rows)])
    frame = frame.mask(rng.random(frame.shape) < 0.05)
    frame["word"] = rng.choice(["red", "green", "blue"], n_rows)
    target = score if story.seed % 3 == 0 else np.where(score > 0, "yes", "no")
    return frame.assign(y="only one class" if story.is_bad else target)


def play(story: Story, client: Client, account: Account) -> None:
    """Do what the user of a story does."""
    frame = table(story)
    dataset = insist(lambda: client.upload(frame))
    model = submit(account, lambda: client.fit(dataset, **story.options))
    account.jobs[model] = "fit"
    is_canceled = story.is_canceled and cancel(client, model)
    rows = {each.is_bad for each in story.predictions}
    uploaded = {
        is_bad: insist(lambda it=is_bad: client.upload(rows_of(frame, it)))
        for is_bad in rows
    }
    early = [
        _predict(client, account, each, uploaded, model)
        for each in story.predictions
        if each.is_early
    ]
    end = how_it_ended(client, model)
    assert not is_canceled or end == ("canceled",), (model, end)
    late = [
        _predict(client, account, each, uploaded, model)
        for each in story.predictions
        if not each.is_early
    ]
    account.ends.append(end)
    account.ends += [
        each if isinstance(each, tuple) else how_it_ended(client, each, True)
        for each in early + late
    ]


def rows_of(frame: pd.DataFrame, is_bad: bool) -> pd.DataFrame:
    """Return the rows to predict; a bad table lacks a column."""
    return frame.drop(columns=["y", "col_0"] if is_bad else ["y"]).head(500)


def _predict(
    client: Client,
    account: Account,
    wanted: Prediction,
    uploaded: dict[bool, str],
    model: str,
) -> str | tuple[str, str]:
    """Submit a prediction; return its id, or the code of its refusal."""
    try:
        job = submit(
            account,
            lambda: client.predict(
                uploaded[wanted.is_bad], model, format=wanted.format
            ),
        )
    except APIError as error:
        return ("refused", SAME.get(error.code, error.code))
    account.jobs[job] = "predict"
    return job


def how_it_ended(
    client: Client, job: str, is_prediction: bool = False
) -> tuple[Any, ...]:
    """Wait for a job, and return how it ended, with the values of a prediction."""
    try:
        insist(lambda: client.wait(job))
    except JobCanceledError:
        return ("canceled",)
    except JobFailedError as error:
        return ("refused", SAME.get(error.code, error.code))
    return (
        ("finished", values(insist(lambda: client.download(job))))
        if is_prediction
        else ("finished",)
    )


def values(predictions: pd.DataFrame) -> tuple[Any, ...]:
    """Return predictions to compare, numbers with nine digits: threads add in any order."""
    column = predictions["y"]
    if column.dtype.kind == "f":
        return tuple(float(f"{value:.9g}") for value in column)
    return tuple(map(str, column))


def cancel(client: Client, job: str) -> bool:
    """Cancel a job; return whether that was in time."""
    try:
        insist(lambda: client.cancel(job))
    except APIError as error:
        if error.code != "job_ended":
            raise
        return False
    return True


def submit(account: Account, ask: Callable[[], T]) -> T:
    """Submit a job; one whose answer was lost is submitted again, and may exist twice."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except RowcastError as error:
            if not _passes(error) or time.monotonic() > deadline:
                raise
            is_sure = isinstance(error, APIError) and error.code in (
                "store_unavailable",
                "queue_full",
            )
            account.n_unknown += not is_sure and getattr(error, "sent", True)
        time.sleep(0.5)


def insist(ask: Callable[..., T]) -> T:
    """Repeat a request until it is answered, as a patient user does."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except RowcastError as error:
            if not _passes(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _passes(error: RowcastError) -> bool:
    if isinstance(error, APIError):
        return error.status in PASSING
    return isinstance(error, ServiceUnreachableError | WaitTimeoutError)


def quietly(do: Callable[[], Any]) -> bool:
    """Call a function; return whether it succeeded."""
    with contextlib.suppress(RowcastError, OSError):
        do()
        return True
    return False
