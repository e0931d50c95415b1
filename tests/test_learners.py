"""Which task a target is for, and what every model keeps to, whatever the columns are."""

from __future__ import annotations

import datetime as dt
import tracemalloc
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import threadpoolctl

from rowcast import learners, tables
from rowcast.errors import InvalidTable

N_ROWS = 400
RNG = np.random.default_rng(0)
CLASS = RNG.integers(0, 2, N_ROWS)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # Boosting with several threads beside other busy processes takes up to a hundred times as long.
    with threadpoolctl.threadpool_limits(1):
        yield


def task_of(values: Any, asked: str = "auto", max_classes: int = 1000) -> str:
    return learners.task_of(np.asarray(values), asked, max_classes=max_classes)


def fitted(table: pa.Table, asked: str = "auto") -> tuple[Any, list[tables.Feature]]:
    features = tables.check_fit(table.schema, "y")
    target, is_known = tables.target_values(table, "y")
    task = learners.task_of(target, asked, max_classes=1000)
    frame = tables.features_frame(table.filter(is_known), features)
    return learners.fit(task, features, frame, target), features


@cache
def fitted_on(name: str) -> tuple[Any, list[tables.Feature]]:
    return fitted(table_of(x=COLUMNS[name]))


def predicted(model: Any, features: list[tables.Feature], table: pa.Table) -> np.ndarray:
    return learners.predict(model, tables.features_frame(table, features))


def table_of(**columns: Any) -> pa.Table:
    return pa.table({**columns, "y": CLASS})


def telling_numbers() -> np.ndarray:
    return CLASS + RNG.normal(size=N_ROWS) / 4


def days() -> pa.Array:
    """Return days in winter for one class and in summer for the other."""
    starts = [dt.date(2020 + row % 3, 7 if row_class else 1, 1) for row, row_class in enumerate(CLASS)]
    return pa.array([day + dt.timedelta(days=row % 40) for row, day in enumerate(starts)])


def sentences() -> pa.Array:
    words = ["a good", "quite a bad"]
    return pa.array(
        [f"this is {words[row_class]} thing, number {row}" for row, row_class in enumerate(CLASS)]
    )


COLUMNS: dict[str, pa.Array] = {
    "numbers": pa.array(telling_numbers()),
    "numbers with missing ones": pa.array(np.where(RNG.random(N_ROWS) < 0.1, np.nan, telling_numbers())),
    "booleans": pa.array(CLASS == 1),
    "nullable booleans": pa.array(
        [None if row % 10 == 0 else row_class == 1 for row, row_class in enumerate(CLASS)]
    ),
    "decimals": pa.array(CLASS).cast(pa.decimal128(21, 2)),
    "words": pa.array(np.where(CLASS, "yes", "no").tolist()),
    "words with missing ones": pa.array([None if row % 10 == 0 else "ny"[c] for row, c in enumerate(CLASS)]),
    "categories": pa.array(np.where(CLASS, "yes", "no").tolist()).dictionary_encode(),
    "sentences": sentences(),
    "numbers as text": pa.array([str(row_class) for row_class in CLASS]),
    "dates": days(),
    "dates as text": pa.array([str(day) for day in days().to_pylist()]),
    "times": days().cast(pa.timestamp("us")),
    "times with a zone": days().cast(pa.timestamp("us")).cast(pa.timestamp("us", "Europe/Paris")),
}


# The task


@pytest.mark.parametrize(
    "values",
    [
        ["yes", "no"] * 5,
        [True, False] * 5,
        [0, 1] * 5,
        [1.0, 2.0] * 5,
        list(range(20)) * 2,
        [*range(5), *range(5)],
    ],
    ids=str,
)
def test_labels_and_few_whole_numbers_are_classes(values: list[Any]) -> None:
    assert task_of(np.array(values, dtype=object if isinstance(values[0], str) else None)) == "classification"


@pytest.mark.parametrize(
    "values",
    [[0.5, 1.0] * 5, list(range(21)) * 2, [*range(6), *range(5)], [1e6 + i for i in range(12)]],
    ids=["fractions", "21 values", "less than twice each", "all different"],
)
def test_fractions_and_many_numbers_are_quantities(values: list[float]) -> None:
    assert task_of(values) == "regression"


def test_text_is_classes_however_many_differ() -> None:
    assert task_of(np.array([f"label {i}" for i in range(500)], dtype=object)) == "classification"


