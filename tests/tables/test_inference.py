"""Which kind a column has, what a manifest says of it, and why it is left out."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rowcast.tables import Feature, columns, dates, inference
from rowcast.tables.inference import LeftOut
from tests.support.columns import chunked, infer, learned, listed


def note_on(values: Any, *, untyped: bool = False) -> str:
    return inference.infer("x", chunked(values), untyped=untyped)[1]


def left_out(values: Any, name: str = "x", *, untyped: bool = False) -> LeftOut | None:
    column = chunked(values)
    feature, _ = inference.infer(name, column, untyped=untyped)
    return inference.reason_to_leave_out(feature, column, columns.read(feature, column))


def report(values: Any, *, untyped: bool = False) -> dict[str, Any]:
    column = chunked(values)
    feature, _ = inference.infer("x", column, untyped=untyped)
    return inference.describe(feature, column, columns.read(feature, column))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["yes", "no"], "boolean"),
        (["Yes", "NO", None], "boolean"),
        (["true", "false"], "boolean"),
        (["True", "FALSE"], "boolean"),
        (["yes", "no", "maybe"], "category"),
        (["y", "n"], "category"),
        (["1", "2"], "category"),
        (["1", "0"], "category"),
        ([f"word {i}" for i in range(40)], "category"),
        ([f"word {i}" for i in range(41)], "text"),
        ([None, None], "category"),
        (["2024-01-31", "2024-02-01"], "datetime"),
    ],
    ids=repr,
)
def test_text_of_a_typed_file_is_booleans_dates_categories_or_text(
    values: list[Any], kind: str
) -> None:
    assert infer(pa.array(values, pa.string())).kind == kind


def test_declared_category_stays_one_up_to_255_values() -> None:
    many = pa.array([f"word {i}" for i in range(256)])
    assert infer(many[:255].dictionary_encode()).kind == "category"
    assert infer(many.dictionary_encode()).kind == "text"


@pytest.mark.parametrize(
    ("values", "kind", "read_as"),
    [
        (["1", "2", None], "numeric", [1.0, 2.0, None]),
        (["1.5", "-2e3", "+7"], "numeric", [1.5, -2000.0, 7.0]),
        ([" 1 ", "2", ""], "numeric", [1.0, 2.0, None]),
        ([".5", "5.", "0"], "numeric", [0.5, 5.0, 0.0]),
        (["1", "nan", "NaN"], "numeric", [1.0, None, None]),
        (["True", "False", None], "boolean", [1.0, 0.0, None]),
        (["yes", "No"], "boolean", [1.0, 0.0]),
        (["1", "0"], "numeric", [1.0, 0.0]),
        (["007", "123"], "category", ["007", "123"]),
        (["0", "0.5", "10"], "numeric", [0.0, 0.5, 10.0]),
        (["1/5", "2/5"], "category", ["1/5", "2/5"]),
        (
            ["2024-01-31", None],
            "datetime",
            [pd.Timestamp("2024-01-31"), None],
        ),
        (["a", "1"], "category", ["a", "1"]),
        ([None, None], "category", [None, None]),
    ],
    ids=repr,
)
def test_text_of_a_file_without_types_is_what_all_its_values_are(
    values: list[Any], kind: str, read_as: list[Any]
) -> None:
    column = pa.array(values, pa.string())
    assert infer(column, untyped=True) == Feature(
        "x",
        kind,  # type: ignore[arg-type]
        "text",
        categories=infer(column, untyped=True).categories,
        date_format=dates.ISO if kind == "datetime" else None,
    )
    assert listed(learned(column, untyped=True)) == read_as


def test_numbers_with_a_few_words_are_text_and_noted() -> None:
    values = [*map(str, range(50)), "many"]
    assert infer(values, untyped=True).kind == "text"
    assert (
        note_on(values, untyped=True)
        == "1 of its 51 values are not numbers, so all are read as text."
    )


def test_words_with_a_few_numbers_need_no_note() -> None:
    assert note_on(["1", "a", "b", "c"], untyped=True) == ""


@pytest.mark.parametrize(
    ("first", "second", "read_as"),
    [
        ("2024-01-31", "2024-02-01", "2024-01-31"),
        ("2024/01/31", "2024/02/01", "2024-01-31"),
        ("2024-01-31 12:30", "2024-02-01 00:00", "2024-01-31 12:30"),
        ("2024-01-31T12:30:15", "2024-02-01T00:00:00", "2024-01-31 12:30:15"),
        ("2024-01-31T12:30:15.5", "2024-02-01T00:00:00", "2024-01-31 12:30:15.5"),
        ("2024-01-31T12:30:15Z", "2024-02-01T00:00:00Z", "2024-01-31 12:30:15"),
        (
            "2024-01-31T12:30:15+02:00",
            "2024-02-01T00:00:00+01:00",
            "2024-01-31 10:30:15",
        ),
        ("2024-01-31T12:30:15+02:00", "2024-02-01", "2024-01-31 10:30:15"),
        ("31.01.2024", "1.2.2024", "2024-01-31"),
        ("31.01.2024 12:30", "01.02.2024 00:00", "2024-01-31 12:30"),
        ("31/01/2024", "01/02/2024", "2024-01-31"),
        ("01/31/2024", "02/01/2024", "2024-01-31"),
        ("01/31/2024 12:30:15", "02/01/2024 00:00:00", "2024-01-31 12:30:15"),
        ("31-01-2024", "01-02-2024", "2024-01-31"),
        ("31 Jan 2024", "1 Feb 2024", "2024-01-31"),
        ("Jan 31, 2024", "Feb 1, 2024", "2024-01-31"),
        (" 2024-01-31 ", "2024-02-01", "2024-01-31"),
    ],
)
@pytest.mark.parametrize("untyped", [False, True])
def test_dates_are_found_in_text(
    first: str, second: str, read_as: str, untyped: bool
) -> None:
    values = learned([first, second, None], untyped=untyped)
    assert infer([first, second, None], untyped=untyped).kind == "datetime"
    assert listed(values)[0] == pd.Timestamp(read_as)
    assert values.n_missing == 1


@pytest.mark.parametrize(
    "values",
    [
        ["01/02/2024", "03/04/2024"],
        ["01-02-2024", "12-12-2023"],
        ["1/2/2024 12:00", "3/4/2024 12:30"],
    ],
    ids=repr,
)
def test_dates_that_may_be_read_in_two_ways_are_left_as_text_and_noted(
    values: list[str],
) -> None:
    assert infer(values).kind == "category"
    assert "day or the month first" in note_on(values)


@pytest.mark.parametrize(
    "values",
    [
        ["2024-02-30", "2024-01-01"],
        ["2024-01-31", "soon"],
        ["20240131", "20240201"],
        ["16:9", "4:3"],
        ["1.2.3", "4.5.6"],
        ["2024-W05", "2024-W06"],
        ["ABC-123", "ABC-124"],
    ],
    ids=repr,
)
def test_text_that_only_looks_like_dates_is_not_dates(values: list[str]) -> None:
    assert infer(values).kind == "category"


def test_dates_after_a_long_start_that_fits_are_all_checked() -> None:
    assert infer(["2024-01-31"] * 500 + ["later"] * 50).kind == "category"


@pytest.mark.parametrize(
    ("values", "untyped"),
    [
        (list(range(7, 19)), False),
        ([7.0, 8.0, 9.0], False),
        (["7.0", "8.0", "9.0"], True),
        ([str(i) for i in range(12)], True),
        ([f"row-{i * 7 % 50}" for i in range(50)], False),
        ([f"{i:032x}" for i in range(12)], False),
        ([f"Car {i} of {i % 3}" for i in range(50)], False),
        ([f"Bruce, Mr. Owen {i}" for i in range(50)], False),
        ([f"name {i}" for i in range(29)] + [None], False),
        ([1, 2, 3, 5, 6, 9, 10, 11, 12, 14, 15, 18], False),
        ([str(i) for i in range(40) if i % 4], True),
        ([1, 2, 3, None, *range(5, 40)], False),
    ],
    ids=[
        "numbers of rows",
        "as floats",
        "as floats in text",
        "in text",
        "words",
        "hexadecimal",
        "names with blanks",
        "people",
        "names, one missing",
        "row numbers with gaps",
        "the same in text",
        "row numbers, one missing",
    ],
)
def test_identifier_is_found(values: list[Any], untyped: bool) -> None:
    assert left_out(values, untyped=untyped) is LeftOut.IDENTIFIER


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "ID",
        "customer_id",
        "customer id",
        "userId",
        "user.uuid",
        "guid",
        "Unnamed: 0",
        "order-no",
        "key",
        "rownames",
        "row.names",
        "row_number",
        "...1",
        "obs",
    ],
)
def test_whole_numbers_that_all_differ_are_an_identifier_under_such_a_name(
    name: str,
) -> None:
    values = [17, 3, 99, 4, 1, 62]
    assert left_out(values, name) is LeftOut.IDENTIFIER
    text = list(map(str, values))
    assert left_out(text, name, untyped=True) is LeftOut.IDENTIFIER
    assert left_out([*values, 17], name) is None


@pytest.mark.parametrize(
    "name", ["x", "paid", "price", "grid", "period", "monkey", "valid"]
)
def test_whole_numbers_that_all_differ_are_not_an_identifier_under_other_names(
    name: str,
) -> None:
    assert left_out([17, 3, 99, 4, 1, 62], name) is None


@pytest.mark.parametrize(
    "values",
    [
        [0.5, 1.5, 2.5],
        [0.0, 0.25, 0.5],
        [1, 2, 3, None],
        [f"This is sentence {i}, one of many of them" for i in range(12)],
        [f"{'long' * 20}{i}" for i in range(12)],
        ["a", "b", "a"],
        [dt.date(2020, 1, day) for day in (1, 2, 3)],
    ],
    ids=repr,
)
def test_measures_sentences_and_dates_are_not_identifiers(values: list[Any]) -> None:
    assert left_out(values, "id") is None


@pytest.mark.parametrize("untyped", [False, True])
def test_whole_numbers_that_floats_cannot_tell_apart_are_counted_as_they_are(
    untyped: bool,
) -> None:
    values: list[Any] = [2**62 + i for i in range(50)]
    values = list(map(str, values)) if untyped else values
    assert report(values, untyped=untyped)["n_distinct"] == 50
    assert left_out(values, untyped=untyped) is None
    assert left_out(values, "user_id", untyped=untyped) is LeftOut.IDENTIFIER


@pytest.mark.parametrize(
    "values",
    [[7] * 12, ["same"] * 12, [True] * 12, [dt.date(2020, 1, 1)] * 12],
    ids=str,
)
def test_column_with_the_same_value_in_every_row_is_left_out(values: list[Any]) -> None:
    assert left_out(values) is LeftOut.CONSTANT


@pytest.mark.parametrize(
    "values", [[7, 7, None], ["same", None, "same"], [True, None, True]], ids=str
)
def test_value_that_is_sometimes_missing_tells_rows_apart(values: list[Any]) -> None:
    assert left_out(values) is None


@pytest.mark.parametrize(
    "kind", [pa.null(), pa.float64(), pa.string(), pa.date32(), pa.bool_()], ids=str
)
def test_column_without_a_value_is_left_out(kind: pa.DataType) -> None:
    assert left_out(pa.nulls(12, kind)) is LeftOut.EMPTY


def test_report_says_kind_type_share_missing_and_distinct_values() -> None:
    assert report([1.5, None, 2.5, 2.5]) == {
        "name": "x",
        "type": "double",
        "kind": "numeric",
        "share_missing": 0.25,
        "n_distinct": 2,
        "n_distinct_is_exact": True,
    }


@pytest.mark.parametrize(
    ("values", "n_distinct"),
    [
        (["a", "b", None, "a"], 2),
        ([True, None, True], 1),
        ([dt.date(2020, 1, 1), dt.date(2020, 1, 2), None], 2),
        ([f"text {i}" for i in range(50)], 50),
    ],
    ids=["category", "boolean", "dates", "text"],
)
def test_report_counts_distinct_values_of_every_kind(
    values: list[Any], n_distinct: int
) -> None:
    assert report(values)["n_distinct"] == n_distinct


def test_report_of_many_numbers_says_that_its_count_is_a_lower_bound() -> None:
    found = report(np.arange(20_000) / 2)
    assert (found["n_distinct"], found["n_distinct_is_exact"]) == (10_000, False)


@pytest.mark.parametrize("value", ["{}1,234.56", "1/5/{}1", "{}1:30", "-{}1,5"])
def test_amounts_and_dates_that_cannot_be_read_are_not_identifiers(value: str) -> None:
    values = [value.format(i) for i in range(60)]
    assert left_out(values) is None
    assert left_out([f"key{text}" for text in values]) is LeftOut.IDENTIFIER


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("year", list(range(1, 30))),
        ("x", list(range(1950, 2020))),
        ("model_year", [1970, 1971, 1972, 1975, 1980]),
        ("day", list(range(30))),
        ("time", [1, 2, 4, 5, 6, 8, 9, 10, 11, 12]),
        ("saleDate", list(range(12))),
        ("t", list(range(12))),
    ],
)
def test_years_and_times_are_never_identifiers(name: str, values: list[int]) -> None:
    assert left_out(values, name) is None
    assert left_out(list(map(str, values)), name, untyped=True) is None


@pytest.mark.parametrize(
    "values",
    [
        [5, 7, 11, 30, 45, 60, 61, 80, 81, 99, 120],
        [40, 41, 43, 44, 45, 47, 48, 49, 50, 51],
        [1, 2, 4, 8],
        [1, 2, 4, 3, 6, 7, 8, 9, 10, 11],
        [1, 2, 2, 3, 4, 5, 6, 7, 8, 9],
        [1.0, 2.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0],
    ],
    ids=["wide", "late", "few rows", "not in order", "equal ones", "a fraction"],
)
def test_numbers_that_go_up_otherwise_than_those_of_rows_are_no_identifiers(
    values: list[float],
) -> None:
    assert left_out(values) is None


@pytest.mark.parametrize(
    "value", ["{} kg", "{} %", "{}-1-2024", "$ {}", "{} ft"], ids=str
)
def test_measures_that_all_differ_are_not_identifiers(value: str) -> None:
    assert left_out([value.format(i) for i in range(28)]) is None
