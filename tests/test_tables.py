"""What is taken as a table and what is refused, by footer and by content. All files are real Parquet."""

from __future__ import annotations

import datetime as dt
import io
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, parquet

from rowcast import tables
from rowcast.errors import InvalidTable
from rowcast.tables import Feature

N_ROWS = 12
LABELS = pa.array([0, 1] * 6)
DAYS = [dt.date(2020, 1, 31), None] * 6
TIMES = [dt.datetime(2020, 1, 31, 23, 59), None] * 6  # noqa: DTZ001 - tables hold times without a zone, too
UTC_TIMES = [time and time.replace(tzinfo=dt.UTC) for time in TIMES]
WORDS = ["yes", None] * 6

TAKEN: dict[str, tuple[pa.Array, str, list[Any]]] = {
    "int8": (pa.array([1, None] * 6, pa.int8()), "numeric", [1.0, np.nan]),
    "int64": (pa.array([-1, 2] * 6), "numeric", [-1.0, 2.0]),
    "uint64": (pa.array([2**53, 0] * 6, pa.uint64()), "numeric", [2.0**53, 0.0]),
    "float16": (pa.array(np.full(N_ROWS, 0.5, np.float16)), "numeric", [0.5, 0.5]),
    "float32": (pa.array([0.5, None] * 6, pa.float32()), "numeric", [0.5, np.nan]),
    "float64 with NaN": (pa.array([0.5, float("nan")] * 6), "numeric", [0.5, np.nan]),
    "decimal": (pa.array([Decimal("1.25"), None] * 6), "numeric", [1.25, np.nan]),
    "wide decimal": (pa.array([Decimal("1.25"), None] * 6, pa.decimal256(60, 2)), "numeric", [1.25, np.nan]),
    "bool": (pa.array([True, None] * 6), "numeric", [1.0, np.nan]),
    "all null": (pa.nulls(N_ROWS), "numeric", [np.nan, np.nan]),
    "string": (pa.array(WORDS), "text", ["yes", np.nan]),
    "large string": (pa.array(WORDS, pa.large_string()), "text", ["yes", np.nan]),
    "string view": (pa.array(WORDS, pa.string_view()), "text", ["yes", np.nan]),
    "category of strings": (pa.array(WORDS).dictionary_encode(), "text", ["yes", np.nan]),
    "date": (pa.array(DAYS), "datetime", [pd.Timestamp("2020-01-31"), pd.NaT]),
    "date64": (pa.array(DAYS, pa.date64()), "datetime", [pd.Timestamp("2020-01-31"), pd.NaT]),
    "timestamp s": (
        pa.array(TIMES, pa.timestamp("s")),
        "datetime",
        [pd.Timestamp("2020-01-31 23:59"), pd.NaT],
    ),
    "timestamp ns": (
        pa.array(TIMES, pa.timestamp("ns")),
        "datetime",
        [pd.Timestamp("2020-01-31 23:59"), pd.NaT],
    ),
    "timestamp with zone": (
        pa.array(UTC_TIMES, pa.timestamp("us", "Europe/Paris")),
        "datetime",
        [pd.Timestamp("2020-02-01 00:59", tz="Europe/Paris"), pd.NaT],
    ),
}

REFUSED: dict[str, pa.Array] = {
    "list": pa.array([[1]] * N_ROWS),
    "struct": pa.array([{"a": 1}] * N_ROWS),
    "map": pa.array([[("a", 1)]] * N_ROWS, pa.map_(pa.string(), pa.int64())),
    "binary": pa.array([b"a"] * N_ROWS),
    "fixed_size_binary": pa.array([b"ab"] * N_ROWS, pa.binary(2)),
    "duration": pa.array([1] * N_ROWS, pa.duration("s")),
    "time": pa.array([dt.time(1)] * N_ROWS),
}

BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty file"),
    "one byte": (b"P", "not a Parquet file"),
    "magic only": (b"PAR1", "not a Parquet file"),
    "CSV": (b"x,y\n1,0\n" * 100, "not a Parquet file"),
    "encrypted footer": (b"PARE" + bytes(100) + b"PARE", "not a Parquet file"),
    "zeros as footer": (b"PAR1" + bytes(100) + (100).to_bytes(4, "little") + b"PAR1", "cannot be read"),
    "footer longer than the file": (b"PAR1" + bytes(100) + b"\xff\xff\xff\xff" + b"PAR1", "cannot be read"),
    "long footer of zeros": (
        b"PAR1" + bytes(200_000) + (100_000).to_bytes(4, "little") + b"PAR1",
        "cannot be read",
    ),
}