@pytest.mark.parametrize("values", [[0, 1] * 5, [True, False] * 5, [3.0] * 10])
def test_regression_can_be_asked_for(values: list[Any]) -> None:
    assert task_of(values, "regression") == "regression"


def test_classification_of_many_whole_numbers_can_be_asked_for() -> None:
    assert task_of(np.arange(50), "classification") == "classification"


@pytest.mark.parametrize(
    ("values", "asked", "reason"),
    [
        (np.array(["a", "b"] * 5, dtype=object), "regression", "text"),
        (np.array([0.5, 1.5] * 5), "classification", "fractions"),
        (np.array(["a"] * 10, dtype=object), "auto", "same value"),
        (np.array([7] * 10), "auto", "same value"),
        (np.array([True] * 10), "auto", "same value"),
        (np.arange(6), "classification", "6 classes; at most 5"),
        (np.array([str(i) for i in range(6)], dtype=object), "auto", "6 classes; at most 5"),
    ],
)
def test_target_that_does_not_fit_the_task_is_refused(values: np.ndarray, asked: str, reason: str) -> None:
    with pytest.raises(InvalidTable, match=reason):
        task_of(values, asked, max_classes=5)


def test_labels_that_differ_in_their_last_character_are_two_classes() -> None:
    assert task_of(np.array(["a", "a\0"] * 5, dtype=object)) == "classification"


def test_one_long_label_does_not_take_its_length_for_every_row() -> None:
    values = np.array(["a", "b"] * 2000 + ["c" * 10_000], dtype=object)
    tracemalloc.start()
    task_of(values)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


# Models


@pytest.mark.parametrize("name", COLUMNS)
def test_single_telling_column_is_learned(name: str) -> None:
    assert np.mean(predicted(*fitted_on(name), table_of(x=COLUMNS[name])) == CLASS) > 0.85


def test_model_is_better_than_the_most_frequent_class_on_new_rows() -> None:
    table = table_of(**{name: COLUMNS[name] for name in ("numbers", "words with missing ones", "dates")})
    model, features = fitted(table.slice(0, 300))
    frequent = max(np.mean(CLASS[300:]), 1 - np.mean(CLASS[300:]))
    assert np.mean(predicted(model, features, table.slice(300)) == CLASS[300:]) > frequent + 0.3


def test_regression_is_better_than_the_mean_on_new_rows() -> None:
    x = np.random.default_rng(1).normal(size=N_ROWS)
    table = pa.table({"x": x, "word": COLUMNS["words"], "y": 3 * x + CLASS})
    model, features = fitted(table.slice(0, 300))
    residuals = predicted(model, features, table.slice(300)) - table["y"].to_numpy()[300:]
    assert np.var(residuals) < np.var(table["y"].to_numpy()[300:]) / 4


