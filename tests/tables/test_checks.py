"""What a table must hold for a fit or a prediction, and what a fit makes of it."""

from __future__ import annotations

import datetime as dt
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rowcast.config import Settings
from rowcast.errors import InvalidTable
from rowcast.tables import (
    Feature,
    Format,
    Limits,
    Sample,
    Source,
    checks,
    formats,
    training_table,
)
from tests.support import ROOT
from tests.support.tables import parquet

N_ROWS = 12
LABELS = pa.array([0, 1] * 6)
LIMITS = Limits.of(Settings())
REFUSED: dict[str, pa.Array] = {
    "list": pa.array([[1]] * N_ROWS),
    "struct": pa.array([{"a": 1}] * N_ROWS),
    "map": pa.array([[("a", 1)]] * N_ROWS, pa.map_(pa.string(), pa.int64())),
    "binary": pa.array([b"a"] * N_ROWS),
    "fixed_size_binary": pa.array([b"ab"] * N_ROWS, pa.binary(2)),
    "dictionary<values=binary": pa.array([b"a"] * N_ROWS).dictionary_encode(),
}
FEATURES = [Feature("a", "numeric"), Feature("b", "text"), Feature("c", "datetime")]
WHEN = pa.array([dt.date(2020, 1, 1)])


def file_of(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def peeked(content: bytes) -> Sample:
    return formats.peek(
        len(content), lambda offset, length: content[offset : offset + length], LIMITS
    )


def sample_of(table: pa.Table) -> Sample:
    return Sample(Format("parquet"), table.schema)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[Any], Source]:
    """Return a function that opens a table, or a file's content, as a job does."""

    def open_file(content: pa.Table | bytes) -> Source:
        path = tmp_path / "table"
        path.write_bytes(content if isinstance(content, bytes) else file_of(content))
        return formats.open_file(path, LIMITS)

    return open_file


def numbers(**columns: Any) -> pa.Table:
    return pa.table({"x": [0.5, 1.5] * 6, **columns, "y": LABELS})


def refusal(check: Callable[..., Any], *arguments: Any) -> InvalidTable:
    with pytest.raises(InvalidTable) as caught:
        check(*arguments)
    return caught.value


def names_of(found: training_table.TrainingTable) -> list[str]:
    return [feature.name for feature in found.features]


# Before a fit


@pytest.mark.parametrize(
    ("names", "asked", "target"),
    [
        (["x", "y"], None, "y"),
        (["x", "target", "y"], None, "y"),
        (["x", "target"], None, "target"),
        (["x", "label"], None, "label"),
        (["class", "x"], None, "class"),
        (["x", "y"], "x", "x"),
        (["x", "y", "label"], "label", "label"),
        (["x"], "z", "z"),
        (["x", "target", "label"], None, "y"),
        (["x", "Target"], None, "y"),
        (["x"], None, "y"),
    ],
)
def test_target_is_the_one_asked_for_or_y_or_the_only_usual_name(
    names: list[str], asked: str | None, target: str
) -> None:
    assert checks.target_of(names, asked) == target


def test_name_of_the_target_is_found() -> None:
    assert (
        checks.check_fit(sample_of(pa.table({"x": LABELS, "class": LABELS})), None)
        == "class"
    )


def test_missing_target_is_named_with_the_columns_that_are_there() -> None:
    error = refusal(checks.check_fit, sample_of(numbers()), "label")
    assert "'label' is missing" in error.detail
    assert "'x', 'y'" in error.detail
    assert "target=<column>" in error.hint


def test_missing_target_of_a_wide_table_names_the_first_columns_only() -> None:
    wide = pa.schema([(f"column {i}", pa.float64()) for i in range(1000)])
    error = refusal(checks.check_fit, Sample(Format("parquet"), wide), "y")
    assert "'column 9' and 990 more" in error.detail


def test_target_must_be_named_where_two_usual_names_exist() -> None:
    table = pa.table({"x": LABELS, "label": LABELS, "class": LABELS})
    assert "'y' is missing" in refusal(checks.check_fit, sample_of(table), None).detail


@pytest.mark.parametrize("name", ["x", "y"])
def test_duplicate_names_are_refused(name: str) -> None:
    table = pa.table([LABELS] * 3, names=["x", "y", name])
    assert (
        f"{name!r} appears 2 times"
        in refusal(checks.check_fit, sample_of(table), "y").detail
    )


def test_table_of_only_the_target_is_refused() -> None:
    assert (
        "no columns besides"
        in refusal(checks.check_fit, sample_of(pa.table({"y": LABELS})), "y").detail
    )


@pytest.mark.parametrize(("name", "column"), REFUSED.items(), ids=REFUSED)
def test_column_that_no_model_can_use_is_named_with_its_type(
    name: str, column: pa.Array
) -> None:
    table = pa.table({"x y": column, "z": range(N_ROWS), "y": LABELS})
    error = refusal(checks.check_fit, peeked(file_of(table)), "y")
    assert "'x y'" in error.detail
    assert name in error.detail


@pytest.mark.parametrize(
    "column",
    [pa.nulls(N_ROWS), REFUSED["list"], REFUSED["binary"]],
    ids=["null", "list", "binary"],
)
def test_target_that_cannot_be_predicted_is_named_with_its_type(
    column: pa.Array,
) -> None:
    error = refusal(
        checks.check_fit, sample_of(pa.table({"x": LABELS, "y": column})), "y"
    )
    assert f"'y' has the type {column.type}" in error.detail


def test_very_long_type_is_shortened() -> None:
    column = pa.array(
        [{f"a field with a long name {i}": 1 for i in range(100)}] * N_ROWS
    )
    error = refusal(checks.check_fit, sample_of(numbers(s=column)), "y")
    assert len(error.detail) < 200


