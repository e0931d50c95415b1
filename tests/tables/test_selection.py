"""Columns that a fit is told to learn from, to leave out, or to read as a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from rowcast.errors import InvalidTable
from rowcast.tables import Selection, Source, checks, columns, training_table
from tests.support.sources import refusal
from tests.support.stack import Stack

N_ROWS = 30
ROWS = range(N_ROWS)
CSV = "\n".join(
    ["a,b,id,day,w,y"]
    + [
        f"{i % 5},x{i % 3},{i + 100},{i % 28 + 1}.03.2020,{i % 4}.5,{i % 2}"
        for i in ROWS
    ]
).encode()
TYPED = pa.table(
    {
        "number": [str(i % 7) for i in ROWS],
        "code": [i % 3 for i in ROWS],
        "flag": [i % 2 for i in ROWS],
        "compact": [20200101 + i % 3 for i in ROWS],
        "took": [f"{i % 3}:00:0{i % 10}" for i in ROWS],
        "lists": [[i] for i in ROWS],
        "y": [i % 2 for i in ROWS],
    }
)
Open = Callable[[Any], Source]


def read(source: Source, **options: Any) -> training_table.TrainingTable:
    return training_table.read(source, "y", selection=Selection.of(options))


def test_only_chosen_columns_are_learned_from(opened: Open) -> None:
    found = read(opened(CSV), features=["id", "a"])
    assert [feature.name for feature in found.features] == ["a", "id"]
    assert [column["name"] for column in found.report] == ["a", "id"]


def test_dropped_columns_are_not_read(opened: Open) -> None:
    source = opened(TYPED)
    assert "lists" in refusal(lambda: read(source)).detail
    found = read(source, drop=["lists", "code", "compact", "took"])
    assert [feature.name for feature in found.features] == ["number", "flag"]


@pytest.mark.parametrize(
    ("content", "name", "kind", "first"),
    [
        (CSV, "a", "category", "0"),
        (CSV, "b", "text", "x0"),
        (CSV, "day", "text", "1.03.2020"),
        (TYPED, "number", "numeric", 0.0),
        (TYPED, "code", "category", "0"),
        (TYPED, "flag", "boolean", 0.0),
        (TYPED, "compact", "category", "20200101"),
        (TYPED, "code", "duration", 0.0),
        (TYPED, "took", "category", "0:00:00"),
    ],
)
def test_kind_of_a_column_is_the_one_asked_for(
    content: Any, name: str, kind: columns.Kind, first: Any, opened: Open
) -> None:
    source = opened(content)
    found = read(source, features=[name], kinds={name: kind})
    (feature,) = found.features
    assert feature.kind == kind
    assert found.frame[name].iloc[0] == first
    assert found.notes == [
        f"The column {name!r}: it is read as {kind}, as asked for, not as "
        f"{read(source, features=[name]).features[0].kind}."
    ]
    checks.check_predict(source, found.features)
    values = columns.read(feature, source.read([name]).column(name))
    assert values.n_unseen == values.n_missing == 0


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("b", "numeric", "'b' holds values that are not numbers: 30, first in row 0"),
        ("b", "datetime", "'b' holds values that are not dates"),
        ("b", "duration", "'b' holds values that are not durations"),
        ("w", "boolean", "'w' holds values that are neither true nor false"),
    ],
)
def test_values_that_are_not_of_the_kind_asked_for_are_refused(
    name: str, kind: str, detail: str, opened: Open
) -> None:
    source = opened(CSV)
    assert detail in refusal(lambda: read(source, kinds={name: kind})).detail


def test_category_of_too_many_values_is_refused(opened: Open) -> None:
    rows = [f"v{i},{i % 2}" for i in range(300)]
    source = opened("\n".join(["x,y", *rows]).encode())
    error = refusal(lambda: read(source, kinds={"x": "category"}))
    assert "300 different values, and a category may have 255" in error.detail


def test_wrong_choices_of_columns_are_all_named(opened: Open) -> None:
    selection = Selection(["aa", "b", "y"], ["b", "w"], {"w": "text"})
    with pytest.raises(InvalidTable) as caught:
        checks.check_fit(opened(CSV), "y", selection=selection)
    assert caught.value.errors == [
        "The column 'aa', which features names, is missing. Did you mean 'a'?",
        "The target 'y' is not a feature, but features names it.",
        "The column 'b' is named by features and by drop.",
        "The column 'w' has a kind in kinds, but is left out.",
    ]


def test_type_that_cannot_be_of_the_kind_is_refused(opened: Open) -> None:
    table = pa.table({"x": pa.array(list(ROWS), pa.duration("s")), "y": [0, 1] * 15})
    source = opened(table)
    error = refusal(lambda: read(source, kinds={"x": "datetime"}))
    assert error.errors == [
        "The column 'x' holds duration values and cannot be datetime."
    ]


def test_choice_of_columns_is_kept_with_the_model(stack: Stack) -> None:
    chosen = {"drop": ["day"], "kinds": {"a": "category"}}
    options = {"drop": '["day"]', "kinds": '{"a": "category"}', "learner": "linear"}
    model = stack.fitted(CSV, **options)
    about = stack.get(f"/models/{model}").json()
    assert about["selection"] == chosen
    kinds = {feature["name"]: feature["kind"] for feature in about["features"]}
    assert kinds == {"a": "category", "b": "category", "w": "numeric"}
    stack.finished(stack.predict(b"a,b,w\n1,x1,2.5\n", model))

    answer = stack.post("/fit", id=stack.upload(CSV), features='["aa"]')
    assert "Did you mean 'a'?" in answer.json()["detail"]


def test_many_missing_names_cost_little() -> None:
    types = {f"measure_{i:05}": [pa.int64()] for i in range(2_000)} | {"y": []}
    names = [f"messure_{i:05}" for i in range(2_000)]
    problems = list(Selection(features=names).problems(types, "y", None))
    assert len(problems) == 2_000
    assert sum("Did you mean" in problem for problem in problems) == 5
