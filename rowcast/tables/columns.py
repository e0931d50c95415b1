"""The kinds of columns, and the values of a column as learners use them.

A column's kind is found once, when a model is fitted (`inference`), and noted with the model. At a
prediction the noted kind decides how a column is read, whatever the file's format. Importing this
module loads pyarrow alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from rowcast.tables import dates, durations, spellings
from rowcast.tables.dates import ISO
from rowcast.tables.spellings import Reading

Kind = Literal["numeric", "boolean", "category", "text", "datetime", "duration"]

_TypeTest = Callable[[pa.DataType], bool]
# The first test that matches decides; a type that matches none is not supported.
_KINDS: tuple[tuple[_TypeTest, Kind], ...] = (
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

INFINITE = "infinite values"
# scikit-learn's trees compare in float32, and the squares of much larger numbers overflow.
MAX_NUMBER = float(np.finfo(np.float32).max)

_NUMBER = (
    r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
    r"|^[+-]?(inf|Inf|infinity|Infinity|nan|NaN)$"
)
# Words for booleans, in lower case.
BOOLEANS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
# Numbers in a file without types may stand for booleans.
_BOOLEAN_WORDS = {**BOOLEANS, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
_UNITS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


@dataclass(frozen=True)
class Feature:
    """A column that a model was trained on, and how it is read.

    `type` is the Arrow type that it had, or `text` in a file without types. `categories` are the
    values of a category, `date_format` is the format of dates in text, and `profile` is how the
    values spread (see `drift`). `reading` is how text is read, unless plainly (see `spellings`).
    `infinite` says that infinite numbers are missing.
    """

    name: str
    kind: Kind
    type: str = ""
    categories: Sequence[str] | None = None
    date_format: str | None = None
    profile: Mapping[str, Any] | None = None
    reading: Reading | None = None
    infinite: Literal["missing"] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a manifest contains."""
        members = asdict(self)
        return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True)