def test_all_problems_are_listed() -> None:
    columns = [LABELS, LABELS, REFUSED["list"], REFUSED["struct"]]
    table = pa.table(columns, names=["x", "x", "items", "parts"])
    error = refusal(checks.check_fit, sample_of(table), "y", "weight")
    assert [problem.split("'")[1] for problem in error.errors] == [
        "x",
        "y",
        "items",
        "parts",
        "weight",
    ]
    assert error.detail == f"{error.errors[0]} (5 problems)"


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ("w", "'w', which sample_weight names, is missing"),
        ("y", "cannot also be the sample_weight"),
        ("word", "needs numbers"),
    ],
)
def test_sample_weight_that_cannot_be_one_is_refused(weights: str, reason: str) -> None:
    error = refusal(
        checks.check_fit, sample_of(numbers(word=["a", "b"] * 6)), "y", weights
    )
    assert reason in error.detail


@pytest.mark.parametrize(
    "name",
    ["two words", "a.b.c", "größe 日本 🙂", "7", "", 'it\'s "quoted"', "x" * 999],
)
def test_odd_name_is_accepted(name: str, opened: Callable[[Any], Source]) -> None:
    content = file_of(pa.table({name: [0.5, 1.5] * 6, "y": LABELS}))
    assert checks.check_fit(peeked(content), "y") == "y"
    assert list(training_table.read(opened(content), "y").frame) == [name]
    checks.check_predict(peeked(content), [Feature(name, "numeric")])


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


def test_checking_a_table_loads_neither_pandas_nor_scikit_learn(tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_bytes(file_of(numbers()))
    (tmp_path / "table.csv").write_text("x,y\n" + "0.5,1\n1.5,0\n" * 6)
    code = f"""
import sys
from rowcast.learning import learners
from rowcast.tables import Feature, Format, Limits, checks, formats
from rowcast.config import Settings
for name in ("table.parquet", "table.csv"):
    content = open({str(tmp_path)!r} + "/" + name, "rb").read()
    read = lambda offset, length: content[offset : offset + length]
    sample = formats.peek(len(content), read, Limits.of(Settings()))
    checks.check_fit(sample, None)
    checks.check_predict(sample, [Feature("x", "numeric")])
learners.check("boosting", {{"max_iter": 10}})
print(sorted({{"pandas", "sklearn", "skrub", "scipy"}} & set(sys.modules)))
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "[]\n"


# Before a prediction


def test_columns_for_prediction_may_come_in_any_order_and_with_others() -> None:
    checks.check_predict(
        sample_of(pa.table({"other": [[1]], "c": WHEN, "b": ["yes"], "a": [1.5]})),
        FEATURES,
    )


def test_missing_and_wrong_columns_are_all_named() -> None:
    table = pa.table({"a": ["text"], "c": [1]})
    problems = refusal(checks.check_predict, sample_of(table), FEATURES, ["id"]).errors
    assert problems == [
        "The column 'a' has the type string; the model needs numeric.",
        "The column 'b', which the model was trained on, is missing.",
        "The column 'c' has the type int64; the model needs datetime.",
        "The column 'id', which keep names, is missing.",
    ]


def test_duplicate_of_a_needed_column_is_refused_and_of_another_is_not() -> None:
    one = [FEATURES[0]]
    checks.check_predict(
        sample_of(pa.table([LABELS] * 3, names=["a", "other", "other"])), one
    )
    twice = sample_of(pa.table([LABELS] * 2, names=["a", "a"]))
    assert "'a' appears 2 times" in refusal(checks.check_predict, twice, one).detail
    content = b"a,a\n1,2\n"
    peeked = formats.peek(
        len(content), lambda offset, length: content[offset : offset + length], LIMITS
    )
    assert "'a' appears 2 times" in refusal(checks.check_predict, peeked, one).detail
    kept = sample_of(pa.table([LABELS] * 3, names=["a", "id", "id"]))
    assert (
        "'id' appears 2 times"
        in refusal(checks.check_predict, kept, one, ["id"]).detail
    )


@pytest.mark.parametrize(("name", "column"), REFUSED.items(), ids=REFUSED)
def test_column_of_lists_objects_or_bytes_cannot_be_kept(
    name: str, column: pa.Array
) -> None:
    sample = sample_of(pa.table({"a": [1.5] * N_ROWS, "odd": column}))
    checks.check_predict(sample, FEATURES[:1])
    error = refusal(checks.check_predict, sample, FEATURES[:1], ["odd"])
    assert error.detail.startswith(f"The column 'odd' has the type {name}")


def test_column_without_a_value_is_accepted_as_any_kind() -> None:
    checks.check_predict(
        sample_of(pa.table({name: pa.nulls(3) for name in "abc"})), FEATURES
    )


def test_table_without_rows_can_be_predicted() -> None:
    table = pa.table(
        {"a": pa.array([], pa.int8()), "b": pa.array([], pa.string()), "c": WHEN[:0]}
    )
    checks.check_predict(sample_of(table), FEATURES)


def test_numbers_of_a_text_file_are_checked_before_queueing() -> None:
    sample = peeked(b"a,d\n1,5\n,6\nnone of them,7\ninf,x\n")
    features = [Feature("a", "numeric"), Feature("d", "duration")]
    assert refusal(checks.check_predict, sample, features).errors == [
        "The column 'a' holds values that are not numbers: 1, first in row 2.",
        "The column 'd' holds values that are not numbers: 1, first in row 3.",
    ]


# A table to learn from


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
    found = training_table.read(opened(f"x,y\n{rows}unknown,1\n".encode()), "y")
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