def file_of(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def schema_of(content: bytes) -> pa.Schema:
    return tables.read_schema(len(content), lambda offset, length: content[offset : offset + length])


def read(tmp_path: Path, content: bytes) -> pa.Table:
    path = tmp_path / "table"
    path.write_bytes(content)
    return tables.read(path)


def refusal(check: Callable[..., Any], *arguments: Any) -> InvalidTable:
    with pytest.raises(InvalidTable) as caught:
        check(*arguments)
    return caught.value


def not_unicode() -> pa.Array:
    raw = pa.array([b"\xff\xfe", b"a"] * 6)
    return pa.Array.from_buffers(pa.string(), N_ROWS, raw.buffers())


def numbers(**columns: Any) -> pa.Table:
    return pa.table({"x": range(N_ROWS), **columns, "y": LABELS})


# Types


@pytest.mark.parametrize(("column", "kind", "values"), TAKEN.values(), ids=TAKEN)
def test_column_is_taken_and_keeps_its_values(
    column: pa.Array, kind: str, values: list[Any], tmp_path: Path
) -> None:
    content = file_of(pa.table({"x": column, "y": LABELS}))
    features = tables.check_fit(schema_of(content), "y")
    tables.check_predict(schema_of(content), features)
    frame = tables.features_frame(read(tmp_path, content), features)
    assert features == [Feature("x", kind)]
    pd.testing.assert_series_equal(frame["x"].iloc[:2], pd.Series(values, name="x"), check_dtype=False)


def test_numeric_columns_become_float64() -> None:
    table = numbers(flag=[True, None] * 6, none=pa.nulls(N_ROWS))
    frame = tables.features_frame(table, tables.check_fit(table.schema, "y"))
    assert set(frame.dtypes) == {np.dtype("float64")}


def test_integer_category_of_pandas_is_taken(tmp_path: Path) -> None:
    content = parquet(pd.DataFrame({"x": pd.Categorical([3, 4] * 6), "y": [0, 1] * 6}))
    features = tables.check_fit(schema_of(content), "y")
    assert len(tables.features_frame(read(tmp_path, content), features)) == N_ROWS


def test_time_with_nanoseconds_is_taken() -> None:
    table = pa.table({"x": pa.array([1_234_567_891] * N_ROWS, pa.timestamp("ns")), "y": LABELS})
    frame = tables.features_frame(table, [Feature("x", "datetime")])
    assert frame["x"].iloc[0].floor("us") == pd.Timestamp("1970-01-01 00:00:01.234567")


@pytest.mark.parametrize(("name", "column"), REFUSED.items(), ids=REFUSED)
def test_column_that_no_model_can_use_is_named_with_its_type(name: str, column: pa.Array) -> None:
    table = pa.table({"x y": column, "z": range(N_ROWS), "y": LABELS})
    error = refusal(tables.check_fit, schema_of(file_of(table)), "y")
    assert "'x y'" in error.detail
    assert name in error.detail


@pytest.mark.parametrize("column", [REFUSED["binary"], REFUSED["binary"].dictionary_encode()])
def test_binary_is_refused_as_a_category_too(column: pa.Array) -> None:
    schema = schema_of(file_of(pa.table({"x": column, "z": range(N_ROWS), "y": LABELS})))
    assert "'x'" in refusal(tables.check_fit, schema, "y").detail


# Names


def test_missing_target_is_named_with_the_columns_that_are_there() -> None:
    error = refusal(tables.check_fit, numbers().schema, "label")
    assert "'label' is missing" in error.detail
    assert "'x', 'y'" in error.detail


def test_missing_target_of_a_wide_table_names_the_first_columns_only() -> None:
    wide = pa.schema([(f"column {i}", pa.float64()) for i in range(1000)])
    error = refusal(tables.check_fit, wide, "y")
    assert "'column 9' and 990 more" in error.detail


def test_duplicate_names_are_refused() -> None:
    table = pa.table([LABELS, LABELS, LABELS], names=["x", "x", "y"])
    assert "'x' appears 2 times" in refusal(tables.check_fit, table.schema, "y").detail


def test_duplicate_target_is_refused() -> None:
    table = pa.table([LABELS, LABELS, LABELS], names=["x", "y", "y"])
    assert "'y' appears 2 times" in refusal(tables.check_fit, table.schema, "y").detail


def test_table_of_only_the_target_is_refused() -> None:
    assert "no columns besides" in refusal(tables.check_fit, pa.table({"y": LABELS}).schema, "y").detail


def test_target_of_dates_is_refused() -> None:
    table = pa.table({"x": LABELS, "y": pa.array(DAYS)})
    assert "date32" in refusal(tables.check_fit, table.schema, "y").detail


def test_all_problems_are_listed_at_once() -> None:
    columns = [LABELS, LABELS, REFUSED["list"], REFUSED["struct"]]
    error = refusal(tables.check_fit, pa.table(columns, names=["x", "x", "items", "parts"]).schema, "y")
    assert [problem.split("'")[1] for problem in error.errors] == ["x", "y", "items", "parts"]
    assert error.detail == f"{error.errors[0]} (4 problems)"


@pytest.mark.parametrize(
    "name", ["two words", "a.b.c", "größe 日本 🙂", "7", "", 'it\'s "quoted"', "x" * 999]
)
def test_odd_name_is_taken(name: str, tmp_path: Path) -> None:
    content = file_of(pa.table({name: range(N_ROWS), "y": LABELS}))
    features = tables.check_fit(schema_of(content), "y")
    assert list(tables.features_frame(read(tmp_path, content), features)) == [name]


def test_target_may_have_an_odd_name() -> None:
    table = pa.table({"x": range(N_ROWS), "the target. größe": LABELS})
    assert [f.name for f in tables.check_fit(table.schema, "the target. größe")] == ["x"]


@pytest.mark.parametrize("index", [pd.Index([7] * N_ROWS, name="row id"), pd.Index(list("abcdefghijkl"))])
def test_index_of_pandas_is_no_feature(index: pd.Index) -> None:
    frame = pd.DataFrame({"x": range(N_ROWS), "y": [0, 1] * 6}, index=index)
    schema = schema_of(parquet(frame))
    assert len(schema.names) == 3
    assert tables.check_fit(schema, "y") == [Feature("x", "numeric")]


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"index_columns": null}', b"\xff"])
def test_broken_metadata_of_pandas_is_no_obstacle(metadata: bytes) -> None:
    table = numbers().replace_schema_metadata({b"pandas": metadata})
    assert tables.check_fit(schema_of(file_of(table)), "y") == [Feature("x", "numeric")]


