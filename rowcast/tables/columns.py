"""What a column holds: its kind, and its values as learners take them.

The kind is found out once, when a model is fitted, and noted with the model; at a prediction the
noted kind decides how a column is read, whatever the file's format. Importing this module loads
pyarrow alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

Kind = Literal["numeric", "boolean", "category", "text", "datetime", "duration"]

# The first test that holds decides; a type that none takes is refused.
_KINDS: tuple[tuple[Callable[[pa.DataType], bool], Kind], ...] = (
    (pt.is_boolean, "boolean"),
    (pt.is_integer, "numeric"),
    (pt.is_floating, "numeric"),
    (pt.is_decimal, "numeric"),
    (pt.is_null, "numeric"),
    (pt.is_string, "text"),
    (pt.is_large_string, "text"),
    (pt.is_string_view, "text"),
    (pt.is_date, "datetime"),
    (pt.is_timestamp, "datetime"),
    (pt.is_duration, "duration"),
    (pt.is_time, "duration"),
)

# Which kinds of columns can be read as the kind that a model knows.
_READABLE: dict[Kind, frozenset[str]] = {
    "numeric": frozenset({"numeric", "boolean"}),
    "boolean": frozenset({"boolean", "numeric", "text"}),
    "category": frozenset({"text", "numeric", "boolean", "datetime", "duration"}),
    "text": frozenset({"text", "numeric", "boolean"}),
    "datetime": frozenset({"datetime", "text"}),
    "duration": frozenset({"duration", "numeric"}),
}

# Trees of scikit-learn compare in float32, and the squares of what is far beyond overflow.
MAX_NUMBER = float(np.finfo(np.float32).max)

_NUMBER = (
    r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
    r"|^[+-]?(inf|Inf|infinity|Infinity|nan|NaN)$"
)
BOOLEANS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
ISO = "ISO 8601"


@dataclass(frozen=True)
class Feature:
    """A column that a model was trained on, and how it is read.

    `type` is the Arrow type it had, or `text` in a file that has no types. `categories` are the
    values of a category, `date_format` says how dates stand in text, `profile` how its values
    spread (see `drift`).
    """

    name: str
    kind: Kind
    type: str = ""
    categories: Sequence[str] | None = None
    date_format: str | None = None
    profile: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a manifest holds."""
        return {
            name: value for name, value in asdict(self).items() if value is not None
        }


