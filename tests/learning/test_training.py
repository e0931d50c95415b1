"""Properties of every model, for all learners, tasks and kinds of columns; and its validation."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import pickle
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pytest
import threadpoolctl

from rowcast.config import Settings
from rowcast.errors import InvalidRequest, InvalidTable
from rowcast.learning import learners, training
from rowcast.learning.learners import LEARNERS, TASKS, Task
from rowcast.learning.training import Plan, Rows, Trained
from rowcast.learning.validation import split
from rowcast.tables import Feature, Limits, columns, training_table
from tests.support.tables import source_of

N_ROWS = 300
RNG = np.random.default_rng(0)
CLASS = RNG.integers(0, 2, N_ROWS)
LIMITS = Limits.of(Settings())
# Enough to learn what the tests have to learn, in a tenth of the time.
QUICK: dict[str, dict[str, Any]] = {
    "boosting": {"max_iter": 20},
    "linear": {},
    "forest": {"n_estimators": 20},
    "baseline": {},
}
LEARNING = [name for name in LEARNERS if name != "baseline"]

each_task = pytest.mark.parametrize("task", TASKS)
each_learner = pytest.mark.parametrize("learner", LEARNERS)
each_learning = pytest.mark.parametrize("learner", LEARNING)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # Boosting with several threads beside other busy processes takes up to a hundred times as long.
    with threadpoolctl.threadpool_limits(1):
        yield


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
    **how: Any,
) -> tuple[Trained, training_table.TrainingTable]:
    """Fit on a table as a job does; by default with few iterations and without validation."""
    data = training_table.read(source_of(table), "y", weights)
    task = learners.task_of(data.target, how.pop("task", "auto"), max_classes=1000)
    plan = Plan(
        learner, task, **{"params": QUICK[learner], "validation": "none", **how}
    )
    return training.train(
        plan, data.features, Rows(data.frame, data.target, data.weights)
    ), data


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


# Every learner


@pytest.mark.parametrize("name", COLUMNS)
@each_task
@each_learning
def test_single_telling_column_is_learned(learner: str, task: Task, name: str) -> None:
    found, table = model_of(learner, name, task)
    predictions, truth = predicted(found, table), table["y"].to_numpy()
    if task == "classification":
        assert np.mean(predictions == truth) > 0.8
    else:
        assert np.mean((predictions - truth) ** 2) < np.var(truth) / 2


@pytest.mark.parametrize("name", COLUMNS)
@each_task
@each_learner
def test_missing_values_are_predicted(learner: str, task: Task, name: str) -> None:
    found, _ = model_of(learner, name, task)
    assert len(predicted(found, pa.table({name: pa.nulls(3)}))) == 3


@pytest.mark.parametrize("name", ["words", "categories", "sentences"])
@each_task
@each_learner
def test_text_that_was_never_seen_is_predicted(
    learner: str, task: Task, name: str
) -> None:
    found, _ = model_of(learner, name, task)
    unseen = ["never seen", "", " ", "99", "\u65e5\u672c"]
    predictions = predicted(found, pa.table({name: unseen}))
    assert len(predictions) == len(unseen)
    if task == "regression":
        assert np.isfinite(predictions).all()


@pytest.mark.slow
@each_task
@each_learner
def test_same_seed_makes_the_same_model_to_the_byte(learner: str, task: Task) -> None:
    table = table_of(*MIXED, task=task)
    first, second = (trained(table, learner, validation="auto")[0] for _ in range(2))
    assert dumped(first) == dumped(second)
    for found in (first, second):
        # The seconds that importances took differ from fit to fit.
        found.importances = None
    assert first.validation == second.validation


@each_learner
def test_probabilities_sum_to_one(learner: str) -> None:
    table = table_of(*MIXED)
    found, data = trained(table, learner)
    probabilities = found.model.predict_proba(data.frame)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert found.model.classes_.tolist() == [0, 1]


@pytest.mark.slow
@each_task
@each_learner
def test_model_is_at_least_as_good_as_the_baseline_on_rows_it_has_not_seen(
    learner: str, task: Task
) -> None:
    found, _ = trained(
        table_of(*MIXED, task=task), learner, validation="cv", importance_s=0
    )
    figure = "accuracy" if task == "classification" else "r2"
    better = found.validation["scores"][figure] - found.validation["baseline"][figure]
    assert better > 0.2 if learner in LEARNING else abs(better) < 0.1


@pytest.mark.parametrize("validation", ["auto", "holdout"])
def test_baseline_has_not_seen_the_rows_that_judge_it(validation: Any) -> None:
    y = np.random.default_rng(1).normal(size=10)
    found, _ = trained(
        pa.table({"x": np.arange(10) / 7, "y": y}), "linear", validation=validation
    )
    # The mean of the rows that it learned from, m, misses the two held back by (a - m) and (b - m).
    _, held = split(Plan("linear", "regression"), y, 0.2)
    learned = np.delete(y, held)
    assert found.validation["baseline"]["mae"] == pytest.approx(
        np.abs(y[held] - learned.mean()).mean()
    )


@each_task
@each_learner
def test_account_of_a_model_is_ready_for_json(learner: str, task: Task) -> None:
    found, _ = trained(table_of(*MIXED, task=task), learner, validation="auto")
    account = [found.validation, found.importances, found.intervals, found.notes]
    assert json.loads(json.dumps(account, allow_nan=False)) == account


@each_task
@each_learner
def test_model_is_made_of_library_classes_alone(learner: str, task: Task) -> None:
    found, _ = trained(table_of(*MIXED, task=task), learner)
    assert b"rowcast" not in pickle.dumps(found.model)


@each_task
@each_learner
def test_ten_rows_are_enough(learner: str, task: Task) -> None:
    y = [0, 1] * 5 if task == "classification" else [0.5 + i for i in range(10)]
    table = pa.table({"x": [0.5, 1.5] * 5, "word": ["a", "b"] * 5, "y": y})
    found, _ = trained(table, learner, validation="auto")
    assert found.validation["n_rows"] == 2
    assert len(predicted(found, table)) == 10


# scikit-learn sums in float32 to find infinite values fast, and looks at each where the sum
# overflows.
@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce:RuntimeWarning")
@each_task
@each_learner
def test_huge_and_tiny_numbers_are_accepted(learner: str, task: Task) -> None:
    x = np.where(CLASS, 3e38, -3e38) * (1 + np.arange(N_ROWS) / 10_000)
    y = CLASS if task == "classification" else CLASS * 2.5
    found, _ = trained(
        pa.table({"x": x, "tiny": x * 1e-345 + 1e-320, "y": y}),
        learner,
        validation="auto",
    )
    assert len(predicted(found, pa.table({"x": x, "tiny": x}))) == N_ROWS


# Columns


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("name", ["dates", "times with a zone"])
def test_time_is_predicted_whatever_its_zone(name: str, zone: str | None) -> None:
    found, table = model_of("boosting", name, "classification")
    other = pa.table(
        {name: days().cast(pa.timestamp("ms")).cast(pa.timestamp("ms", zone))}
    )
    assert np.mean(predicted(found, other) == table["y"].to_numpy()) > 0.8


@each_learning
def test_columns_with_a_single_value_in_a_large_table_are_accepted(
    learner: str,
) -> None:
    labels = np.arange(10_001) % 2
    sparse = {
        f"sparse {i}": np.where(np.arange(10_001) == 100 * i, 1.0, np.nan)
        for i in range(40)
    }
    table = pa.table({**sparse, "x": labels / 2, "y": labels})
    found, _ = trained(table, learner, validation="auto", importance_s=0)
    assert predicted(found, table.slice(0, 2)).tolist() == [0, 1]


def test_large_table_of_hardly_any_values_is_refused() -> None:
    sparse = np.where(np.arange(10_001) < 5, np.arange(10_001) / 2, np.nan)
    with pytest.raises(InvalidTable, match="enough values"):
        trained(pa.table({"x": sparse, "y": np.arange(10_001) % 2}))


def test_names_of_columns_that_preparation_would_choose_itself_do_not_clash() -> None:
    found = {
        "day": COLUMNS["dates"],
        "day_year": COLUMNS["words"],
        "day_month": COLUMNS["numbers"],
        "day_1": COLUMNS["sentences"],
        "passed__day": COLUMNS["booleans"],
        "column_0": COLUMNS["numbers"],
    }
    table = pa.table({**found, "y": CLASS})
    for learner in LEARNING:
        assert np.mean(predicted(trained(table, learner)[0], table) == CLASS) > 0.8


@pytest.mark.parametrize("text", ["constant", " ", "", "N/A"])
def test_constant_text_beside_another_column_is_accepted(text: str) -> None:
    table = pa.table({"t": [text] * N_ROWS, "x": COLUMNS["numbers"], "y": CLASS})
    assert np.mean(predicted(trained(table)[0], table) == CLASS) > 0.8


@each_learning
def test_text_with_missing_values_in_a_part_is_accepted(learner: str) -> None:
    rare = pa.array([None] * (N_ROWS - 45) + [f"a text, number {i}" for i in range(45)])
    table = pa.table({"rare": rare, "x": COLUMNS["numbers"], "y": CLASS})
    assert len(predicted(trained(table, learner, validation="cv")[0], table)) == N_ROWS


@pytest.mark.parametrize("word", [" ", "a", "\u65e5", "!"])
def test_short_text_is_accepted(word: str) -> None:
    values = [word * (i % 45 + 1) + " " for i in range(N_ROWS)]
    table = pa.table({"t": values, "x": COLUMNS["numbers"], "y": CLASS})
    assert len(predicted(trained(table, validation="auto")[0], table)) == N_ROWS


# Validation


def numbers(n_rows: int, n_classes: int = 2) -> pa.Table:
    y = np.arange(n_rows) % n_classes
    return pa.table({"x": y + np.random.default_rng(1).normal(size=n_rows) / 4, "y": y})


@pytest.mark.parametrize(
    ("n_rows", "asked", "said"),
    [
        (200, "auto", ("split", 40, 160, True, False)),
        (9_999, "auto", ("split", 2000, 7_999, True, False)),
        (10_000, "auto", ("holdout", 1000, 9_000, False, True)),
        (200, "holdout", ("holdout", 40, 160, False, False)),
        (10_000, "holdout", ("holdout", 1000, 9_000, False, True)),
        (200, "cv", ("cv", 200, 160, True, False)),
    ],
)
def test_manifest_says_how_rows_were_held_back(
    n_rows: int, asked: str, said: tuple[Any, ...]
) -> None:
    found, _ = trained(numbers(n_rows), validation=asked, importance_s=0)
    names = (
        "method",
        "n_rows",
        "n_rows_trained",
        "model_has_seen_them",
        "early_stopping_saw_them",
    )
    assert tuple(found.validation[name] for name in names) == said


def test_none_holds_nothing_back_and_says_so() -> None:
    found, _ = trained(numbers(200, 2), validation="none")
    assert (found.validation, found.importances, found.intervals) == (
        {"method": "none"},
        None,
        None,
    )


@pytest.mark.parametrize(
    ("learner", "params"),
    [("linear", {}), ("boosting", {"early_stopping": False, "max_iter": 5})],
)
def test_holdout_that_stopped_nothing_is_reported_as_such(
    learner: str, params: dict[str, Any]
) -> None:
    found, _ = trained(
        numbers(10_000), learner, validation="auto", params=params, importance_s=0
    )
    assert found.validation["method"] == "holdout"
    assert found.validation["early_stopping_saw_them"] is False


def test_holdout_stops_the_training_early() -> None:
    x = np.random.default_rng(0).normal(size=10_000)
    found, _ = trained(
        pa.table({"x": x, "y": x > 0}), validation="auto", params={"max_iter": 1000}
    )
    assert found.model.n_iter_ < 500


def test_figures_of_a_split_are_those_of_rows_that_its_fit_had_not_seen() -> None:
    noise = np.random.default_rng(0)
    table = pa.table({"x": noise.normal(size=400), "y": noise.integers(0, 2, 400)})
    found, _ = trained(table, "forest", validation="auto", importance_s=0)
    assert np.mean(predicted(found, table) == table["y"].to_numpy()) > 0.95
    assert found.validation["scores"]["accuracy"] < 0.7


def test_cross_validation_says_how_its_folds_differ() -> None:
    found, _ = trained(numbers(200), validation="cv")
    assert found.validation["n_folds"] == 5
    assert found.validation["folds"]["accuracy"]["mean"] == pytest.approx(
        found.validation["scores"]["accuracy"], abs=1e-9
    )


@pytest.mark.parametrize("validation", ["auto", "holdout", "cv", "none"])
@each_learner
def test_class_of_one_row_is_accepted(learner: str, validation: str) -> None:
    y = ["a", "b"] * 20 + ["rare"]
    table = pa.table({"x": np.arange(41) % 2 + 0.5, "y": y})
    found, _ = trained(table, learner, validation=validation)
    assert found.model.classes_.tolist() == ["a", "b", "rare"]


@pytest.mark.parametrize("validation", ["auto", "holdout", "cv", "none"])
def test_class_of_one_row_in_a_large_table_is_accepted(validation: str) -> None:
    labels = np.arange(10_001) % 2
    labels[0] = 7
    found, _ = trained(
        pa.table({"x": labels / 2, "y": labels}), validation=validation, importance_s=0
    )
    assert predicted(found, pa.table({"x": [0, 0.5]})).tolist() == [0, 1]


@pytest.mark.parametrize("validation", ["auto", "holdout", "cv", "none"])
def test_classes_of_one_row_each_are_accepted(validation: str) -> None:
    table = pa.table({"x": [0.5, 1.5] * 6, "y": [f"label {i}" for i in range(12)]})
    found, _ = trained(table, validation=validation)
    assert len(found.model.classes_) == 12
    assert found.validation["method"] == ("cv" if validation == "cv" else "none")
    assert bool(found.notes) is (validation in ("auto", "holdout"))


@pytest.mark.parametrize("seed", range(10))
def test_model_of_few_rows_of_many_classes_is_judged_by_one_row_at_least(
    seed: int,
) -> None:
    table = pa.table(
        {"x": np.arange(10) / 2, "y": [f"label {i // 2}" for i in range(10)]}
    )
    found, _ = trained(table, validation="auto", seed=seed)
    assert found.validation["n_rows"] > 0
    assert found.validation["scores"]["accuracy"] is not None


@pytest.mark.slow
@each_learner
def test_thousand_classes_are_accepted(learner: str) -> None:
    quick = {
        "boosting": {"max_iter": 1},
        "linear": {"max_iter": 5},
        "forest": {"n_estimators": 2},
    }
    how = {
        "task": "classification",
        "params": quick.get(learner, {}),
        "importance_s": 0,
    }
    found, _ = trained(numbers(3_000, 1000), learner, validation="auto", **how)
    assert len(found.model.classes_) == 1000
    assert found.validation["scores"]["confusion_matrix"] is None


def test_cross_validation_that_leaves_one_class_is_refused_with_the_reason() -> None:
    table = pa.table({"x": np.arange(12) % 3 / 2, "y": ["a"] * 11 + ["b"]})
    with pytest.raises(InvalidTable, match="single class") as caught:
        trained(table, validation="cv")
    assert "validation=auto" in caught.value.hint


# Weights


def test_balanced_classes_make_the_rare_one_found() -> None:
    y = (np.arange(N_ROWS) % 20 == 0).astype(int)
    table = pa.table({"x": y + np.random.default_rng(0).normal(size=N_ROWS), "y": y})
    for learner in LEARNING:
        params = {"max_depth": 2} if learner == "forest" else QUICK[learner]
        plain, balanced, given = (
            predicted(
                trained(table, learner, params=params, class_weight=weight)[0], table
            ).sum()
            for weight in (None, "balanced", {"0": 1, "1": 19})
        )
        assert plain < balanced
        assert plain < given


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["no", "yes"], ["no", "yes"]),
        ([False, True], ["false", "true"]),
        ([0, 1], ["0", "1"]),
        ([1.0, 2.0], ["1.0", "2.0"]),
        ([1, 2], ["1", "2"]),
    ],
    ids=str,
)
@each_learning
def test_classes_are_weighed_by_their_names_as_text(
    learner: str, labels: list[Any], names: list[str]
) -> None:
    table = pa.table(
        {"x": [0.5] * 19 + [1.5], "y": pa.array(labels).take(pa.array([0, 1] * 10))}
    )
    for weights, expected in (([1, 1000], labels[1]), ([1000, 1], labels[0])):
        found, _ = trained(
            table, learner, class_weight=dict(zip(names, weights, strict=True))
        )
        assert predicted(found, table)[:19].tolist() == [expected] * 19


def test_class_weights_count_for_the_rows_that_stop_the_training_too() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=10_000), np.where(rng.random(10_000) < 0.1, "rare", "usual")
    weights = np.where(y == "rare", 9.0, 1.0)
    table = pa.table({"x": x, "y": y, "w": weights})
    how: dict[str, Any] = {"validation": "holdout", "params": {}, "importance_s": 0}
    by_class, _ = trained(table.drop(["w"]), class_weight={"rare": 9}, **how)
    by_row, _ = trained(table, weights="w", **how)
    assert predicted(by_class, table).tolist() == predicted(by_row, table).tolist()
    assert by_class.model.n_iter_ == by_row.model.n_iter_


def test_weight_of_an_unknown_class_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        trained(table_of("numbers"), class_weight={"0": 2, "7": 1, "x": 1})
    assert caught.value.errors == [
        "class_weight names '7', which is not a class.",
        "class_weight names 'x', which is not a class.",
    ]


@each_learner
def test_class_weight_that_is_0_for_every_class_is_refused(learner: str) -> None:
    with pytest.raises(InvalidRequest, match="gives no class a weight over 0"):
        trained(table_of("numbers"), learner, class_weight={"0": 0, "1": 0})


@each_task
def test_rows_of_weight_two_count_as_two_rows(task: Task) -> None:
    n_times = np.arange(N_ROWS) % 3
    table = table_of("numbers", task=task).append_column("w", pa.array(n_times))
    params = {"tol": 1e-10, "C": 1e3} if task == "classification" else {}
    weighed, data = trained(table, "linear", weights="w", params=params)
    repeated = table.take(pa.array(np.repeat(np.arange(N_ROWS), n_times))).drop_columns(
        "w"
    )
    other, _ = trained(repeated, "linear", params=params)
    method = "predict_proba" if task == "classification" else "predict"
    np.testing.assert_allclose(
        getattr(weighed.model, method)(data.frame),
        getattr(other.model, method)(data.frame),
        rtol=1e-2,
        atol=1e-2,
    )


@pytest.mark.parametrize("validation", ["auto", "cv"])
@each_task
@each_learner
def test_rows_without_weight_count_nowhere(
    learner: str, task: Task, validation: str
) -> None:
    table = table_of("numbers", task=task)
    y = table["y"].to_numpy().copy()
    y[::3] = 1 - y[::3] if task == "classification" else -1000
    weights = np.where(np.arange(N_ROWS) % 3 == 0, 0, 1)
    table = pa.table({"x": table["numbers"], "w": weights, "y": y})
    found, _ = trained(table, learner, weights="w", validation=validation)
    figure = "accuracy" if task == "classification" else "r2"
    assert found.validation["scores"][figure] > (0.7 if learner in LEARNING else -1)


@each_task
@each_learner
def test_column_with_values_only_in_rows_without_weight_is_accepted(
    learner: str, task: Task
) -> None:
    weights = pa.array([0.0] * 200 + [1.0] * (N_ROWS - 200))
    rare = pa.array([1.5, 2.5] * 100 + [None] * (N_ROWS - 200))
    table = (
        table_of("numbers", task=task)
        .append_column("w", weights)
        .append_column("rare", rare)
    )
    found, _ = trained(table, learner, weights="w", validation="auto")
    assert len(predicted(found, table)) == N_ROWS


@each_task
@each_learner
def test_few_rows_with_any_weight_are_accepted(learner: str, task: Task) -> None:
    table = table_of("numbers", task=task).append_column(
        "w", pa.array([1.0] * 2 + [0.0] * (N_ROWS - 2))
    )
    found, _ = trained(table, learner, weights="w", validation="auto")
    assert len(predicted(found, table)) == N_ROWS


# Importances


@pytest.mark.parametrize(
    "name", ["numbers", "words", "sentences", "dates", "booleans", "durations"]
)
@each_learning
def test_telling_column_is_the_most_important_one(learner: str, name: str) -> None:
    noise = np.random.default_rng(2)
    table = pa.table(
        {
            "noise": noise.normal(size=N_ROWS),
            "words of chance": [f"w{i}" for i in noise.integers(0, 5, N_ROWS)],
            "telling": COLUMNS[name],
            "y": CLASS,
        }
    )
    found, _ = trained(table, learner, validation="holdout", importance_s=5)
    assert found.importances is not None
    ranked = found.importances["features"]
    assert ranked[0]["name"] == "telling"
    assert ranked[0]["mean"] > 0.05
    assert {feature["name"] for feature in ranked} == {
        "noise",
        "words of chance",
        "telling",
    }


def test_importances_can_be_left_out_and_a_baseline_has_none() -> None:
    assert (
        trained(table_of("numbers"), validation="auto", importance_s=0)[0].importances
        is None
    )
    assert (
        trained(table_of("numbers"), "baseline", validation="auto")[0].importances
        is None
    )


# Parameters that do not fit


@pytest.mark.parametrize(
    ("params", "y", "reason"),
    [
        ({"loss": "quantile"}, CLASS + 0.5, "quantile need each other"),
        ({"quantile": 0.5}, CLASS + 0.5, "quantile need each other"),
        ({"loss": "gamma"}, CLASS * 1.5, "gamma needs targets over 0"),
        ({"loss": "poisson"}, CLASS - 0.5, "poisson needs targets of 0 or more"),
        ({"loss": "poisson"}, CLASS * 0, "at least one over 0"),
    ],
)
def test_loss_that_does_not_fit_the_target_is_refused(
    params: dict[str, Any], y: np.ndarray, reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        trained(
            pa.table({"x": COLUMNS["numbers"], "y": y}),
            params=params,
            task="regression",
        )


@pytest.mark.parametrize(
    "params",
    [
        {"loss": "quantile", "quantile": 0.9},
        {"loss": "gamma"},
        {"loss": "poisson"},
        {"loss": "absolute_error"},
    ],
)
def test_loss_that_fits_is_accepted(params: dict[str, Any]) -> None:
    table = pa.table({"x": COLUMNS["numbers"], "y": CLASS + 0.5})
    found, _ = trained(
        table, params={"max_iter": 5, **params}, task="regression", validation="auto"
    )
    assert len(predicted(found, table)) == N_ROWS


def test_quantile_of_09_lies_above_most_rows() -> None:
    y = np.random.default_rng(0).normal(size=1000)
    table = pa.table({"x": np.arange(1000) % 7 / 2, "y": y})
    found, _ = trained(
        table, params={"loss": "quantile", "quantile": 0.9, "max_iter": 50}
    )
    assert 0.85 < np.mean(y < predicted(found, table)) < 0.95


def test_training_that_did_not_converge_is_noted() -> None:
    found, _ = trained(table_of("numbers", "dates"), "linear", params={"max_iter": 1})
    assert found.notes == [
        "The linear learner did not converge; raise its parameter max_iter."
    ]
    assert trained(table_of("numbers"), "linear")[0].notes == []