# Files


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_file_that_is_no_table_is_refused(content: bytes, reason: str) -> None:
    assert reason in refusal(schema_of, content).detail


@pytest.mark.parametrize("content", [content for content, _ in BROKEN.values()], ids=BROKEN)
def test_file_that_is_no_table_cannot_be_read(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidTable):
        read(tmp_path, content)


def test_truncated_file_is_refused() -> None:
    assert "only a part" in refusal(schema_of, file_of(numbers())[:-100]).detail


def test_file_without_its_start_is_refused_when_read(tmp_path: Path) -> None:
    assert "damaged" in refusal(read, tmp_path, file_of(numbers())[100:]).detail


def test_damaged_rows_are_refused_when_read(tmp_path: Path) -> None:
    content = bytearray(file_of(numbers(z=np.random.default_rng(0).normal(size=N_ROWS))))
    content[4:100] = b"\xff" * 96
    assert "damaged" in refusal(read, tmp_path, bytes(content)).detail


def test_column_name_that_is_no_unicode_is_refused() -> None:
    content = file_of(numbers(zzzz=LABELS), store_schema=False).replace(b"zzzz", b"\xff\xff\xff\xff")
    with pytest.raises(InvalidTable):
        tables.check_fit(schema_of(content), "y")


def test_text_that_is_no_unicode_is_refused_and_its_column_named() -> None:
    error = refusal(tables.features_frame, numbers(s=not_unicode()), [Feature("s", "text")])
    assert "'s'" in error.detail


def test_target_that_is_no_unicode_is_refused() -> None:
    assert "'s'" in refusal(tables.target_values, numbers(s=not_unicode()), "s").detail