class Values:
    """A column's values as a learner uses them, and how many were missing and how many unseen.

    `array` has the shape (n_rows,): float64 with NaN for numbers, booleans (0 and 1) and durations
    (seconds); a pandas Categorical, str Series or datetime64 Series (UTC) for the other kinds.
    `codes` are positions in the feature's categories: -1 for a missing value, and the number of
    categories for an unseen one.
    """

    array: Any
    n_missing: int
    n_unseen: int = 0
    codes: np.ndarray | None = None

    def for_bins(self, n_max: int) -> np.ndarray:
        """Return what to count in a profile's bins, of about `n_max` evenly spaced rows."""
        step = max(1, -(-len(self.array) // n_max))
        if self.codes is not None:
            return self.codes[::step]
        return Values(self.array[::step], 0).as_numbers()

    def as_numbers(self) -> np.ndarray:
        """Return float64 (n_rows,) for bins: times in seconds since 1970, lengths of texts."""
        if isinstance(self.array, np.ndarray):
            return self.array
        if self.array.dtype.kind == "M":
            microseconds = self.array.to_numpy("datetime64[us]").astype(np.float64)
            return np.where(self.array.isna(), np.nan, microseconds / 1e6)
        lengths = self.array.str.len()
        return np.asarray(lengths.to_numpy(np.float64, na_value=np.nan))


class Unreadable(Exception):
    """Values of a column cannot be read: `reason` says why, `rows` are their numbers from 0 on."""

    def __init__(self, reason: str, rows: np.ndarray) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rows = rows


def kind_of_type(found: pa.DataType) -> Kind | None:
    """Return the kind that a type alone implies; text may turn out to be of another kind."""
    # A dictionary is a category, whatever its values.
    if pt.is_dictionary(found):
        return "category" if kind_of_type(found.value_type) else None
    return next((kind for test, kind in _KINDS if test(found)), None)


def can_be(kind: Kind, found: pa.DataType, *, untyped: bool) -> bool:
    """Return whether a column of this type can be read as the kind that a model knows.

    `untyped`: the file has no types, so its text may be of any kind.
    """
    if pt.is_dictionary(found):
        if kind == "category":
            return kind_of_type(found) == kind
        actual = kind_of_type(found.value_type)
    else:
        actual = kind_of_type(found)
    # A column without a value has no type of its own.
    is_free = untyped and is_text(found)
    return is_free or pt.is_null(found) or actual in _READABLE[kind]


def can_read(feature: Feature, found: pa.DataType, *, untyped: bool) -> bool:
    """Return whether a column of this type can be read as a feature.

    Text can, whatever the file, where the feature was read from text; numbers such as 20201231 can,
    where it was dates of that form.
    """
    if feature.reading is not None and is_text_of_any_form(found):
        return True
    if feature.date_format == dates.COMPACT and kind_of_type(found) == "numeric":
        return True
    return can_be(feature.kind, found, untyped=untyped)


def is_text_of_any_form(found: pa.DataType) -> bool:
    """Return whether a type is one of strings, or a dictionary of them."""
    return is_text(found.value_type if pt.is_dictionary(found) else found)


def is_text(found: pa.DataType) -> bool:
    """Return whether a type is one of strings."""
    tests = (pt.is_string, pt.is_large_string, pt.is_string_view)
    return any(test(found) for test in tests)


def decoded(column: Any) -> Any:
    """Return a column with values in place of a dictionary's codes."""
    if pt.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def read(feature: Feature, column: Any, decimal: str = ".") -> Values:
    """Return a column's values as the feature's kind requires; `decimal` is for numbers in text.

    Raises:
        Unreadable: values cannot be read, or are infinite.
    """
    return _READERS[feature.kind](feature, decoded(column), decimal)


def seconds(column: Any) -> Any:
    """Return durations and times of day as seconds, other columns unchanged."""
    if not (pt.is_duration(column.type) or pt.is_time(column.type)):
        return column
    import pyarrow.compute as pc

    width = pa.int32() if pt.is_time32(column.type) else pa.int64()
    numbers = column.cast(width).cast(pa.float64(), safe=False)
    return pc.divide(numbers, _UNITS_PER_SECOND[column.type.unit])


def as_text(column: Any) -> Any:
    """Return a column as text, in which empty values are missing."""
    text = column.cast(pa.string())
    text.validate(full=True)
    return known_text(text)


def known_text(text: Any) -> Any:
    """Return text in which empty values are missing.

    A CSV file with quotes around every cell has such values.
    """
    import pyarrow.compute as pc

    # Arrow does not compare string views.
    if pt.is_string_view(text.type):
        text = text.cast(pa.string())
    missing = pa.scalar(None, text.type)
    return pc.if_else(pc.equal(text, ""), missing, text)


def parsed_numbers(text: Any, decimal: str = ".") -> Any:
    """Return the numbers that text contains, as float64; empty text is missing.

    Raises:
        Unreadable: values are not numbers.
    """
    import pyarrow.compute as pc

    if decimal == ".":
        try:
            return text.cast(pa.float64())
        except pa.ArrowException:
            pass
    text = known_text(pc.utf8_trim_whitespace(text))
    if decimal != ".":
        # 1.500 may mean 1500, so it is not a number where 1,5 is one.
        text = pc.replace_substring(text, ".", "?")
        text = pc.replace_substring(text, decimal, ".")
    is_number = pc.match_substring_regex(text, _NUMBER)
    _reject_where(pc.invert(is_number), "values that are not numbers")
    return pc.utf8_ltrim(text, "+").cast(pa.float64())


def parsed_dates(text: Any, date_format: str = ISO) -> Any:
    """Return the dates and times that text contains, in UTC; empty text is missing.

    Raises:
        Unreadable: values do not have this format.
    """
    times = dates.times(text, (date_format,))
    _reject_dates(text, times, (date_format,))
    return times


def _reject_dates(text: Any, times: Any, formats: Sequence[str]) -> None:
    import pyarrow.compute as pc

    is_known = pc.is_valid(known_text(pc.utf8_trim_whitespace(text)))
    is_bad = pc.and_(is_known, pc.is_null(times))
    _reject_where(is_bad, f"values that are not dates ({', '.join(formats)})")


def frame_of(arrays: dict[str, Any]) -> Any:
    """Return a pandas DataFrame (n_rows, n_features), without a copy where that is possible."""
    import pandas as pd

    return pd.DataFrame(arrays, copy=False)


def _spelled(feature: Feature, text: Any, decimal: str) -> Any:
    """Return the numbers, or seconds, that text contains, as float64.

    Raises:
        Unreadable: values are not written as the feature's reading says.
    """
    reading = feature.reading or {}
    if feature.kind == "duration":
        values, is_bad = durations.seconds(text, reading)
        _reject_where(is_bad, "values that are not durations")
    else:
        values, is_bad = spellings.numbers(text, reading, decimal)
        _reject_where(is_bad, "values that are not numbers")
    return values


def _read_numbers(feature: Feature, column: Any, decimal: str) -> Values:
    if is_text(column.type) and feature.reading is not None:
        column = _spelled(feature, column, decimal)
    elif is_text(column.type):
        column = parsed_numbers(column, decimal)
    else:
        column = seconds(column)
    values = _floats(column.cast(pa.float64(), safe=False))
    if feature.infinite == "missing" and np.isinf(values).any():
        values = np.where(np.isinf(values), np.nan, values)
    is_usable = np.abs(values) <= MAX_NUMBER
    if is_usable.all():
        return Values(values, 0)

    bad = np.flatnonzero(~is_usable & ~np.isnan(values))
    if not len(bad):
        return Values(values, int(len(values) - is_usable.sum()))
    if np.isinf(values[bad]).all():
        raise Unreadable(INFINITE, bad)
    raise Unreadable("values over 3.4e38 or infinite ones", bad)


def _floats(column: Any) -> np.ndarray:
    """Return float64 of shape (n_rows,), with NaN for null."""
    if column.null_count:
        column = column.fill_null(float("nan"))
    return _numpy(column, np.float64)


def _numpy(column: Any, dtype: type) -> np.ndarray:
    # Arrow's own conversion loads pandas, which the server does without.
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(array):
        return np.empty(0, dtype)
    values: np.ndarray = np.frombuffer(array.buffers()[1], dtype)
    return values[array.offset : array.offset + len(array)]


def _reject_where(is_bad: Any, reason: str) -> None:
    import pyarrow.compute as pc

    rows = _numpy(pc.indices_nonzero(is_bad), np.uint64)
    if len(rows):
        raise Unreadable(reason, rows)


def _read_booleans(feature: Feature, column: Any, decimal: str) -> Values:
    if is_text(column.type):
        return _read_boolean_words(column)
    found = _read_numbers(feature, column, decimal)
    numbers = found.array
    is_boolean = (numbers == 0) | (numbers == 1)
    is_unseen = ~is_boolean & ~np.isnan(numbers)
    values = np.where(is_unseen, np.nan, numbers)
    return Values(values, found.n_missing, int(is_unseen.sum()))


def _read_boolean_words(text: Any) -> Values:
    import pyarrow.compute as pc

    text = known_text(pc.utf8_lower(pc.utf8_trim_whitespace(text)))
    codes = _codes(text, list(_BOOLEAN_WORDS))
    # The code -1 of a missing or unseen word takes the last of these.
    numbers = np.array([*_BOOLEAN_WORDS.values(), np.nan])
    values = numbers[codes]
    n_missing = text.null_count
    n_nan = int(np.isnan(values).sum())
    return Values(values, n_missing, n_nan - n_missing)


def _codes(text: Any, words: Sequence[str]) -> np.ndarray:
    """Return the positions of values in `words`, -1 for those that are not among them."""
    import pyarrow.compute as pc

    places = pc.index_in(text, value_set=pa.array(words, text.type))
    codes: np.ndarray = pc.fill_null(places, -1).to_numpy(zero_copy_only=False)
    return codes


def _read_categories(feature: Feature, column: Any, _: str) -> Values:
    import pandas as pd

    categories = list(feature.categories or ())
    text = as_text(column)
    codes = _codes(text, categories)
    index = pd.Index(categories, dtype="str")
    array = pd.Categorical.from_codes(codes, categories=index)
    is_unseen = (codes < 0) & text.is_valid().to_numpy(zero_copy_only=False)
    codes = np.where(is_unseen, len(categories), codes)
    return Values(array, text.null_count, int(is_unseen.sum()), codes)


def _read_text(_: Feature, column: Any, __: str) -> Values:
    text = as_text(column)
    return Values(text.to_pandas().astype("str"), text.null_count)


def _read_dates(feature: Feature, column: Any, _: str) -> Values:
    if is_text(column.type):
        column = _dates_in_text(feature, column)
    elif kind_of_type(column.type) == "numeric" and not pt.is_null(column.type):
        column = parsed_dates(whole_numbers_as_text(column), dates.COMPACT)
    elif not pt.is_null(column.type):
        column = _in_utc(column)
    column = column.cast(pa.timestamp("us"))
    return Values(column.to_pandas(), column.null_count)


def _dates_in_text(feature: Feature, text: Any) -> Any:
    if feature.reading is None:
        return parsed_dates(text, feature.date_format or ISO)
    reading = feature.reading
    text = spellings.unmarked(text, reading)
    times = dates.times(text, reading["formats"])
    if not reading.get("skips_text"):
        _reject_dates(text, times, reading["formats"])
    return times


def whole_numbers_as_text(column: Any) -> Any:
    """Return the digits of whole numbers; NaN is missing.

    Raises:
        pyarrow.ArrowException: a number has a fraction.
    """
    import pyarrow.compute as pc

    if pt.is_floating(column.type):
        missing = pa.scalar(None, column.type)
        column = pc.if_else(pc.is_nan(column), missing, column)
    return column.cast(pa.int64()).cast(pa.string())


def _in_utc(column: Any) -> Any:
    """Return dates and times in UTC without a zone, cut off at microseconds."""
    import pyarrow.compute as pc

    zone = column.type.tz if pt.is_timestamp(column.type) else None
    options = pc.CastOptions(pa.timestamp("us", tz=zone), allow_time_truncate=True)
    return dates.without_zone(column.cast(options=options))


_READERS: dict[Kind, Callable[[Feature, Any, str], Values]] = {
    "numeric": _read_numbers,
    "boolean": _read_booleans,
    "category": _read_categories,
    "text": _read_text,
    "datetime": _read_dates,
    "duration": _read_numbers,
}
