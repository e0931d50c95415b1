"""What a table must contain for a fit or a prediction."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from rowcast.config import Settings
from rowcast.tables import (
    Feature,
    Format,
    Limits,
    Sample,
    checks,
    formats,
)
from tests.support import ROOT
from tests.support.files import parquet
from tests.support.sources import refusal
from tests.support.training import LABELS, N_ROWS, numbers

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


def peeked(content: bytes) -> Sample:
    return formats.peek(
        len(content), lambda offset, length: content[offset : offset + length], LIMITS
    )


def sample_of(table: pa.Table) -> Sample:
    return Sample(Format("parquet"), table.schema)


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
    error = refusal(checks.check_fit, peeked(parquet(table)), "y")
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
    ("time_column", "reason"),
    [
        ("wehn", "which time_column names, is missing. Did you mean 'when'?"),
        ("y", "cannot also be the time_column"),
        ("items", "which no time_column can have"),
    ],
)
def test_time_column_that_cannot_be_one_is_refused(
    time_column: str, reason: str
) -> None:
    table = numbers(when=range(N_ROWS), items=REFUSED["list"])
    error = refusal(checks.check_fit, sample_of(table), "y", None, time_column)
    assert any(reason in problem for problem in error.errors)


def test_group_column_that_is_missing_is_refused() -> None:
    error = refusal(checks.check_fit, sample_of(numbers()), "y", None, None, "who")
    assert error.detail == "The column 'who', which group_column names, is missing."


def test_checking_a_table_loads_neither_pandas_nor_scikit_learn(tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_bytes(parquet(numbers()))
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


def test_long_names_of_columns_are_refused() -> None:
    table = pa.table({"n" * 1_001: [1], "m" * 1_000: [1], "y": [1]})
    fit = refusal(checks.check_fit, sample_of(table), "y")
    predict = refusal(checks.check_predict, sample_of(table), [Feature("y", "numeric")])
    problem = (
        "The name of the column 'nnnnnnnnnnnnnnnnnnnn'... has 1,001 characters; the maximum is "
        "1,000."
    )
    assert fit.errors == predict.errors == [problem]
