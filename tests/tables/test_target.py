"""The target: its values, and predictions that come back in the type that it had."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rowcast.errors import InvalidTable
from rowcast.tables import target

N_ROWS = 12
WHEN = dt.datetime(2020, 1, 31, 23, 59, 30, 250_000)  # noqa: DTZ001 - tables hold times without a zone, too
LATER = WHEN + dt.timedelta(days=1)

TYPED: dict[str, pa.Array] = {
    **{
        f"{sign}int{bits}": pa.array([0, 100] * 6, getattr(pa, f"{sign}int{bits}")())
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    "large uint64": pa.array([2**64 - 1, 0] * 6, pa.uint64()),
    "large int64": pa.array([-(2**63), 2**63 - 1] * 6),
    "float16": pa.array(np.array([0.5, 1.0] * 6, np.float16)),
    "float32": pa.array([0.5, 1.0] * 6, pa.float32()),
    "float64": pa.array([0.5, 1.0] * 6),
    "bool": pa.array([True, False] * 6),
    "string": pa.array(["ja", "größe 日本"] * 6),
    "large string": pa.array(["ja", "nein"] * 6, pa.large_string()),
    "string view": pa.array(["ja", "nein"] * 6, pa.string_view()),
    "numbers as text": pa.array(["1", "007"] * 6),
    "a blank": pa.array(["a", " "] * 6),
    "decimal": pa.array([Decimal("1.10"), Decimal("-2.25")] * 6),
    "wide decimal": pa.array(
        [Decimal("1.10"), Decimal("-2.25")] * 6, pa.decimal256(60, 2)
    ),
    "category of strings": pa.array(["ja", "nein"] * 6).dictionary_encode(),
    "category of integers": pa.array([3, 4] * 6).dictionary_encode(),
    "date": pa.array([WHEN.date(), LATER.date()] * 6),
    "date64": pa.array([WHEN.date(), LATER.date()] * 6, pa.date64()),
    "timestamp s": pa.array(
        [WHEN.replace(microsecond=0), LATER.replace(microsecond=0)] * 6,
        pa.timestamp("s"),
    ),
    "timestamp us": pa.array([WHEN, LATER] * 6, pa.timestamp("us")),
    "timestamp ns": pa.array([WHEN, LATER] * 6, pa.timestamp("ns")),
    "timestamp in Paris": pa.array(
        [WHEN, LATER] * 6, pa.timestamp("us", "Europe/Paris")
    ),
    "timestamp in UTC": pa.array([WHEN, LATER] * 6, pa.timestamp("ms", "UTC")),
    "timestamp at an offset": pa.array([WHEN, LATER] * 6, pa.timestamp("ms", "+02:00")),
}

# Text of a file without types, and what its labels are.
UNTYPED: dict[str, tuple[list[str], str, list[Any]]] = {
    "integers": (["1", "-2"], "int64", [1, -2]),
    "signed": (["+1", " 2 "], "int64", [1, 2]),
    "large integers": (["9007199254740993", "1"], "int64", [9007199254740993, 1]),
    "floats": (["1.5", "2e3"], "double", [1.5, 2000.0]),
    "whole floats": (["1.0", "2.0"], "double", [1.0, 2.0]),
    "integers over int64": (["18446744073709551615", "1"], "double", [2.0**64, 1.0]),
    "true and false": (["true", "FALSE"], "bool", [True, False]),
    "yes and no": (["yes", "no"], "string", ["yes", "no"]),
    "words": (["red", "blue"], "string", ["red", "blue"]),
    "leading zeros": (["007", "123"], "string", ["007", "123"]),
    "numbers and a word": (["1", "x"], "string", ["1", "x"]),
    "dates": (["2024-01-31", "2024-02-01"], "string", ["2024-01-31", "2024-02-01"]),
}


def found(
    values: Any, *, untyped: bool = False, decimal: str = ".", as_classes: bool = False
) -> target.Target:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    chunked = pa.chunked_array([column[:5], column[5:]])
    return target.read(
        "the target", chunked, untyped=untyped, decimal=decimal, as_classes=as_classes
    )


def read(values: Any, **how: Any) -> tuple[np.ndarray, np.ndarray, str]:
    return found(values, **how)[:3]


def refusal(values: Any, **how: Any) -> str:
    with pytest.raises(InvalidTable) as caught:
        read(values, **how)
    return caught.value.detail


@pytest.mark.parametrize("column", TYPED.values(), ids=TYPED)
def test_labels_come_back_as_they_were(column: pa.Array) -> None:
    values, is_known, type_name = read(column, as_classes=True)
    back = target.to_arrow(values, type_name)
    plain = (
        column.cast(column.type.value_type)
        if pa.types.is_dictionary(column.type)
        else column
    )
    assert back.to_pylist() == plain.to_pylist()
    assert back.type in (plain.type, pa.string())
    assert is_known.all()


@pytest.mark.parametrize(
    ("column", "seconds"),
    [
        (pa.array([1500, 2500] * 6, pa.duration("ms")), [1.5, 2.5]),
        (pa.array([dt.time(1), dt.time(0, 0, 30)] * 6), [3600.0, 30.0]),
    ],
    ids=["duration", "time of day"],
)
def test_durations_and_times_of_day_are_quantities_in_seconds(
    column: pa.Array, seconds: list[float]
) -> None:
    values, _, type_name = read(column)
    assert values.tolist() == seconds * 6
    assert type_name == "double"


@pytest.mark.parametrize(("text", "type_name", "values"), UNTYPED.values(), ids=UNTYPED)
def test_labels_of_a_file_without_types_are_what_all_of_them_are(
    text: list[str], type_name: str, values: list[Any]
) -> None:
    known, _, name = read(text * 6, untyped=True, as_classes=type_name == "string")
    assert (name, known.tolist()) == (type_name, values * 6)
    assert target.to_arrow(known, name).to_pylist() == values * 6


@pytest.mark.parametrize("word", ["1", "true", "2024-01-31"])
def test_text_of_a_file_with_types_stays_text(word: str) -> None:
    values, _, type_name = read([word, "x"] * 6)
    assert (values[0], type_name) == (word, "string")


def test_decimal_comma_is_read_as_one() -> None:
    assert (
        read(["1,5", "2"] * 6, untyped=True, decimal=",")[0].tolist() == [1.5, 2.0] * 6
    )


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.5, None, float("nan"), *[2.5] * 10]),
        pa.array([1, None, None, *[2] * 10]),
        pa.array(["a", None, None, *["b"] * 10]),
        pa.array([True, None, None, *[False] * 10]),
        pa.array(["a", None, None, *["b"] * 10]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_missing_labels_are_told_apart_from_known_ones(column: pa.Array) -> None:
    values, is_known, _ = read(column)
    assert is_known.tolist() == [True, False, False, *[True] * 10]
    assert len(values) == 11


@pytest.mark.parametrize(
    "text",
    [
        ["1", None, *["2"] * 10],
        ["1.5", None, *["2"] * 10],
        ["true", None, *["false"] * 10],
    ],
)
def test_missing_labels_in_text_are_missing(text: list[str | None]) -> None:
    assert read(text, untyped=True)[1].tolist() == [True, False, *[True] * 10]


@pytest.mark.parametrize(
    ("column", "n_known"),
    [
        (pa.nulls(N_ROWS, pa.string()), 0),
        (pa.array([1.0] * 9 + [None] * 3), 9),
        (pa.array([float("nan")] * 12), 0),
    ],
)
def test_fewer_than_ten_labels_are_refused(column: pa.Array, n_known: int) -> None:
    assert refusal(column).startswith(
        f"Only {n_known} of 12 rows have a value in the target column 'the target'"
    )


@pytest.mark.parametrize(
    ("column", "how"),
    [
        (pa.array([0.5, np.inf, None, -np.inf, *[1.5] * 10]), {}),
        (pa.array(["0.5", "inf", None, "-Infinity", *["1.5"] * 10]), {"untyped": True}),
    ],
    ids=["float", "text"],
)
def test_infinite_labels_are_refused_and_counted(
    column: pa.Array, how: dict[str, Any]
) -> None:
    detail = refusal(column, **how)
    assert (
        detail
        == "The target column 'the target' holds infinite values: 2, first in row 1."
    )


def test_labels_that_are_not_unicode_are_refused() -> None:
    raw = pa.array([b"\xff\xfe", b"a"] * 6)
    column = pa.Array.from_buffers(pa.string(), N_ROWS, raw.buffers())
    assert "not Unicode" in refusal(column)


@pytest.mark.parametrize(
    ("found", "can"),
    [
        (pa.int8(), True),
        (pa.string(), True),
        (pa.date32(), True),
        (pa.timestamp("us", "UTC"), True),
        (pa.duration("s"), True),
        (pa.time64("us"), True),
        (pa.decimal128(5, 2), True),
        (pa.dictionary(pa.int8(), pa.string()), True),
        (pa.null(), False),
        (pa.binary(), False),
        (pa.list_(pa.int8()), False),
        (pa.struct([]), False),
        (pa.dictionary(pa.int8(), pa.binary()), False),
    ],
    ids=str,
)
def test_types_that_can_be_predicted(found: pa.DataType, can: bool) -> None:
    assert target.can_be_target(found) is can


@pytest.mark.parametrize("column", TYPED.values(), ids=TYPED)
def test_no_predictions_have_the_type_too(column: pa.Array) -> None:
    values, _, type_name = read(column, as_classes=True)
    none = target.to_arrow(values[:0], type_name)
    assert (len(none), none.type) == (0, target.to_arrow(values, type_name).type)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (pa.array([2**60 + i for i in range(12)], pa.timestamp("s")), "out of range"),
        (
            pa.array(range(12), pa.timestamp("s", "Mars/Olympus")),
            "an unknown time zone",
        ),
    ],
    ids=["far", "zone"],
)
def test_times_that_cannot_be_written_are_no_labels(
    values: pa.Array, reason: str
) -> None:
    with pytest.raises(InvalidTable, match=reason):
        target.read("y", values, untyped=False, as_classes=True)


@pytest.mark.parametrize("untyped", [False, True])
def test_empty_label_is_a_missing_one(untyped: bool) -> None:
    values, is_known, _ = read(["a", "", "b"] * 6, untyped=untyped)
    assert values.tolist() == ["a", "b"] * 6
    assert is_known.tolist() == [True, False, True] * 6


# Numbers as people write them


@pytest.mark.parametrize("untyped", [False, True])
@pytest.mark.parametrize(
    ("text", "type_name", "values"),
    [
        (["1", "?", "2"], "int64", [1, 2]),
        (["1.5", "n.a.", "2"], "double", [1.5, 2.0]),
        (["$1,234", "$5", "-"], "double", [1234.0, 5.0]),
        (["45%", "7%"], "double", [45.0, 7.0]),
        (["1,5", "2"], "double", [1.5, 2.0]),
        (["1:23:45", "0:00:01", "?"], "double", [5025.0, 1.0]),
    ],
    ids=str,
)
def test_target_is_read_as_a_feature_would_be_and_a_note_says_so(
    text: list[str], type_name: str, values: list[float], untyped: bool
) -> None:
    known = found(text * 10, untyped=untyped)
    assert (known.type_name, known.values.tolist()) == (type_name, values * 10)
    assert known.is_known.tolist() == [each not in "?-n.a." for each in text] * 10
    assert known.note.startswith("its text is read as ")


def test_few_words_in_a_numeric_target_are_noted() -> None:
    known = found([*map(str, range(50)), "many"], untyped=True)
    assert known.type_name == "string"
    assert known.note == (
        "1 of its 51 values are not numbers, so all are read as text."
    )


@pytest.mark.parametrize("untyped", [False, True])
def test_text_stays_text_where_a_classification_is_asked_for(untyped: bool) -> None:
    known = found(["$5", "$7"] * 6, untyped=untyped, as_classes=True)
    assert (known.values[0], known.type_name, known.note) == ("$5", "string", "")


@pytest.mark.parametrize(
    ("column", "untyped"),
    [
        (TYPED["date"], False),
        (TYPED["timestamp in Paris"], False),
        (pa.array(["2024-01-31", "2024-02-01"] * 6), False),
        (pa.array(["31.1.2024", "1.2.2024"] * 6), True),
        (pa.array(["01/02/2024", "03/04/2024"] * 6), True),
        (pa.array(["2024Q1", "?"] * 12), True),
    ],
    ids=str,
)
def test_dates_are_refused_unless_as_classes(column: pa.Array, untyped: bool) -> None:
    assert "holds dates" in refusal(column, untyped=untyped)
    assert len(found(column, untyped=untyped, as_classes=True).values) >= 12