@dataclass(frozen=True)
class Values:
    """A column's values as a learner takes them, with how many were missing and how many never
    seen.

    `array` has the shape (n_rows,): float64 with NaN for numbers, booleans (0 and 1) and durations
    (seconds), a pandas Categorical, str Series or datetime64 Series (UTC) for the others. `places`
    are those of categories in the feature's list: -1 is missing, and the list's length an unseen
    one.
    """

    array: Any
    n_missing: int
    n_unseen: int = 0
    places: np.ndarray | None = None

    def for_bins(self, most: int) -> np.ndarray:
        """Return what to count in a profile's bins, of about `most` rows at regular distances."""
        step = max(1, -(-len(self.array) // most))
        if self.places is not None:
            return self.places[::step]
        return Values(self.array[::step], 0).as_numbers()

    def as_numbers(self) -> np.ndarray:
        """Return float64 of shape (n_rows,) to count in bins: times in seconds since 1970, texts'
        lengths."""
        if isinstance(self.array, np.ndarray):
            return self.array
        if self.array.dtype.kind == "M":
            seconds: np.ndarray = (
                self.array.to_numpy("datetime64[us]").astype(np.float64) / 1e6
            )
            return np.where(self.array.isna(), np.nan, seconds)
        return np.asarray(self.array.str.len().to_numpy(np.float64, na_value=np.nan))


class Unreadable(Exception):
    """Values of a column cannot be read; `reason` says why, `rows` are where, from 0 on."""

    def __init__(self, reason: str, rows: np.ndarray) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rows = rows


def kind_of_type(found: pa.DataType) -> Kind | None:
    """Return the kind that a type alone tells; text may turn out to be something else."""
    # A category is one, whatever its values.
    if pt.is_dictionary(found):
        return "category" if kind_of_type(found.value_type) else None
    return next((kind for test, kind in _KINDS if test(found)), None)


def can_be(kind: Kind, found: pa.DataType, *, untyped: bool) -> bool:
    """Tell whether a column of this type can be read as the kind that a model knows.

    `untyped`: the file has no types, so that text may be anything.
    """
    if pt.is_dictionary(found) and kind == "category":
        return kind_of_type(found) == kind
    actual = kind_of_type(found.value_type if pt.is_dictionary(found) else found)
    # An all-missing column has no type of its own.
    return untyped or pt.is_null(found) or actual in _READABLE[kind]


def is_text(found: pa.DataType) -> bool:
    """Tell whether a type holds strings."""
    return any(
        test(found) for test in (pt.is_string, pt.is_large_string, pt.is_string_view)
    )


def decoded(column: Any) -> Any:
    """Return a column with values in place of a dictionary's codes."""
    return (
        column.cast(column.type.value_type) if pt.is_dictionary(column.type) else column
    )


def read(feature: Feature, column: Any, decimal: str = ".") -> Values:
    """Return a column's values as the feature's kind wants them.

    `decimal` is the decimal point of numbers in text.

    Raises:
        Unreadable: some cannot be read, or are infinite.
    """
    return _READERS[feature.kind](feature, decoded(column), decimal)


def _read_numbers(_: Feature, column: Any, decimal: str) -> Values:
    column = (
        parsed_numbers(column, decimal) if is_text(column.type) else seconds(column)
    )
    values = _floats(column.cast(pa.float64(), safe=False))
    is_taken = np.abs(values) <= MAX_NUMBER
    if is_taken.all():
        return Values(values, 0)
    bad = np.flatnonzero(~is_taken & ~np.isnan(values))
    if len(bad):
        is_infinite = np.isinf(values[bad]).all()
        raise Unreadable(
            "infinite values" if is_infinite else "values over 3.4e38 or infinite ones",
            bad,
        )
    return Values(values, int(len(values) - is_taken.sum()))


def _floats(column: Any) -> np.ndarray:
    """Return float64 of shape (n_rows,), with NaN for null."""
    return _numpy(
        column.fill_null(float("nan")) if column.null_count else column, np.float64
    )


def _numpy(column: Any, dtype: type) -> np.ndarray:
    # Arrow's own conversion loads pandas, which the server does without.
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype)[
        array.offset : array.offset + len(array)
    ]


def seconds(column: Any) -> Any:
    """Return durations and times of day as seconds, other columns as they are."""
    if not (pt.is_duration(column.type) or pt.is_time(column.type)):
        return column
    import pyarrow.compute as pc

    integers = column.cast(pa.int32() if pt.is_time32(column.type) else pa.int64())
    per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
    return pc.divide(integers.cast(pa.float64(), safe=False), per_second)


def parsed_numbers(text: Any, decimal: str = ".") -> Any:
    """Return numbers that are written as text, as float64; empty text is missing.

    Raises:
        Unreadable: some are none.
    """
    import pyarrow.compute as pc

    if decimal == ".":
        try:
            return text.cast(pa.float64())
        except pa.ArrowException:
            pass
    text = known_text(pc.utf8_trim_whitespace(text))
    if decimal != ".":
        # 1.500 may be meant as 1500, and is no number where 1,5 is one.
        text = pc.replace_substring(pc.replace_substring(text, ".", "?"), decimal, ".")
    is_number = pc.match_substring_regex(text, _NUMBER)
    _refuse_where(pc.invert(is_number), "values that are no numbers")
    return pc.utf8_ltrim(text, "+").cast(pa.float64())


def _refuse_where(is_bad: Any, reason: str) -> None:
    import pyarrow.compute as pc

    rows = _numpy(pc.indices_nonzero(is_bad), np.uint64)
    if len(rows):
        raise Unreadable(reason, rows)


def _read_booleans(feature: Feature, column: Any, decimal: str) -> Values:
    if is_text(column.type):
        column, n_unseen = _boolean_words(column)
        return Values(column, int(np.isnan(column).sum()) - n_unseen, n_unseen)
    found = _read_numbers(feature, column, decimal)
    is_unseen = ~np.isnan(found.array) & (found.array != 0) & (found.array != 1)
    return Values(
        np.where(is_unseen, np.nan, found.array), found.n_missing, int(is_unseen.sum())
    )


def _boolean_words(text: Any) -> tuple[np.ndarray, int]:
    """Return 0, 1 and NaN, and how many values are neither a word for one of them nor missing."""
    import pyarrow.compute as pc

    text = known_text(pc.utf8_lower(pc.utf8_trim_whitespace(text)))
    # Numbers in a file without types may stand for booleans.
    words = {**BOOLEANS, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
    places = pc.index_in(text, value_set=pa.array(list(words), text.type))
    values = np.append(list(words.values()), np.nan)[
        pc.fill_null(places, -1).to_numpy(zero_copy_only=False)
    ]
    return values, int(np.isnan(values).sum()) - text.null_count


def _read_categories(feature: Feature, column: Any, _: str) -> Values:
    import pandas as pd
    import pyarrow.compute as pc

    categories = list(feature.categories or ())
    text = as_text(column)
    places = pc.fill_null(
        pc.index_in(text, value_set=pa.array(categories, text.type)), -1
    )
    codes = places.to_numpy(zero_copy_only=False)
    array = pd.Categorical.from_codes(
        codes, categories=pd.Index(categories, dtype="str")
    )
    is_unseen = (codes < 0) & text.is_valid().to_numpy(zero_copy_only=False)
    places = np.where(is_unseen, len(categories), codes)
    return Values(array, text.null_count, int(is_unseen.sum()), places)


def as_text(column: Any) -> Any:
    """Return a column as text, in which empty values are missing."""
    text = column.cast(pa.string())
    text.validate(full=True)
    return known_text(text)


def known_text(text: Any) -> Any:
    """Return text in which empty values are missing, as they are in CSV files that quote every
    cell."""
    import pyarrow.compute as pc

    # Arrow compares no string views.
    text = text.cast(pa.string()) if pt.is_string_view(text.type) else text
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)


def _read_text(_: Feature, column: Any, __: str) -> Values:
    text = as_text(column)
    return Values(text.to_pandas().astype("str"), text.null_count)


def _read_dates(feature: Feature, column: Any, _: str) -> Values:
    if is_text(column.type):
        column = parsed_dates(column, feature.date_format or ISO)
    elif not pt.is_null(column.type):
        column = _utc(column)
    column = column.cast(pa.timestamp("us"))
    return Values(column.to_pandas(), column.null_count)


def _utc(column: Any) -> Any:
    """Return dates and times as times in UTC, without a zone; parts of a microsecond are cut
    off."""
    import pyarrow.compute as pc

    zone = column.type.tz if pt.is_timestamp(column.type) else None
    options = pc.CastOptions(pa.timestamp("us", tz=zone), allow_time_truncate=True)
    return column.cast(options=options).cast(pa.int64()).cast(pa.timestamp("us"))


def parsed_dates(text: Any, date_format: str = ISO) -> Any:
    """Return dates and times that are written as text, in UTC; empty text is missing.

    Raises:
        Unreadable: some are not written in this format.
    """
    import pyarrow.compute as pc

    text = known_text(pc.utf8_trim_whitespace(text))
    times = (
        _iso_times(text) if date_format == ISO else _formatted_times(text, date_format)
    )
    _refuse_where(
        pc.and_(pc.is_valid(text), pc.is_null(times)),
        f"values that are no dates ({date_format})",
    )
    return times


def _iso_times(text: Any) -> Any:
    """Return the times of ISO 8601 text, null where it is none; with an offset they become UTC."""
    for target in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            return text.cast(target).cast(pa.int64()).cast(pa.timestamp("us"))
        except pa.ArrowException:
            continue
    return _formatted_times(text, "ISO8601")


def _formatted_times(text: Any, date_format: str) -> Any:
    import pandas as pd

    # pandas refuses what Arrow's strptime lets pass, such as the 31st of February.
    times = pd.to_datetime(
        text.to_pandas(), format=date_format, errors="coerce", utc=True
    )
    return pa.array(
        times.dt.tz_localize(None).astype("datetime64[us]"), from_pandas=True
    )


_READERS: dict[Kind, Callable[[Feature, Any, str], Values]] = {
    "numeric": _read_numbers,
    "boolean": _read_booleans,
    "category": _read_categories,
    "text": _read_text,
    "datetime": _read_dates,
    "duration": _read_numbers,
}


def frame_of(arrays: dict[str, Any]) -> Any:
    """Return a pandas DataFrame of shape (n_rows, n_features), without copying where that is
    possible."""
    import pandas as pd

    return pd.DataFrame(arrays, copy=False)
