"""Properties of every model, for all learners, tasks and kinds of columns."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rowcast.errors import InvalidRequest, InvalidTable
from rowcast.learning.learners import LEARNERS, Task
from tests.learning.fits import (
    CLASS,
    COLUMNS,
    FORESTS,
    LEARNING,
    MIXED,
    N_ROWS,
    QUICK,
    days,
    dumped,
    each_learner,
    each_learning,
    each_task,
    model_of,
    predicted,
    table_of,
    trained,
)

# Every learner


@pytest.mark.slow
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
    first, second = (trained(table, learner, validation="holdout")[0] for _ in range(2))
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
    assert better > 0.2 if learner != "baseline" else abs(better) < 0.1


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
    assert found.validation["n_rows"] == 10
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


# Weights


def test_balanced_classes_make_the_rare_one_found() -> None:
    y = (np.arange(N_ROWS) % 20 == 0).astype(int)
    table = pa.table({"x": y + np.random.default_rng(0).normal(size=N_ROWS), "y": y})
    for learner in LEARNING:
        params = {"max_depth": 2} if learner in FORESTS else QUICK.get(learner, {})
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_candidate_that_did_not_converge_is_no_note_on_a_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hasty = replace(LEARNERS["linear"], defaults={"max_iter": 1})
    monkeypatch.setitem(LEARNERS, "linear", hasty)
    found, _ = trained(table_of("numbers", "dates"), "auto")
    assert not any("max_iter" in note for note in found.notes)