@pytest.mark.parametrize("names", [["numbers"], ["sentences", "numbers", "dates"]])
def test_same_seed_makes_the_same_model(names: list[str]) -> None:
    table = table_of(**{name: COLUMNS[name] for name in names})
    frame = tables.features_frame(table, tables.check_fit(table.schema, "y"))
    first, second = (fitted(table)[0].predict_proba(frame) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("names", [["numbers"], ["words", "numbers"]])
def test_probabilities_sum_to_one(names: list[str]) -> None:
    table = table_of(**{name: COLUMNS[name] for name in names})
    model, features = fitted(table)
    probabilities = model.predict_proba(tables.features_frame(table, features))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("name", COLUMNS)
def test_missing_values_are_predicted(name: str) -> None:
    assert len(predicted(*fitted_on(name), pa.table({"x": pa.nulls(3)}))) == 3


@pytest.mark.parametrize("name", ["words", "categories", "sentences", "numbers as text", "dates as text"])
def test_text_that_was_never_seen_is_predicted(name: str) -> None:
    unseen = pa.table({"x": ["never seen", "", " ", "99", "2020-13-45", "\u65e5\u672c"]})
    assert len(predicted(*fitted_on(name), unseen)) == len(unseen)


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("name", ["dates", "times", "times with a zone"])
def test_time_is_predicted_whatever_its_zone(name: str, zone: str | None) -> None:
    other = pa.table({"x": days().cast(pa.timestamp("ms")).cast(pa.timestamp("ms", zone))})
    assert np.mean(predicted(*fitted_on(name), other) == CLASS) > 0.85


@pytest.mark.parametrize(
    "column",
    [pa.nulls(N_ROWS, kind) for kind in (pa.null(), pa.string(), pa.date32())],
    ids=lambda column: str(column.type),
)
def test_column_without_a_value_beside_another_is_no_obstacle(column: pa.Array) -> None:
    model, features = fitted(table_of(empty=column, x=COLUMNS["numbers"]))
    new = pa.table({"empty": column, "x": COLUMNS["numbers"]})
    assert np.mean(predicted(model, features, new) == CLASS) > 0.85


def test_columns_with_a_single_value_in_a_large_table_are_no_obstacle() -> None:
    labels = np.arange(10_001) % 2
    sparse = {f"sparse {i}": np.where(np.arange(10_001) == 100 * i, 1.0, np.nan) for i in range(40)}
    table = pa.table({**sparse, "x": labels, "y": labels})
    model, features = fitted(table)
    assert predicted(model, features, table.slice(0, 2)).tolist() == [0, 1]


@pytest.mark.parametrize("kind", [pa.null(), pa.float64(), pa.string(), pa.date32()], ids=str)
def test_table_without_any_value_is_refused_or_learned_as_a_constant(kind: pa.DataType) -> None:
    table = table_of(x=pa.nulls(N_ROWS, kind), z=pa.nulls(N_ROWS, kind))
    try:
        model, features = fitted(table)
    except InvalidTable:
        return
    assert len(set(predicted(model, features, table))) == 1


@pytest.mark.parametrize("text", ["constant", " ", "", "N/A"])
def test_constant_text_is_refused_or_learned_as_a_constant(text: str) -> None:
    table = table_of(x=[text] * N_ROWS)
    try:
        model, features = fitted(table)
    except InvalidTable:
        return
    assert len(set(predicted(model, features, table))) == 1


@pytest.mark.parametrize("column", ["text", pd.Timestamp("2020-01-01")], ids=["text", "times"])
def test_ten_rows_are_enough(column: Any) -> None:
    table = pa.table({"x": [column] * 10, "z": range(10), "y": [0, 1] * 5})
    model, features = fitted(table)
    assert len(predicted(model, features, table)) == 10


def test_names_of_columns_that_preparation_would_choose_itself_do_not_clash() -> None:
    table = table_of(
        day=COLUMNS["dates"], day_year=COLUMNS["words"], day_month=COLUMNS["numbers"], day_1=sentences()
    )
    model, features = fitted(table)
    assert np.mean(predicted(model, features, table) == CLASS) > 0.85


def test_class_of_one_row_in_a_large_table_is_no_obstacle() -> None:
    labels = np.arange(10_001) % 2
    labels[0] = 7
    model, features = fitted(pa.table({"x": labels, "y": labels}))
    assert predicted(model, features, pa.table({"x": [0, 1]})).tolist() == [0, 1]


@pytest.mark.parametrize(
    "labels",
    [
        *(
            pa.array([0, 100], getattr(pa, kind)())
            for kind in ("int8", "uint16", "int64", "float32", "float64")
        ),
        pa.array([2**64 - 2, 2**64 - 1], pa.uint64()),
        pa.array(np.array([1.0, 2.0], np.float16)),
        pa.array([False, True]),
        pa.array(["no", "yes"]),
        pa.array(["", "1"]),
        pa.array(["no", "yes"], pa.large_string()),
    ],
    ids=str,
)
def test_predictions_are_labels_as_the_target_had_them(labels: pa.Array) -> None:
    target = labels.take(pa.array(CLASS))
    table = pa.table({"x": CLASS, "y": target})
    model, features = fitted(table)
    assert predicted(model, features, table).tolist() == target.to_pylist()


@pytest.mark.parametrize(("labels", "kind"), [(["no", "yes"], "O"), ([0, 1], "i"), ([0.25, 0.5], "f")])
def test_no_rows_are_predicted_as_none_of_the_same_kind(labels: list[Any], kind: str) -> None:
    table = pa.table({"x": COLUMNS["numbers"], "y": pa.array(labels).take(pa.array(CLASS))})
    model, features = fitted(table)
    none = predicted(model, features, table.slice(0, 0))
    assert (len(none), none.dtype.kind) == (0, kind)
