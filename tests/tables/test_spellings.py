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
    return value.isoformat() if isinstance(value, pd.Timestamp) else value


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
    feature = infer(spelling.column)
    if infer(spelling.column, untyped=True).reading is None:
        assert feature.reading is None
    else:
        assert feature.reading == infer(spelling.column, untyped=True).reading


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
