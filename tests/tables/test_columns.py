"""The kinds of columns, and the values that learners use of them. All types are Arrow's own."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rowcast.tables import columns
from rowcast.tables.columns import Feature, Unreadable
from tests.support.columns import infer, learned, listed, read

N_ROWS = 12
NAN = float("nan")
DAYS = [dt.date(2020, 1, 31), None] * 6
TIMES = [dt.datetime(2020, 1, 31, 23, 59), None] * 6  # noqa: DTZ001 - tables hold times without a zone, too
UTC_TIMES = [time and time.replace(tzinfo=dt.UTC) for time in TIMES]
NIGHT = pd.Timestamp("2020-01-31 23:59")
DAY = pd.Timestamp("2020-01-31")
WORDS = ["red", None, "blue"] * 4

TYPED: dict[str, tuple[pa.Array, str, list[Any]]] = {
    "int8": (pa.array([1, None] * 6, pa.int8()), "numeric", [1.0, NAN]),
    "int64": (pa.array([-1, 2] * 6), "numeric", [-1.0, 2.0]),
    "uint64": (pa.array([2**53, 0] * 6, pa.uint64()), "numeric", [2.0**53, 0.0]),
    "float16": (pa.array(np.full(N_ROWS, 0.5, np.float16)), "numeric", [0.5, 0.5]),
    "float32": (pa.array([0.5, None] * 6, pa.float32()), "numeric", [0.5, NAN]),
    "float64 with NaN": (pa.array([0.5, NAN] * 6), "numeric", [0.5, NAN]),
    "decimal": (pa.array([Decimal("1.25"), None] * 6), "numeric", [1.25, NAN]),
    "wide decimal": (
        pa.array([Decimal("1.25"), None] * 6, pa.decimal256(60, 2)),
        "numeric",
        [1.25, NAN],
    ),
    "bool": (pa.array([True, None] * 6), "boolean", [1.0, NAN]),
    "all null": (pa.nulls(N_ROWS), "numeric", [NAN, NAN]),
    "string": (pa.array(WORDS), "category", ["red", NAN]),
    "large string": (pa.array(WORDS, pa.large_string()), "category", ["red", NAN]),
    "string view": (pa.array(WORDS, pa.string_view()), "category", ["red", NAN]),
    "category of strings": (
        pa.array(WORDS).dictionary_encode(),
        "category",
        ["red", NAN],
    ),
    "category of integers": (
        pa.array([3, None, 4] * 4).dictionary_encode(),
        "category",
        ["3", NAN],
    ),
    "category of dates": (
        pa.array(DAYS).dictionary_encode(),
        "category",
        ["2020-01-31", NAN],
    ),
    "category of booleans": (
        pa.array([True, None] * 6).dictionary_encode(),
        "category",
        ["true", NAN],
    ),
    "date": (pa.array(DAYS), "datetime", [DAY, pd.NaT]),
    "date64": (pa.array(DAYS, pa.date64()), "datetime", [DAY, pd.NaT]),
    "timestamp s": (pa.array(TIMES, pa.timestamp("s")), "datetime", [NIGHT, pd.NaT]),
    "timestamp ns": (pa.array(TIMES, pa.timestamp("ns")), "datetime", [NIGHT, pd.NaT]),
    "timestamp with zone": (
        pa.array(UTC_TIMES, pa.timestamp("us", "Europe/Paris")),
        "datetime",
        [NIGHT, pd.NaT],
    ),
    "duration": (pa.array([1500, None] * 6, pa.duration("ms")), "duration", [1.5, NAN]),
    "time of day": (pa.array([dt.time(1, 0, 30), None] * 6), "duration", [3630.0, NAN]),
    "time of day in s": (
        pa.array([dt.time(1), None] * 6, pa.time32("s")),
        "duration",
        [3600.0, NAN],
    ),
}

UNSUPPORTED: dict[str, pa.Array] = {
    "list": pa.array([[1]]),
    "struct": pa.array([{"a": 1}]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "binary": pa.array([b"a"]),
    "fixed size binary": pa.array([b"ab"], pa.binary(2)),
    "category of binary": pa.array([b"a"]).dictionary_encode(),
}


@pytest.mark.parametrize(("column", "kind", "first"), TYPED.values(), ids=TYPED)
def test_column_of_a_supported_type_keeps_its_values(
    column: pa.Array, kind: str, first: list[Any]
) -> None:
    values = learned(column)
    assert (infer(column).kind, infer(column).type) == (kind, str(column.type))
    assert listed(values)[:2] == [None if pd.isna(value) else value for value in first]
    assert values.n_missing == sum(pd.isna(value) for value in column.to_pylist())
    assert values.n_unseen == 0


@pytest.mark.parametrize("column", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_type_that_no_learner_can_use_has_no_kind(column: pa.Array) -> None:
    assert columns.kind_of_type(column.type) is None


@pytest.mark.parametrize(
    "name", ["int8", "uint64", "float16", "decimal", "bool", "all null", "duration"]
)
def test_numbers_booleans_and_durations_become_float64(name: str) -> None:
    assert learned(TYPED[name][0]).array.dtype == np.float64


def test_time_with_nanoseconds_is_cut_to_microseconds() -> None:
    column = pa.array([1_234_567_891, 5] * 6, pa.timestamp("ns"))
    assert listed(learned(column))[0] == pd.Timestamp("1970-01-01 00:00:01.234567")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_are_seconds_whatever_their_unit(unit: str) -> None:
    column = pa.array([1, 2] * 6, pa.duration("s")).cast(pa.duration(unit))
    assert listed(learned(column))[:2] == [1.0, 2.0]


def test_categories_are_sorted_and_known() -> None:
    assert infer(["b", None, "a", "b"]).categories == ["a", "b"]


def test_text_keeps_every_character() -> None:
    values = [f"größe 日本 🙂 {i} \t" for i in range(50)]
    assert listed(learned(values)) == values


def test_decimal_comma_is_read_as_one() -> None:
    assert listed(learned(["1,5", "-2", None], untyped=True, decimal=",")) == [
        1.5,
        -2.0,
        None,
    ]


@pytest.mark.parametrize("values", [["1.500", "2,5"], ["1.500", "2.500"]])
def test_points_before_three_digits_mark_thousands_where_the_decimal_sign_is_a_comma(
    values: list[str],
) -> None:
    assert infer(values, untyped=True, decimal=",").kind == "numeric"
    assert listed(learned(values, untyped=True, decimal=","))[0] == 1500.0


def test_point_is_decimal_in_a_column_of_its_own() -> None:
    assert listed(learned(["1.5", "20.25"], untyped=True, decimal=",")) == [1.5, 20.25]


def test_dates_of_the_noted_format_alone_are_read_at_a_prediction() -> None:
    feature = infer(["31/01/2024", "01/02/2024"])
    assert listed(read(feature, ["03/04/2024"]))[0] == pd.Timestamp("2024-04-03")
    with pytest.raises(Unreadable, match="not dates"):
        read(feature, ["2024-01-31", "04/31/2024"])


def test_value_that_is_not_a_date_is_refused_with_its_row() -> None:
    with pytest.raises(Unreadable) as caught:
        read(
            infer(["2024-01-31", "2024-02-01"]), ["2024-01-31", None, "2024-13-01", "x"]
        )
    assert caught.value.rows.tolist() == [2, 3]
    assert "2024-13-01" not in caught.value.reason


@pytest.mark.parametrize("decimal", [".", ","])
def test_value_that_is_not_a_number_is_refused_with_its_row(decimal: str) -> None:
    with pytest.raises(Unreadable, match="not numbers") as caught:
        read(Feature("x", "numeric"), ["1", None, "a", "2", "1_000"], decimal)
    assert caught.value.rows.tolist() == [2, 4]


@pytest.mark.parametrize(
    "column",
    [pa.array([0.5, np.inf, -np.inf]), pa.array(["0.5", "inf", "-Infinity"])],
    ids=["float", "text"],
)
def test_infinite_values_are_refused_with_their_rows(column: pa.Array) -> None:
    with pytest.raises(Unreadable, match="infinite") as caught:
        read(Feature("x", "numeric"), column)
    assert caught.value.rows.tolist() == [1, 2]


@pytest.mark.parametrize(
    "column",
    [pa.array([0.5, np.inf, -np.inf, None]), pa.array(["0.5", "inf", "-Infinity", ""])],
    ids=["float", "text"],
)
def test_infinite_values_are_missing_where_the_feature_says_so(
    column: pa.Array,
) -> None:
    values = read(Feature("x", "numeric", infinite="missing"), column)
    assert listed(values) == [0.5, None, None, None]
    assert values.n_missing == 3
    with pytest.raises(Unreadable, match=r"over 3\.4e38"):
        read(Feature("x", "numeric", infinite="missing"), [1e39, np.inf])


@pytest.mark.parametrize(
    "column",
    [pa.array([0.5, 1e39, -1e300]), pa.array(["0.5", "1e39", "-1e300"])],
    ids=["float", "text"],
)
def test_numbers_that_some_learners_cannot_use_are_refused(column: pa.Array) -> None:
    with pytest.raises(Unreadable, match=r"over 3\.4e38") as caught:
        read(Feature("x", "numeric"), column)
    assert caught.value.rows.tolist() == [1, 2]


def test_unseen_categories_are_counted_and_apart_from_missing_ones() -> None:
    values = read(
        Feature("x", "category", categories=["a", "b"]), ["b", None, "c", "C", "a"]
    )
    assert (values.n_missing, values.n_unseen) == (1, 2)
    assert listed(values) == ["b", None, None, None, "a"]
    assert values.codes is not None
    assert values.codes.tolist() == [1, -1, 2, 2, 0]


def test_words_that_are_not_booleans_are_counted_as_unseen() -> None:
    values = read(Feature("x", "boolean"), ["YES", " no ", None, "", "perhaps"])
    assert listed(values) == [1.0, 0.0, None, None, None]
    assert (values.n_missing, values.n_unseen) == (2, 1)


def test_numbers_that_are_not_booleans_are_counted_as_unseen() -> None:
    values = read(Feature("x", "boolean"), [1, 0, None, 2])
    assert listed(values) == [1.0, 0.0, None, None]
    assert (values.n_missing, values.n_unseen) == (1, 1)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 0]),
        pa.array([1.0, 0.0]),
        pa.array(["1", "0"]),
        pa.array(["1.0", "0.0"]),
        pa.array(["TRUE", "no"]),
    ],
    ids=str,
)
def test_booleans_are_read_from_numbers_and_words(column: pa.Array) -> None:
    assert listed(read(Feature("x", "boolean"), column)) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("column", "read_as"),
    [
        (pa.array([1, 2]), ["1", "2"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([Decimal("1.5"), None]), ["1.5", None]),
    ],
    ids=str,
)
def test_numbers_are_read_as_text_where_the_model_knows_text(
    column: pa.Array, read_as: list[Any]
) -> None:
    assert listed(read(Feature("x", "text"), column)) == read_as


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_times_are_read_in_utc_whatever_their_zone(zone: str | None) -> None:
    column = pa.array([NIGHT.to_pydatetime()], pa.timestamp("ms")).cast(
        pa.timestamp("ms", "UTC")
    )
    column = (
        column.cast(pa.timestamp("ms", zone))
        if zone
        else column.cast(pa.timestamp("ms"))
    )
    assert listed(read(Feature("x", "datetime"), column)) == [NIGHT]


def test_time_out_of_range_is_refused_without_quoting_it() -> None:
    column = pa.array([2**61 + 12345] * 2, pa.timestamp("s"))
    with pytest.raises((pa.ArrowException, ValueError, OverflowError)):
        read(Feature("x", "datetime"), column)


def test_text_that_is_not_unicode_is_refused() -> None:
    raw = pa.array([b"\xff\xfe", b"a"])
    column = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    with pytest.raises(pa.ArrowException):
        read(Feature("x", "text"), column)


@pytest.mark.parametrize(
    "kind", ["numeric", "boolean", "category", "text", "datetime", "duration"]
)
@pytest.mark.parametrize(
    "column", [pa.nulls(3), pa.nulls(3, pa.string())], ids=["null", "string"]
)
def test_column_without_a_value_is_read_as_any_kind(
    kind: Any, column: pa.Array
) -> None:
    values = read(
        Feature("x", kind, categories=["a"] if kind == "category" else None), column
    )
    assert listed(values) == [None] * 3
    assert (values.n_missing, values.n_unseen) == (3, 0)


@pytest.mark.parametrize("name", TYPED)
def test_no_rows_are_read_as_no_values(name: str) -> None:
    column = TYPED[name][0]
    assert listed(read(infer(column), column[:0])) == []


@pytest.mark.parametrize(
    ("kind", "found", "is_readable"),
    [
        ("numeric", pa.int8(), True),
        ("numeric", pa.bool_(), True),
        ("numeric", pa.string(), False),
        ("numeric", pa.date32(), False),
        ("boolean", pa.string(), True),
        ("category", pa.int64(), True),
        ("category", pa.dictionary(pa.int8(), pa.date32()), True),
        ("category", pa.dictionary(pa.int8(), pa.duration("s")), True),
        ("category", pa.dictionary(pa.int8(), pa.binary()), False),
        ("text", pa.float64(), True),
        ("text", pa.date32(), False),
        ("datetime", pa.string(), True),
        ("datetime", pa.int64(), False),
        ("duration", pa.float64(), True),
        ("duration", pa.string(), False),
        ("text", pa.dictionary(pa.int8(), pa.string()), True),
        ("numeric", pa.dictionary(pa.int8(), pa.string()), False),
        ("numeric", pa.null(), True),
        ("text", pa.list_(pa.int8()), False),
    ],
    ids=str,
)
def test_types_that_stand_for_a_kind(
    kind: Any, found: pa.DataType, is_readable: bool
) -> None:
    assert columns.can_be(kind, found, untyped=False) is is_readable
    assert columns.can_be(kind, pa.string(), untyped=True)


@pytest.mark.parametrize("name", TYPED)
def test_column_can_be_read_as_the_kind_that_was_inferred(name: str) -> None:
    column = TYPED[name][0]
    assert columns.can_be(infer(column).kind, column.type, untyped=False)


def test_feature_is_rebuilt_from_what_the_manifest_holds() -> None:
    feature = infer(["31.01.2024", "1.2.2024"])
    assert Feature(**feature.as_dict()) == feature
    assert "categories" not in feature.as_dict()


@pytest.mark.parametrize("untyped", [False, True])
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["red", "", "blue"] * 4, "category"),
        ([f"a text, number {i}" if i % 3 else "" for i in range(90)], "text"),
        (["yes", "", "no"] * 4, "boolean"),
        (["2024-01-31", "", "2024-02-01"] * 4, "datetime"),
    ],
)
def test_empty_text_is_missing_whatever_the_kind(
    values: list[str], kind: str, untyped: bool
) -> None:
    found = learned(values, untyped=untyped)
    assert infer(values, untyped=untyped).kind == kind
    assert (found.n_missing, found.n_unseen) == (values.count(""), 0)
