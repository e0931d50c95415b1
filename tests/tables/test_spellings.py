"""Numbers and missing values as people write them, at a fit and at a prediction."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rowcast.tables import Feature, columns, inference, spellings
from rowcast.tables.columns import Unreadable
from tests.support.columns import chunked, infer, learned, listed, read
from tests.support.spellings import SPELLINGS, Spelling


def note_on(values: list[str], *, untyped: bool = True) -> str:
    return inference.infer("x", chunked(values), untyped=untyped)[1]


def shown(value: Any) -> Any:
    """Return a value as the table of spellings has it."""
    if not isinstance(value, pd.Timestamp):
        return value
    return value.isoformat().removesuffix("T00:00:00").removesuffix(":00")


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda each: " ".join(each.column))
def test_spelling_is_read_as_documented(spelling: Spelling) -> None:
    feature = infer(spelling.column, untyped=True)
    kind = "text" if feature.kind == "category" else feature.kind
    first = listed(learned(spelling.column, untyped=True))[0]
    assert (kind, shown(first)) == (spelling.kind, spelling.value)


def test_at_least_eighty_spellings_are_known() -> None:
    assert len({spelling.written for spelling in SPELLINGS}) >= 80


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda each: " ".join(each.column))
def test_files_with_types_are_read_in_the_same_way_but_for_plain_numbers(
    spelling: Spelling,
) -> None:
    found = infer(spelling.column, untyped=True)
    feature = infer(spelling.column)
    assert (feature.reading, feature.date_format) == (found.reading, found.date_format)


def test_reading_of_a_feature_is_ready_for_json() -> None:
    feature = infer(["$1,234", "?", "(5)"], untyped=True)
    assert feature.reading == {
        "decimal": ".",
        "thousands": ",",
        "currency": "$",
        "brackets": True,
        "missing": ["?"],
    }
    assert Feature(**json.loads(json.dumps(feature.as_dict()))) == feature


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (
            ["$1,234.5", "?", "?", "(5)"],
            "its text is read as numbers, without $, with commas between thousands, negative in "
            "parentheses, with ? as missing (2 values).",
        ),
        (
            ["1,234", "7"],
            "its text is read as numbers, with commas between thousands. If its commas are "
            "decimal, write points instead.",
        ),
        (["1,5", "7"], "its text is read as numbers, with a decimal comma."),
        (["45%", "7%"], "its text is read as numbers, without %."),
        (
            ["1.2K", "7"],
            "its text is read as numbers, with K, M, B and T as thousands, millions, billions "
            "and trillions.",
        ),
        (["\u22125", "7"], "its text is read as numbers."),
        (
            ["1,234.5", "1.234,5"],
            "its numbers do not all have the same decimal mark, so all are read as text.",
        ),
        (["10.0.0.1", "10.0.0.2"], ""),
        (
            ["31.12.99", "01.02.05", "?"],
            "its text is read as dates, with the years 69 to 99 as 1969 to 1999 and 00 to 68 as "
            "2000 to 2068, with ? as missing (1 value).",
        ),
        (
            ["2024Q1", "2024-02-01"],
            "its text is read as dates, in 2 formats, each quarter as its first day.",
        ),
        (
            [*(f"2024-01-{day:02}" for day in range(1, 32)), "soon"],
            "its text is read as dates, with what is not a date as missing (1 value).",
        ),
        (
            ["1:02:15", "-"],
            "its text is read as durations or times of day, in seconds, with - as "
            "missing.",
        ),
        (
            ["1:02:15", "12:30"],
            "its text is read as durations or times of day, in seconds, 12:30 as minutes and "
            "seconds.",
        ),
        (
            [f"202401{day}" for day in range(10, 20)],
            "its numbers are read as dates, such as 20201231.",
        ),
        (["1", "2"], ""),
        (
            ["$5", "$6", "on request"],
            "1 of its 3 values are not numbers, so all are read as text.",
        ),
    ],
    ids=str,
)
def test_note_says_how_text_was_read(values: list[str], note: str) -> None:
    assert note_on(values) == note


def test_manifest_describes_the_reading() -> None:
    column = chunked(["5 kg", "7 kg"])
    feature = infer(column.combine_chunks())
    about = inference.describe(feature, column, columns.read(feature, column))
    assert about["reading"] == {"unit": "kg"}


@pytest.mark.parametrize(
    ("rows", "read_as"),
    [
        (["$1,234", "5", "?", ""], [1234.0, 5.0, None, None]),
        (pa.array([1234.0, None]), [1234.0, None]),
        (pa.array([1234], pa.int16()), [1234.0]),
        (pa.array(["$5"], pa.large_string()), [5.0]),
        (pa.array(["$5"], pa.string_view()), [5.0]),
        (pa.array(["$5"]).dictionary_encode(), [5.0]),
        (pa.array([], pa.string()), []),
        (pa.nulls(2), [None, None]),
    ],
    ids=str,
)
def test_rows_for_a_prediction_are_read_as_those_of_the_fit(
    rows: Any, read_as: list[Any]
) -> None:
    feature = infer(["$1,234", "?", "$7", "$8"], untyped=True)
    values = read(feature, rows)
    assert listed(values) == read_as
    assert values.n_missing == read_as.count(None)


@pytest.mark.parametrize(
    "written", ["€5", "5 kg", "1.234,5", "n.a.", "(5)", "x", "5K", "1,23"]
)
def test_value_that_is_written_in_another_way_is_refused_with_its_row(
    written: str,
) -> None:
    feature = infer(["$1,234", "?", "$7", "$8"], untyped=True)
    with pytest.raises(Unreadable, match="not numbers") as caught:
        read(feature, ["$5", written, "?"])
    assert caught.value.rows.tolist() == [1]


def test_model_of_the_former_version_reads_plain_numbers_only() -> None:
    feature = Feature(name="x", kind="numeric", type="text")
    assert listed(read(feature, ["1.5", ""])) == [1.5, None]
    with pytest.raises(Unreadable):
        read(feature, ["?"])


def test_text_of_a_file_with_types_may_stand_for_numbers_that_were_text() -> None:
    feature = infer(["$5", "$7"])
    assert columns.can_read(feature, pa.string(), untyped=False)
    assert columns.can_read(
        feature, pa.dictionary(pa.int8(), pa.string()), untyped=False
    )
    assert not columns.can_read(feature, pa.date32(), untyped=False)
    assert not columns.can_read(Feature("x", "numeric"), pa.string(), untyped=False)


def test_plain_numbers_follow_the_decimal_mark_of_their_file() -> None:
    feature = infer(["1.5", "?", "7"], untyped=True)
    assert listed(read(feature, ["1,5", "?"], ",")) == [1.5, None]
    other = infer(["1,234.5", "7"], untyped=True)
    assert listed(read(other, ["1,234.5"], ",")) == [1234.5]


def test_mark_after_a_long_start_of_numbers_is_found() -> None:
    feature = infer([*map(str, range(500)), "?"], untyped=True)
    assert feature.reading == {"missing": ["?"]}


def test_word_after_a_long_start_of_amounts_leaves_all_as_text() -> None:
    values = [*(f"${i}" for i in range(500)), "on request"]
    assert infer(values, untyped=True).kind == "text"


def test_scaled_numbers_are_as_exact_as_plain_ones() -> None:
    values = [f"{i / 10}K" for i in range(1, 2000)]
    plain = np.array([float(f"{i / 10}e3") for i in range(1, 2000)])
    assert (learned(values, untyped=True).array == plain).all()


def test_long_values_and_many_words_are_left_as_text() -> None:
    assert spellings.find(pa.array(["1" * 100])).reading is None
    words = pa.array([f"5 {'a' * (i + 1)}" for i in range(20)])
    assert spellings.find(words).reading is None


# Dates and durations

DAYS = [f"2024-01-{day:02}" for day in range(1, 32)]


def test_few_values_that_are_no_dates_are_missing_at_a_fit_and_at_a_prediction() -> (
    None
):
    feature = infer([*DAYS, "soon"])
    assert listed(read(feature, ["2024-02-30", "2024-02-01", "?"])) == [
        None,
        pd.Timestamp("2024-02-01"),
        None,
    ]
    assert infer([*DAYS, "soon", "later"]).kind == "category"


def test_dates_of_several_formats_are_read_in_these_formats_only() -> None:
    feature = infer(["2024-01-31", "1.2.2024", "?"])
    assert feature.reading == {"formats": ["ISO 8601", "%d.%m.%Y"], "missing": ["?"]}
    assert listed(read(feature, ["3.4.2024", "?"])) == [
        pd.Timestamp("2024-04-03"),
        None,
    ]
    with pytest.raises(Unreadable, match="not dates") as caught:
        read(feature, ["?", "04/05/2024"])
    assert caught.value.rows.tolist() == [1]


def test_more_than_a_few_formats_are_text() -> None:
    values = ["2024-01-31", "1.2.2024", "Jan 31, 2024", "31-Jan-2024", "13/1/2024"]
    assert infer(values[:4]).kind == "datetime"
    assert infer(values).kind == "category"


def test_month_may_be_short_at_the_fit_and_long_at_a_prediction() -> None:
    feature = infer(["May 5, 2020", "May 6, 2020"])
    read_as = listed(read(feature, ["June 7, 2020", "Jun 8, 2020"]))
    assert read_as == [pd.Timestamp("2020-06-07"), pd.Timestamp("2020-06-08")]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([20240131, 20240201, None] * 3, pa.int32()),
        pa.array([20240131.0, 20240201.0, float("nan")] * 3),
        pa.array(["20240131", "20240201", None] * 3),
    ],
    ids=str,
)
def test_whole_numbers_under_such_a_name_are_dates_in_every_format(values: Any) -> None:
    feature = inference.infer("sale_date", chunked(values), untyped=False)[0]
    if pa.types.is_string(values.type):
        feature = inference.infer("sale_date", chunked(values), untyped=True)[0]
    assert (feature.kind, feature.date_format) == ("datetime", "%Y%m%d")
    days = [pd.Timestamp("2024-01-31"), pd.Timestamp("2024-02-01"), None]
    assert listed(read(feature, values))[:3] == days
    assert columns.can_read(feature, pa.int64(), untyped=False)
    assert listed(read(feature, [20240131, 20240201, None])) == days


@pytest.mark.parametrize("name", ["x", "update", "dated", "holiday"])
def test_few_whole_numbers_that_look_like_dates_are_numbers_under_another_name(
    name: str,
) -> None:
    column = chunked([20240131, 20240201] * 3)
    assert inference.infer(name, column, untyped=False)[0].kind == "numeric"


def test_whole_numbers_of_which_one_is_no_date_are_numbers() -> None:
    column = chunked([20240131, 20240201, 20240230, 20240301, 20240302, 20240303])
    assert inference.infer("date", column, untyped=False)[0].kind == "numeric"


@pytest.mark.parametrize("written", ["x", "12:75", "1:2:3", "13:00 PM", "1 day"])
def test_value_that_is_no_duration_is_refused_with_its_row(written: str) -> None:
    feature = infer(["1:23:45", "?"])
    with pytest.raises(Unreadable, match="not durations") as caught:
        read(feature, ["0:00:01", written])
    assert caught.value.rows.tolist() == [1]
    assert listed(read(feature, pa.array([1500, None], pa.duration("ms")))) == [
        1.5,
        None,
    ]
