"""The progress of a running job: phases, counts, percentages, and the iterations of a fit."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import threadpoolctl

from rowcast.learning import fit_monitor, training
from rowcast.learning.learners import LEARNERS
from rowcast.learning.progress import STEPS, Progress, waiting
from rowcast.learning.training import Plan, Rows
from rowcast.tables import Feature

RNG = np.random.default_rng(0)
KEYS = {
    "phase",
    "percent",
    "rows_done",
    "rows_total",
    "iterations_done",
    "iterations_total",
    "best_loss",
}


class Clock:
    """A clock that stands until it is moved, or moves by a number of seconds at each reading."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step = 100.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sent() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def progress(clock: Clock, sent: list[dict[str, Any]]) -> Progress:
    return Progress(sent.append, clock=clock)


# Messages


def test_phase_is_sent_immediately_and_counts_four_times_a_second(
    progress: Progress, clock: Clock, sent: list[dict[str, Any]]
) -> None:
    progress.phase("downloading")
    progress.phase("reading")
    assert [message["phase"] for message in sent] == ["downloading", "reading"]
    for number in range(1000):
        clock.now += 0.001
        progress.rows(number, 1000)
    assert 2 + 3 <= len(sent) <= 2 + 4
    assert sent[-1]["rows_total"] == 1000
    assert all(message.keys() == KEYS for message in [*sent, waiting()])


@pytest.mark.parametrize("kind", STEPS)
def test_percent_comes_from_0_to_100_by_what_is_counted(
    kind: str, progress: Progress, clock: Clock, sent: list[dict[str, Any]]
) -> None:
    progress.start(kind)
    for phase, _ in STEPS[kind]:
        progress.phase(phase)
        for done in range(11):
            clock.now += 1
            progress.rows(done, 10)
    progress.end()
    percents = [message["percent"] for message in sent]
    assert percents[0] == 0
    assert percents[-1] == 100
    assert percents == sorted(percents)
    assert max(np.diff(percents)) < 8


def test_percent_never_falls_when_a_total_grows(
    progress: Progress, clock: Clock, sent: list[dict[str, Any]]
) -> None:
    progress.phase("reading")
    for done, total in ((90, 100), (91, 1000), (2000, 1000)):
        clock.now += 1
        progress.rows(done, total)
    percents = [message["percent"] for message in sent]
    assert percents == sorted(percents)
    assert percents[-1] < STEPS["fit"][0][1] + STEPS["fit"][1][1] + 5


def test_estimate_of_the_rows_moves_the_percentage_and_is_not_a_total(
    progress: Progress, clock: Clock, sent: list[dict[str, Any]]
) -> None:
    progress.phase("reading")
    clock.now += 1
    progress.rows(50, None, 100)
    assert sent[-1]["percent"] > sent[0]["percent"]
    assert (sent[-1]["rows_done"], sent[-1]["rows_total"]) == (50, None)


def test_counts_are_those_of_their_phase(
    progress: Progress, sent: list[dict[str, Any]]
) -> None:
    progress.phase("reading")
    progress.rows(7, 7)
    progress.phase("fitting")
    assert (sent[-1]["rows_done"], sent[-1]["iterations_done"]) == (None, None)


def test_folds_are_parts_of_one_phase(
    progress: Progress, clock: Clock, sent: list[dict[str, Any]]
) -> None:
    progress.phase("validating")
    on_progress = []
    for number in range(5):
        with progress.fold(number, 5):
            progress.phase("fitting")
            clock.now += 1
            progress.iterations(30, 100)
            on_progress.append(
                (sent[-1]["iterations_done"], sent[-1]["iterations_total"])
            )
    clock.now += 1
    progress.iterations(500, 500)
    assert {message["phase"] for message in sent} == {"validating"}
    assert on_progress == [(30, 500), (130, 500), (230, 500), (330, 500), (430, 500)]


def test_durations_add_up_what_a_phase_took_each_time(
    progress: Progress, clock: Clock
) -> None:
    for phase, seconds in (
        ("preparing", 1),
        ("fitting", 3),
        ("preparing", 2),
        ("fitting", 4),
    ):
        progress.phase(phase)  # type: ignore[arg-type]
        clock.now += seconds
    assert progress.durations_s == {"preparing": 3, "fitting": 7}
    assert progress.start("predict").durations_s == {}


def test_end_of_a_phase_is_logged_with_its_time_and_counts(
    progress: Progress, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "rowcast.job"):
        progress.phase("downloading")
        progress.downloaded(2_000_000, 2_000_000)
        clock.now += 0.5
        progress.phase("fitting")
        progress.iterations(57, 100)
        progress.phase("uploading")
        progress.end()
    assert caplog.messages == [
        "Downloading took 0.50 s: 2,000,000 bytes.",
        "Fitting took 0.00 s: 57 of 100 iterations.",
        "Uploading took 0.00 s.",
    ]


def test_reader_that_is_gone_does_not_fail_the_job(clock: Clock) -> None:
    def send(_: dict[str, Any]) -> None:
        raise BrokenPipeError

    progress = Progress(send, clock=clock)
    progress.phase("reading")
    progress.rows(1, 2)
    progress.end()