def test_schema_is_read_from_the_end_of_the_file_alone() -> None:
    content = file_of(numbers(z=np.random.default_rng(0).normal(size=N_ROWS)), row_group_size=1)
    content = b"PAR1" + bytes(200_000) + content[4:]
    reads: list[tuple[int, int]] = []

    def read_part(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return content[offset : offset + length]

    assert tables.read_schema(len(content), read_part).names == ["x", "z", "y"]
    assert reads == [(len(content) - tables.FOOTER_BYTES, tables.FOOTER_BYTES)]


def test_long_footer_is_read_with_a_second_read() -> None:
    names = [f"a column with a rather long name, number {i}" for i in range(1000)]
    content = file_of(pa.table([LABELS] * 1000, names=names))
    reads: list[int] = []

    def read_part(offset: int, length: int) -> bytes:
        reads.append(length)
        return content[offset : offset + length]

    assert tables.read_schema(len(content), read_part).names == names
    assert [reads[0], len(reads)] == [tables.FOOTER_BYTES, 2]


# Values


def test_infinite_values_are_named_with_their_first_row() -> None:
    table = numbers(a=[0.5] * 3 + [np.inf] * 9, b=[0.5] * 11 + [-np.inf])
    error = refusal(tables.features_frame, table, tables.check_fit(table.schema, "y"))
    assert error.errors == [
        "The column 'a' holds infinite values: 9, first in row 3.",
        "The column 'b' holds infinite values: 1, first in row 11.",
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**61 + 12345] * N_ROWS, pa.timestamp("ms")),
        pa.array([2**61 + 12345] * N_ROWS, pa.timestamp("s")),
    ],
)
def test_refusal_of_values_never_quotes_one(column: pa.Array) -> None:
    error = refusal(tables.features_frame, numbers(when=column), [Feature("when", "datetime")])
    assert "'when' holds values that cannot be converted" in error.detail
    assert str(2**61 + 12345) not in str(error.problem())


def test_target_gives_known_values_and_where_they_are() -> None:
    table = numbers(t=pa.array([1.5, None, float("nan"), *[2.5] * 9], pa.float64()))
    values, is_known = tables.target_values(table, "t")
    assert values.tolist() == [1.5, *[2.5] * 9]
    assert is_known.tolist() == [True, False, False, *[True] * 9]


def test_category_as_target_gives_its_labels() -> None:
    table = numbers(t=pa.array(["yes", "no"] * 6).dictionary_encode())
    assert tables.target_values(table, "t")[0].tolist() == ["yes", "no"] * 6


@pytest.mark.parametrize(
    ("target", "n_known"),
    [
        (pa.nulls(N_ROWS, pa.string()), 0),
        (pa.array([1.0] * 9 + [None] * 3), 9),
        (pa.array([float("nan")] * 12), 0),
    ],
)
def test_target_that_is_hardly_known_is_refused(target: pa.Array, n_known: int) -> None:
    error = refusal(tables.target_values, numbers(t=target), "t")
    assert error.detail.startswith(f"Only {n_known} of 12 rows have a value in the target column 't'")


def test_infinite_target_is_refused() -> None:
    assert "infinite" in refusal(tables.target_values, numbers(t=[np.inf] * N_ROWS), "t").detail


# Prediction


FEATURES = [Feature("a", "numeric"), Feature("b", "text"), Feature("c", "datetime")]
WHEN = pa.array([dt.date(2020, 1, 1)])


def test_columns_for_prediction_may_come_in_any_order_and_with_others() -> None:
    table = pa.table({"other": [[1]], "c": WHEN, "b": ["yes"], "a": [1.5]})
    tables.check_predict(table.schema, FEATURES)
    assert list(tables.features_frame(table, FEATURES)) == ["a", "b", "c"]


def test_missing_and_wrong_columns_are_all_named() -> None:
    table = pa.table({"a": ["text"], "c": [1]})
    problems = refusal(tables.check_predict, table.schema, FEATURES).errors
    assert problems == [
        "The column 'a' has the type string; the model needs numeric.",
        "The column 'b' is missing, which the model was trained on.",
        "The column 'c' has the type int64; the model needs datetime.",
    ]


