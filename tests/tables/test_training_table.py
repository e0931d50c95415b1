"""The rows with a target, the columns to learn from, and what is noted about them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rowcast.tables import (
    Feature,
    Source,
    checks,
    training_table,
)
from tests.support import files
from tests.support.sources import peek, refusal
from tests.support.tables import parquet
from tests.support.training import LABELS, N_ROWS, names_of, numbers


@pytest.mark.parametrize(
    "name",
    ["two words", "a.b.c", "größe 日本 🙂", "7", "", 'it\'s "quoted"', "x" * 999],
)
def test_odd_name_is_accepted(name: str, opened: Callable[[Any], Source]) -> None:
    content = files.parquet(pa.table({name: [0.5, 1.5] * 6, "y": LABELS}))
    assert checks.check_fit(peek(content), "y") == "y"
    assert list(training_table.read(opened(content), "y").frame) == [name]
    checks.check_predict(peek(content), [Feature(name, "numeric")])


def test_target_may_have_an_odd_name(opened: Callable[[Any], Source]) -> None:
    table = pa.table({"x": [0.5, 1.5] * 6, "the target. größe": LABELS})
    assert names_of(training_table.read(opened(table), "the target. größe")) == ["x"]


@pytest.mark.parametrize(
    "index", [pd.Index([7, 8] * 6, name="row id"), pd.Index(list("abcdefghijkl"))]
)
def test_index_of_pandas_is_not_a_feature(
    index: pd.Index, opened: Callable[[Any], Source]
) -> None:
    frame = pd.DataFrame({"x": [0.5, 1.5] * 6, "y": [0, 1] * 6}, index=index)
    source = opened(parquet(frame))
    assert len(source.schema.names) == 3
    assert names_of(training_table.read(source, "y")) == ["x"]


def test_index_of_pandas_may_be_the_target(opened: Callable[[Any], Source]) -> None:
    frame = pd.DataFrame({"x": [0.5, 1.5] * 6}, index=pd.Index([0, 1] * 6, name="y"))
    assert names_of(training_table.read(opened(parquet(frame)), "y")) == ["x"]


@pytest.mark.parametrize(
    "metadata",
    [b"{", b"[]", b'{"index_columns": null}', b"\xff", b'{"index_columns": [{}]}'],
)
def test_broken_metadata_of_pandas_does_not_matter(
    metadata: bytes, opened: Callable[[Any], Source]
) -> None:
    table = numbers().replace_schema_metadata({b"pandas": metadata})
    assert names_of(training_table.read(opened(table), "y")) == ["x"]


def test_features_keep_their_order_and_the_target_its_type(
    opened: Callable[[Any], Source],
) -> None:
    table = pa.table(
        {"b": [0.5, 1.5] * 6, "y": pa.array([0, 1] * 6, pa.int8()), "a": ["u", "v"] * 6}
    )
    found = training_table.read(opened(table), "y")
    assert list(found.frame) == names_of(found) == ["b", "a"]
    assert (found.target.tolist(), found.target_type) == ([0, 1] * 6, "int8")
    assert (found.notes, found.n_rows_left_out, found.weights) == ([], 0, None)


def test_rows_without_a_target_are_left_out_and_counted(
    opened: Callable[[Any], Source],
) -> None:
    table = pa.table(
        {"x": np.arange(30) / 2, "w": np.arange(30), "y": [None] * 10 + [1, 2] * 10}
    )
    found = training_table.read(opened(table), "y", "w")
    assert found.n_rows_left_out == 10
    assert found.frame["x"].tolist() == (np.arange(10, 30) / 2).tolist()
    assert found.weights is not None
    assert found.weights.tolist() == list(range(10, 30))


def test_all_columns_with_unreadable_values_are_named_with_rows_of_the_users_table(
    opened: Callable[[Any], Source],
) -> None:
    table = pa.table(
        {
            "a": [0.5] * 30 + [np.inf],
            "b": [0.5] * 29 + [-np.inf] * 2,
            "when": pa.array([2**61 + 12345] * 31, pa.timestamp("ms")),
            "y": [None] * 10 + [1, 2] * 10 + [1],
        }
    )
    error = refusal(training_table.read, opened(table), "y")
    assert error.errors == [
        "The column 'a' holds infinite values: 1, first in row 30.",
        "The column 'b' holds infinite values: 2, first in row 29.",
        "The column 'when' holds values that cannot be converted.",
    ]
    assert str(2**61 + 12345) not in str(error.problem())


def test_infinite_numbers_are_missing_and_noted_where_that_is_asked_for(
    opened: Callable[[Any], Source],
) -> None:
    values = [0.5, np.inf, 1.5, -np.inf, *[2.5] * 8]
    table = numbers(z=values)
    found = training_table.read(opened(table), "y", infinite="missing")
    assert {feature.infinite for feature in found.features} == {"missing"}
    assert found.frame["z"].isna().sum() == 2
    assert found.notes == [
        "The column 'z': its infinite numbers are missing (2 values)."
    ]


def test_weights_that_are_missing_or_negative_are_refused_with_their_rows(
    opened: Callable[[Any], Source],
) -> None:
    table = numbers(w=[1.0, None, -1.0, *[2.0] * 9])
    error = refusal(training_table.read, opened(table), "y", "w")
    assert (
        error.detail
        == "The column 'w' holds weights that are missing or below 0: 2, first in row 1."
    )


def test_weights_that_are_all_zero_are_refused(opened: Callable[[Any], Source]) -> None:
    assert (
        "no weight over 0"
        in refusal(training_table.read, opened(numbers(w=[0] * 12)), "y", "w").detail
    )


def test_weights_are_not_a_feature(opened: Callable[[Any], Source]) -> None:
    assert names_of(
        training_table.read(opened(numbers(w=[1.0, 2.0] * 6)), "y", "w")
    ) == ["x"]


def test_what_cannot_be_learned_from_is_left_out_and_noted(
    opened: Callable[[Any], Source],
) -> None:
    table = numbers(
        number=range(N_ROWS),
        same=["a"] * N_ROWS,
        empty=pa.nulls(N_ROWS),
        name=[f"n{i}" for i in range(N_ROWS)],
    )
    found = training_table.read(opened(table), "y")
    assert names_of(found) == ["x"]
    assert found.notes == [
        "The column 'number' was left out: an identifier with a different value in every row.",
        "The column 'same' was left out: the same value in every row.",
        "The column 'empty' was left out: no values.",
        "The column 'name' was left out: an identifier with a different value in every row.",
    ]
    assert [(column["name"], bool(column["left_out"])) for column in found.report] == [
        ("x", False),
        ("number", True),
        ("same", True),
        ("empty", True),
        ("name", True),
    ]


def test_identifiers_are_found_before_rows_without_a_target_are_left_out(
    opened: Callable[[Any], Source],
) -> None:
    labels = [*LABELS[:5], None, *LABELS[6:]]
    table = pa.table(
        {
            "x": [0.5, 1.5] * (N_ROWS // 2),
            "row": range(7, 7 + N_ROWS),
            "name": [f"name {i}" for i in range(N_ROWS)],
            "almost": [f"name {i or 5}" for i in range(N_ROWS)],
            "y": labels,
        }
    )
    found = training_table.read(opened(table), "y")
    assert names_of(found) == ["x", "almost"]
    assert found.n_rows_left_out == 1


def test_what_looks_like_an_identifier_is_learned_from_where_there_is_nothing_else(
    opened: Callable[[Any], Source],
) -> None:
    table = pa.table({"x": range(N_ROWS), "same": [1] * N_ROWS, "y": LABELS})
    assert names_of(training_table.read(opened(table), "y")) == ["x"]


def test_identifiers_are_used_when_that_is_asked_for(
    opened: Callable[[Any], Source],
) -> None:
    table = pa.table(
        {"row": range(N_ROWS), "x": [0.5, 1.5] * (N_ROWS // 2), "y": LABELS}
    )
    assert names_of(training_table.read(opened(table), "y")) == ["x"]
    asked = training_table.read(opened(table), "y", use_identifiers=True)
    assert names_of(asked) == ["row", "x"]
    assert asked.notes == []


def test_table_with_nothing_to_learn_from_is_refused_with_every_reason(
    opened: Callable[[Any], Source],
) -> None:
    table = pa.table({"a": [1] * N_ROWS, "b": pa.nulls(N_ROWS), "y": LABELS})
    assert refusal(training_table.read, opened(table), "y").errors == [
        "No column besides the target can be learned from.",
        "The column 'a' holds the same value in every row.",
        "The column 'b' holds no values.",
    ]


def test_numbers_with_a_few_words_in_a_text_file_are_noted(
    opened: Callable[[Any], Source],
) -> None:
    rows = "".join(f"{i / 2},{i % 2}\n" for i in range(60))
    found = training_table.read(opened(f"x,y\n{rows}many,1\n".encode()), "y")
    assert found.notes == [
        "The column 'x': 1 of its 61 values are not numbers, so all are read as text."
    ]


def test_dates_that_may_be_read_in_two_ways_are_noted(
    opened: Callable[[Any], Source],
) -> None:
    (note,) = training_table.read(
        opened(numbers(when=["01/02/2024", "03/04/2024"] * 6)), "y"
    ).notes
    assert note.startswith(
        "The column 'when': its dates can be read with the day or the month first"
    )


def test_profiles_of_features_are_ready_for_json(
    opened: Callable[[Any], Source],
) -> None:
    table = numbers(
        word=["a", None] * 6,
        flag=[True, False] * 6,
        when=[dt.date(2020, 1, 1), None] * 6,
    )
    found = training_table.read(opened(table), "y")
    assert all(feature.profile for feature in found.features)
    rebuilt = json.loads(json.dumps([feature.as_dict() for feature in found.features]))
    assert [Feature(**one) for one in rebuilt] == found.features


def test_job_checks_again_what_the_server_checked(
    opened: Callable[[Any], Source],
) -> None:
    assert (
        "'label' is missing"
        in refusal(training_table.read, opened(numbers()), "label").detail
    )


def test_numeric_target_with_a_mark_stays_numeric_and_is_noted(
    opened: Callable[[Any], Source],
) -> None:
    rows = "".join(f"{i % 7 / 2},${i * 31 % 1000}\n" for i in range(60))
    found = training_table.read(opened(f"x,y\n{rows}1.5,?\n".encode()), "y")
    assert found.target.dtype.kind == "f"
    assert found.n_rows_left_out == 1
    assert found.notes == [
        "The target 'y': its text is read as numbers, without $, with ? as missing (1 value)."
    ]


@pytest.mark.parametrize(
    "values",
    [
        [*range(11), None],
        [*map(float, range(11)), float("nan")],
        [dt.date(2020, 1, 1 + day) for day in range(11)] + [None],
        [f"{1 + day}.12.2020" for day in range(11)] + [None],
    ],
    ids=["numbers", "floats", "dates", "text"],
)
def test_times_grow_in_every_spelling_and_missing_ones_are_noted(
    values: list[Any], opened: Callable[[Any], Source]
) -> None:
    table = numbers(when=pa.array(values, from_pandas=False))
    found = training_table.read(opened(table), "y", time_column="when")
    assert found.times is not None
    assert (np.diff(found.times[:-1]) > 0).all()
    assert np.isnan(found.times[-1])
    note = "1 of 12 rows have no time in 'when'; they count as the earliest."
    assert note in found.notes


@pytest.mark.parametrize("values", [[7, 8, None] * 4, ["a", "b ", ""] * 4])
def test_group_column_is_no_feature_and_rows_without_one_form_a_group(
    values: list[Any], opened: Callable[[Any], Source]
) -> None:
    source = opened(numbers(who=values))
    found = training_table.read(source, "y", group_column="who")
    assert names_of(found) == ["x"]
    assert found.groups is not None
    assert found.groups.tolist() == [0, 1, 2] * 4
    assert found.notes == [
        "The column 'who' was left out: the groups that are held back whole, of which new rows "
        "bring others.",
        "4 of 12 rows have no group in 'who'; they form one group.",
    ]
    used = training_table.read(source, "y", group_column="who", use_identifiers=True)
    assert names_of(used) == ["x", "who"]


@pytest.mark.parametrize(
    ("option", "values", "reason"),
    [
        ("time_column", ["a", "b"] * 6, "of the kind category; a time_column needs"),
        ("time_column", [True, False] * 6, "of the kind boolean; a time_column needs"),
        ("time_column", [7] * 12, "a single time"),
        ("group_column", ["a", " a"] * 6, "a single group"),
    ],
)
def test_column_that_cannot_order_or_group_rows_is_refused(
    option: str, values: list[Any], reason: str, opened: Callable[[Any], Source]
) -> None:
    source = opened(numbers(when=values))
    asked: dict[str, Any] = {option: "when"}
    read = partial(training_table.read, **asked)
    error = refusal(read, source, "y")
    assert error.detail.startswith("The column 'when' holds ")
    assert reason in error.detail


@pytest.mark.parametrize(("n_missing", "is_noted"), [(13, True), (12, False)])
def test_target_that_is_missing_in_most_rows_is_noted(
    n_missing: int, is_noted: bool, opened: Callable[[Any], Source]
) -> None:
    y = [0, 1] * 6 + [None] * n_missing
    table = pa.table({"x": [row % 5 / 2 for row in range(len(y))], "y": y})
    notes = training_table.read(opened(table), "y").notes
    note = "The target 'y' is missing in most rows: 13 of 25 were left out."
    assert notes == ([note] if is_noted else [])