def test_threads_that_count_in_parallel_send_in_order(
    sent: list[dict[str, Any]],
) -> None:
    progress = Progress(sent.append, clock=Clock(0.1))
    progress.phase("reading")

    def count() -> None:
        for done in range(2_000):
            progress.rows(done, 2_000)

    counters = [threading.Thread(target=count) for _ in range(4)]
    for counter in counters:
        counter.start()
    for counter in counters:
        counter.join()
    percents = [message["percent"] for message in sent]
    assert len(percents) > 100
    assert percents == sorted(percents)


# The iterations of a fit


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threadpoolctl.threadpool_limits(1):
        yield


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "iterations"]


def rows_of(n_rows: int, n_columns: int = 10) -> tuple[list[Feature], Rows]:
    frame = pd.DataFrame(
        RNG.normal(size=(n_rows, n_columns)),
        columns=[f"x{i}" for i in range(n_columns)],
    )
    target = (frame.x0 + frame.x1 + RNG.normal(size=n_rows) > 0).astype(int).to_numpy()
    return [Feature(str(name), "numeric") for name in frame], Rows(frame, target)


SEEN: dict[str, dict[str, Any]] = {
    "boosting": {"max_iter": 150, "early_stopping": False},
    "forest": {"n_estimators": 150},
}
each_seen = pytest.mark.parametrize("learner", SEEN)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    # Looked at so often, a fit shows its iterations that takes a fraction of a second.
    monkeypatch.setattr(fit_monitor, "_INTERVAL_S", 0.01)


@each_seen
def test_iterations_of_a_running_fit_are_sent(
    learner: str, eager: None, sent: list[dict[str, Any]]
) -> None:
    plan = Plan(learner, "classification", SEEN[learner], validation="none")
    training.train(
        plan, *rows_of(2_000), Progress(sent.append, clock=Clock(0.3)).start("fit")
    )
    fitting = [message for message in sent if message["phase"] == "fitting"]
    counts = [
        message["iterations_done"] for message in fitting if message["iterations_done"]
    ]
    assert 0 < counts[0] < 150
    assert counts == sorted(counts)
    assert counts[-1] == 150
    assert {message["iterations_total"] for message in fitting} == {None, 150}
    assert not watchers()


@pytest.mark.parametrize("validation", ["holdout", "auto", "cv", "none"])
@pytest.mark.parametrize("learner", ["boosting", "linear"])
def test_every_validation_method_sends_its_phases(
    learner: str,
    validation: Any,
    sent: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    progress = Progress(sent.append).start("fit")
    params = {"max_iter": 10} if learner == "boosting" else {}
    plan = Plan(
        learner, "classification", params, validation=validation, importance_s=0
    )
    with caplog.at_level(logging.INFO, "rowcast.job"):
        training.train(plan, *rows_of(1_200, 3), progress)
    phases = [message["phase"] for message in sent]
    fit, judge = ["preparing", "fitting"], ["validating"]
    expected = {
        "holdout": [*fit, *judge],
        "auto": [*fit, *fit, *judge],
        "cv": [*judge, *fit, *judge],
        "none": fit,
    }
    assert [
        phase
        for phase, before in zip(phases, [None, *phases], strict=False)
        if phase != before
    ] == (expected[validation])
    if validation == "cv":
        done = "50" if learner == "boosting" else "5"
        assert any(f"{done} iterations" in message for message in caplog.messages)


@each_seen
def test_watched_fit_makes_the_same_model(
    learner: str, sent: list[dict[str, Any]]
) -> None:
    x, y = RNG.normal(size=(200, 3)), RNG.integers(0, 2, 200)
    models = []
    for progress in (Progress(), Progress(sent.append)):
        estimator = LEARNERS[learner].make("classification", {}, seed=0)
        with fit_monitor.watched(estimator, progress):
            estimator.fit(x, y)
        models.append(estimator)
    silent, watched = models
    assert list(vars(silent)) == list(vars(watched))
    unseen = RNG.normal(size=(5_000, 3))
    np.testing.assert_array_equal(
        silent.predict_proba(unseen), watched.predict_proba(unseen)
    )


class Late(Exception):
    """Raised by a signal handler in the middle of a fit."""


@each_seen
def test_watcher_ends_with_a_fit_that_is_interrupted(learner: str, eager: None) -> None:
    was_sent = threading.Event()

    def send(message: dict[str, Any]) -> None:
        if message["iterations_done"] and not was_sent.is_set():
            was_sent.set()
            os.kill(os.getpid(), signal.SIGALRM)

    def interrupt(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        plan = Plan(learner, "classification", SEEN[learner], validation="none")
        with pytest.raises(Late):
            training.train(
                plan, *rows_of(2_000), Progress(send, clock=Clock(0.3)).start("fit")
            )
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not watchers()


def test_learner_that_shows_no_iterations_is_fitted_anyway(
    sent: list[dict[str, Any]],
) -> None:
    class Plain:
        max_iter = 10
        _predictors = None

    with fit_monitor.watched(Plain(), Progress(sent.append)):
        assert len(watchers()) == 1
    assert not sent
    assert not watchers()