def test_duplicate_of_a_needed_column_is_refused_and_of_another_is_not() -> None:
    names = ["a", "other", "other"]
    one = [FEATURES[0]]
    tables.check_predict(pa.table([LABELS] * 3, names=names).schema, one)
    error = refusal(tables.check_predict, pa.table([LABELS] * 2, names=["a", "a"]).schema, one)
    assert "'a' appears 2 times" in error.detail


@pytest.mark.parametrize("column", [pa.array([1]), pa.array([True]), pa.array([Decimal("1.5")])])
def test_numbers_are_accepted_as_text(column: pa.Array) -> None:
    table = pa.table({"b": column})
    tables.check_predict(table.schema, [FEATURES[1]])
    assert tables.features_frame(table, [FEATURES[1]])["b"].tolist() == [str(column[0].as_py()).lower()]


def test_all_null_column_is_accepted_as_any_kind() -> None:
    table = pa.table({name: pa.nulls(3) for name in "abc"})
    tables.check_predict(table.schema, FEATURES)
    assert tables.features_frame(table, FEATURES).isna().all(axis=None)


def test_no_rows_are_a_table_too() -> None:
    table = pa.table({"a": pa.array([], pa.int8()), "b": pa.array([], pa.string()), "c": WHEN[:0]})
    tables.check_predict(table.schema, FEATURES)
    assert tables.features_frame(table, FEATURES).shape == (0, 3)


# Results


@pytest.mark.parametrize(
    "values",
    [
        *(
            pa.array([0, 100] * 6, getattr(pa, f"{sign}int{bits}")())
            for sign in ("", "u")
            for bits in (8, 16, 32, 64)
        ),
        pa.array([2**64 - 1, 0] * 6, pa.uint64()),
        pa.array(np.array([0.5, 1.0] * 6, np.float16)),
        pa.array([0.5, 1.0] * 6, pa.float32()),
        pa.array([0.5, 1.0] * 6),
        pa.array([True, False] * 6),
        pa.array(["ja", "nein"] * 6),
        pa.array(["ja", "nein"] * 6, pa.large_string()),
        pa.array(["ja", "nein"] * 6, pa.string_view()),
    ],
    ids=lambda values: str(values.type),
)
def test_predicted_labels_have_the_values_and_type_of_the_target(values: pa.Array, tmp_path: Path) -> None:
    table = pa.table({"the label": values})
    labels, _ = tables.target_values(table, "the label")
    arrow_type = tables.target_type(table, "the label", "classification")
    tables.write_result(tmp_path / "result", "the label", labels, arrow_type)
    result = pq.read_table(tmp_path / "result")
    assert result.to_pydict() == table.to_pydict()
    assert result.schema.field(0).type in (values.type, pa.string())


def test_quantities_come_back_as_doubles_whatever_the_target_was(tmp_path: Path) -> None:
    arrow_type = tables.target_type(numbers(), "y", "regression")
    tables.write_result(tmp_path / "result", "y", np.array([0.5]), arrow_type)
    assert pq.read_table(tmp_path / "result").schema.field("y").type == pa.float64()


@pytest.mark.parametrize(
    ("dtype", "arrow_type"), [(object, "string"), (np.int64, "int64"), (np.float64, "double")]
)
def test_no_predictions_are_a_result_of_the_same_type(dtype: type, arrow_type: str, tmp_path: Path) -> None:
    tables.write_result(tmp_path / "result", "y", np.array([], dtype), arrow_type)
    result = pq.read_table(tmp_path / "result")
    assert (result.num_rows, str(result.schema.field("y").type)) == (0, arrow_type)


def test_checking_a_footer_loads_neither_pandas_nor_scikit_learn(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(parquet(pd.DataFrame({"x": range(N_ROWS), "y": [0, 1] * 6})))
    code = f"""
import sys
from rowcast import tables
content = open({str(tmp_path / "table")!r}, "rb").read()
schema = tables.read_schema(len(content), lambda offset, length: content[offset : offset + length])
tables.check_predict(schema, tables.check_fit(schema, "y"))
print(sorted({{"pandas", "sklearn", "skrub", "scipy"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_rows_are_numbered_as_in_the_users_table() -> None:
    table = pa.table({"a": [0.5] * 30 + [float("inf")], "y": [None] * 10 + [1, 2] * 10 + [1]})
    with pytest.raises(InvalidTable, match="first in row 30"):
        tables.training_data(table, "y")
