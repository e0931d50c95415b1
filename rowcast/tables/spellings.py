"""Numbers as people write them: `$1,234.50`, `1.234,56`, `(5)`, `45%`, `1.2K`, `12 kg`, `?`.

`find` says how the text of a column is to be read, once, when a model is fitted. The reading is
stored with the feature, and `numbers` reads any later text by it. Importing this module loads
pyarrow alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

# What stands for a missing value where all others are numbers or dates, in lower case.
MARKS = (
    *(
        "?",
        "??",
        "???",
        "-",
        "--",
        "---",
        "\u2013",
        "\u2014",
        ".",
        "..",
        "...",
        "\u2026",
    ),
    *("*", "**", "***", "n.a.", "n.a", "n/a", "na", "#n/a", "<na>", "(na)", "[na]"),
    *("n.d.", "n/d", "k.a.", "\\n", "null", "none", "nil", "nan", "-nan", "unknown"),
    *("missing", "not available", "#div/0!", "#value!", "#ref!", "#name?", "#num!"),
    *("#null!", "#n/a n/a", "#na", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
)
_SYMBOLS = tuple("$€£¥₹₽₩₺₪₫฿₴₦¢")
_CODES = (
    *(
        "usd",
        "eur",
        "gbp",
        "jpy",
        "chf",
        "cad",
        "aud",
        "nzd",
        "cny",
        "inr",
        "rub",
        "brl",
    ),
    *(
        "mxn",
        "sek",
        "nok",
        "dkk",
        "pln",
        "czk",
        "huf",
        "try",
        "zar",
        "krw",
        "sgd",
        "hkd",
    ),
    *(
        "us$",
        "a$",
        "c$",
        "ca$",
        "au$",
        "nz$",
        "hk$",
        "s$",
        "r$",
        "rs",
        "rs.",
        "kr",
        "kr.",
    ),
    *("fr.", "zł", "kč", "ft", "lei", "euro", "euros", "dollars"),
)
CURRENCIES = frozenset((*_SYMBOLS, *_CODES))
# Powers of ten.
_SCALES = {
    **dict.fromkeys(("k", "K"), 3),
    **dict.fromkeys(("M", "m", "mn", "Mn", "mio", "Mio", "million", "MM"), 6),
    **dict.fromkeys(("B", "b", "bn", "Bn", "Mrd", "billion"), 9),
    **dict.fromkeys(("T", "tn", "trillion"), 12),
}
# These alone are more likely meters, bits and tons.
_SCALES_IN_COMPANY = frozenset({"m", "b"})
# Decimal and thousands marks, in the order in which they are tried.
_CONVENTIONS = (
    *((".", ""), (",", "")),
    *(
        (".", ","),
        (",", "."),
        (".", "'"),
        (",", "'"),
        (".", " "),
        (",", " "),
        (".", "_"),
    ),
)
_OTHER_MARK = {".": ",", ",": "."}
# Longer text is not a number.
_MAX_BYTES = 60
# A column with more different words before or after its numbers is not one quantity.
_MAX_WORDS = 16
_PROBED_VALUES = 200
# Blanks that are not to be broken, narrow or as wide as a digit.
_WIDE_BLANKS = "[\u00a0\u2007\u2009\u202f]"
_PARTS = (
    "^(?P<open>\\(?) *(?P<sign>[+-]?) *"
    "(?P<before>[A-Za-z]{1,3}\\.?|[A-Za-z]{0,2}[^0-9A-Za-z .,()'+-]|) *(?P<inner>[+-]?) *"
    "(?P<body>[0-9][0-9.,'_ ]*|[.,][0-9]+)(?P<exponent>[eE][+-]?[0-9]{1,3}|) *"
    "(?P<after>[^0-9 .,()'+_-][^0-9()]{0,15}|) *(?P<close>\\)?)(?P<trailing>-?)$"
)
# Thousands are marked by "_" here, as in 1_234_567 or, as in India, 12_34_567.
_BODY = (
    "^([0-9]*|[1-9][0-9]{0,2}(_[0-9]{3})+|[1-9][0-9]?(_[0-9]{2})+_[0-9]{3})"
    "([.][0-9]*)?$"
)
_LEADING_ZERO = "^0[0-9]+$"

# How text is read, ready for JSON. All members are optional:
#   decimal, thousands: the marks in numbers, unless they are those of the file
#   currency, unit: what is written before or after numbers, and left out
#   scales, brackets: whether K, M, B and T multiply, and whether (5) is -5
#   missing: the marks for missing values
# Of dates: formats, if there are several (see `dates`), and skips_text, where other text is missing
# Of durations: clock, what two numbers are: h:m or m:s (see `durations`)
Reading = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """How a column is read, if it is numbers, and what its owner is told.

    `n_bad`: how many values are not numbers, None if most are not.
    """

    reading: Reading | None = None
    note: str = ""
    n_bad: int | None = None


def find(text: Any, decimal: str = ".") -> Found:
    """Return how all known values of a column can be read as numbers, if there is a way.

    `decimal` is the decimal mark of the file.
    """
    for part in (text[:_PROBED_VALUES], text):
        split = _Split.of(part)
        n_bad = split.n_bad()
        if n_bad > len(part) / 2:
            return Found()
    if n_bad or not split.n_numbers():
        return Found(n_bad=n_bad or None)
    return _found(split, text, decimal)


def numbers(text: Any, reading: Reading, decimal: str = ".") -> tuple[Any, Any]:
    """Return the numbers of text as float64, and a mask of the values that are none."""
    import pyarrow.compute as pc

    split = _Split.of_known(unmarked(text, reading))
    convention = (reading.get("decimal", decimal), reading.get("thousands", ""))
    body = _with_marks(split.body, *convention)
    power = _powers(split, reading)
    is_good = pc.and_(split.has_one_sign(), pc.match_substring_regex(body, _BODY))
    is_good = pc.and_(is_good, pc.is_valid(power))
    is_good = pc.and_(is_good, _are_allowed(split.before, _currency_words(reading)))
    is_good = pc.fill_null(is_good, False)
    is_bad = pc.and_not(pc.is_valid(split.text), is_good)
    if not reading.get("brackets"):
        is_bad = pc.or_(is_bad, pc.fill_null(pc.equal(split.open, "("), False))
    digits = _written(split, body, power)
    values = pc.if_else(is_bad, pa.scalar(None, digits.type), digits).cast(pa.float64())
    return pc.if_else(split.is_negative(), pc.negate(values), values), is_bad


def counted(n_values: int) -> str:
    """Return how many values there are, in words."""
    return "1 value" if n_values == 1 else f"{n_values:,} values"


def describe(reading: Reading) -> str:
    """Return how numbers are read, for people; nothing if as they stand."""
    return ", ".join(_remarks(reading))


def _remarks(reading: Reading) -> Iterator[str]:
    currency = reading.get("currency", "")
    unit = reading.get("unit", "")
    if currency or unit:
        yield f"without {' and '.join(word for word in (currency, unit) if word)}"
    thousands = reading.get("thousands", "")
    if thousands:
        yield f"with {_NAMES[thousands]} between thousands"
    if reading.get("decimal") == ",":
        yield "with a decimal comma"
    if reading.get("scales"):
        yield "with K, M, B and T as thousands, millions, billions and trillions"
    if reading.get("brackets"):
        yield "negative in parentheses"


_NAMES = {
    ",": "commas",
    ".": "points",
    "'": "apostrophes",
    " ": "blanks",
    "_": "underscores",
}


# How a column is read


def _found(split: _Split, text: Any, decimal: str) -> Found:
    words = _words(split)
    if words is None:
        return Found()
    convention = _convention(split, decimal)
    if convention is None:
        return Found(note=_note_on_marks(split))
    if _has_leading_zeros(split) or ("unit" in words and _are_enumerated(split)):
        return Found()
    reading: dict[str, Any] = {**convention, **words}
    if split.has("open", "("):
        reading["brackets"] = True
    marks, n_marks = _marks_in(text)
    if marks:
        reading["missing"] = marks
    return Found(reading, _note(reading, split, n_marks))


def _note_on_marks(split: _Split) -> str:
    import pyarrow.compute as pc

    english, german = (
        pc.match_substring_regex(_with_marks(split.body, *marks), _BODY)
        for marks in ((".", ","), (",", "."))
    )
    if not pc.all(pc.or_(english, german)).as_py():
        return ""
    return "its numbers do not all have the same decimal mark, so all are read as text."


def _note(reading: Reading, split: _Split, n_marks: int) -> str:
    parts = list(_remarks(reading))
    if n_marks:
        marks = " ".join(reading["missing"])
        parts.append(f"with {marks} as missing ({counted(n_marks)})")
    note = f"{', '.join(['its text is read as numbers', *parts])}."
    if reading.get("thousands") == "," and not split.has_character("body", "."):
        note += " If its commas are decimal, write points instead."
    return note


def _convention(split: _Split, decimal: str) -> dict[str, str] | None:
    """Return the decimal and thousands marks that fit all numbers; none if those of the file do."""
    import pyarrow.compute as pc

    own = (decimal, "")
    grouped = (decimal, _OTHER_MARK[decimal])
    for marks in (own, grouped, *_CONVENTIONS):
        body = _with_marks(split.body, *marks)
        if not pc.all(pc.match_substring_regex(body, _BODY)).as_py():
            continue
        if marks == own:
            return {}
        if marks[1] == " " and _have_one_length(split.body):
            # Telephone numbers, not amounts.
            return None
        found = {"decimal": marks[0], "thousands": marks[1]}
        return {name: mark for name, mark in found.items() if mark}
    return None


def _have_one_length(body: Any) -> bool:
    import pyarrow.compute as pc

    shortest_and_longest = pc.min_max(pc.utf8_length(body)).as_py()
    return len(body) > 1 and shortest_and_longest["min"] == shortest_and_longest["max"]


def _words(split: _Split) -> dict[str, Any] | None:
    """Return the currency, unit and scales of a column; None if it has several of a kind."""
    before = _distinct(split.before)
    after = _distinct(split.after)
    if before is None or after is None:
        return None
    tokens = [_token(word) for word in after]
    prefixes = {word.lower() for word in before if word}
    if not prefixes <= CURRENCIES:
        return None
    currencies = {*prefixes, *(token.currency for token in tokens if token.currency)}
    units = _units(token.unit for token in tokens if token.unit)
    scales = {token.scale for token in tokens if token.scale}
    if scales and scales <= _SCALES_IN_COMPANY and not currencies:
        units |= scales
        scales = set()
    if len(currencies) > 1 or len(units) + bool(scales) > 1:
        return None
    if not _are_common(split, units, currencies):
        return None
    found = {
        "currency": "".join(currencies),
        "unit": "".join(units),
        "scales": bool(scales),
    }
    return {name: value for name, value in found.items() if value}


def _are_common(split: _Split, units: set[str], currencies: set[str]) -> bool:
    """Return whether most numbers have the unit or currency: all must have a percent sign."""
    import pyarrow.compute as pc

    if not (units or currencies):
        return True
    is_bare = pc.and_(pc.equal(split.before, ""), pc.equal(split.after, ""))
    n_bare = pc.sum(is_bare).as_py() or 0
    return n_bare == 0 if "%" in units else n_bare <= split.n_numbers() / 2


@dataclass(frozen=True)
class _Token:
    """What a word after a number says."""

    scale: str = ""
    currency: str = ""
    unit: str = ""


def _token(word: str) -> _Token:
    if word in _SCALES:
        return _Token(scale=word)
    if word.lower() in CURRENCIES:
        return _Token(currency=word.lower())
    for scale in _SCALES:
        rest = word.removeprefix(scale).strip().lower()
        if word.startswith(scale) and rest in CURRENCIES:
            return _Token(scale, rest)
    return _Token(unit=word)


def _units(words: Iterator[str]) -> set[str]:
    """Return different units; that of "1 year" and "2 years" is the same."""
    found = set(words)
    return {word for word in found if word.removesuffix("s") not in found - {word}}


def _distinct(words: Any) -> list[str] | None:
    found = words.unique()
    return None if len(found) > _MAX_WORDS else found.drop_null().to_pylist()


def _marks_in(text: Any) -> tuple[list[str], int]:
    """Return the marks for missing values in a column, and how many values are such."""
    import pyarrow.compute as pc

    text = plain(text)
    found = text.filter(is_mark(text, MARKS))
    return sorted(pc.utf8_lower(found).unique().to_pylist()), len(found)


def _has_leading_zeros(split: _Split) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(split.body, _LEADING_ZERO)).as_py())


def _are_enumerated(split: _Split) -> bool:
    """Return whether a point follows a number, as in "2. Midwest"."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(split.body, "[.,]$")).as_py())


# The parts of numbers in text


@dataclass(frozen=True)
class _Split:
    """The parts of each known value, null where it does not look like a number.

    `text` is null where a value is missing.
    """

    text: Any
    open: Any
    sign: Any
    before: Any
    inner: Any
    body: Any
    exponent: Any
    after: Any
    close: Any
    trailing: Any

    @classmethod
    def of(cls, text: Any) -> _Split:
        """Return the parts of a column, in which the common marks are missing."""
        text = plain(text)
        return cls.of_known(without(text, is_mark(text, MARKS)).drop_null())

    @classmethod
    def of_known(cls, text: Any) -> _Split:
        """Return the parts of plain text."""
        import pyarrow.compute as pc

        is_long = pc.greater(pc.binary_length(text), _MAX_BYTES)
        parts = pc.extract_regex(without(text, is_long), _PARTS)
        fields = {
            name: pc.utf8_trim_whitespace(pc.struct_field(parts, name))
            for name in cls.__dataclass_fields__
            if name != "text"
        }
        return cls(text, **fields)

    def n_bad(self) -> int:
        """Return how many values do not look like numbers."""
        import pyarrow.compute as pc

        words = pa.array(["", *CURRENCIES], self.before.type)
        is_currency = pc.is_in(pc.utf8_lower(self.before), value_set=words)
        is_good = pc.fill_null(pc.and_(self.has_one_sign(), is_currency), False)
        is_bad = pc.and_not(pc.is_valid(self.text), is_good)
        return int(pc.sum(is_bad).as_py() or 0)

    def n_numbers(self) -> int:
        """Return how many values look like numbers."""
        return int(len(self.body) - self.body.null_count)

    def has(self, part: str, value: str) -> bool:
        """Return whether a part is this in a value."""
        import pyarrow.compute as pc

        return bool(pc.any(pc.equal(getattr(self, part), value)).as_py())

    def has_character(self, part: str, character: str) -> bool:
        """Return whether a part has this character in a value."""
        import pyarrow.compute as pc

        found = pc.match_substring(getattr(self, part), character)
        return bool(pc.any(found).as_py())

    def has_one_sign(self) -> Any:
        """Return whether values have at most one sign, and both parentheses or none."""
        import pyarrow.compute as pc

        signs = pc.binary_join_element_wise(
            self.sign, self.inner, self.trailing, self.open, ""
        )
        is_closed = pc.equal(pc.binary_length(self.open), pc.binary_length(self.close))
        return pc.and_(is_closed, pc.less_equal(pc.binary_length(signs), 1))

    def is_negative(self) -> Any:
        """Return whether values are below 0: -5, 5- and (5)."""
        import pyarrow.compute as pc

        signs = pc.binary_join_element_wise(
            self.sign, self.inner, self.trailing, self.open, ""
        )
        return pc.is_in(signs, value_set=pa.array(["-", "("], signs.type))


def plain(text: Any) -> Any:
    """Return text without the blanks around it, with usual blanks, minus signs and apostrophes."""
    import pyarrow.compute as pc

    # Arrow's kernels know no string views, and mix no widths.
    text = text.cast(pa.string())
    text = pc.utf8_trim_whitespace(text)
    if not pc.all(pc.string_is_ascii(text)).as_py():
        text = pc.replace_substring_regex(text, _WIDE_BLANKS, " ")
        text = pc.replace_substring(text, "\u2212", "-")
        text = pc.replace_substring(text, "\u2019", "'")
    return without(text, pc.equal(text, ""))


def unmarked(text: Any, reading: Reading) -> Any:
    """Return plain text in which the marks for missing values are missing."""
    text = plain(text)
    return without(text, is_mark(text, reading.get("missing", ())))


def without(text: Any, is_missing: Any) -> Any:
    """Return text that is missing in these rows."""
    import pyarrow.compute as pc

    return pc.if_else(is_missing, pa.scalar(None, text.type), text)


def is_mark(text: Any, marks: Sequence[str]) -> Any:
    """Return which values are marks for missing ones, in any case."""
    import pyarrow.compute as pc

    lower = pc.utf8_lower(text)
    return pc.is_in(lower, value_set=pa.array(list(marks), lower.type))


def _with_marks(body: Any, decimal: str, thousands: str) -> Any:
    """Return numbers with "." as decimal and "_" as thousands mark."""
    import pyarrow.compute as pc

    if thousands != "_":
        # It is only a mark where it is meant to be.
        body = pc.replace_substring(body, "_", "?")
    if thousands:
        body = pc.replace_substring(body, thousands, "_")
    if decimal != ".":
        body = pc.replace_substring(body, ".", "?")
        body = pc.replace_substring(body, decimal, ".")
    return body


def _currency_words(reading: Reading) -> list[str]:
    currency = reading.get("currency", "")
    return ["", currency, currency.upper(), currency.capitalize()]


def _are_allowed(words: Any, allowed: Sequence[str]) -> Any:
    import pyarrow.compute as pc

    return pc.is_in(words, value_set=pa.array(list(allowed), words.type))


def _powers(split: _Split, reading: Reading) -> Any:
    """Return by which power of ten the words after numbers multiply, null where none is known."""
    import pyarrow.compute as pc

    powers = dict.fromkeys(_currency_words(reading), 0)
    unit = reading.get("unit", "")
    if unit:
        powers.update(dict.fromkeys((unit, f"{unit}s"), 0))
    if reading.get("scales"):
        for scale, power in _SCALES.items():
            for currency in _currency_words(reading):
                powers[f"{scale}{currency}"] = power
                powers[f"{scale} {currency}".strip()] = power
    words = pa.array(list(powers), split.after.type)
    places = pc.index_in(split.after, value_set=words)
    return pc.take(pa.array(list(map(str, powers.values()))), places)


def _written(split: _Split, body: Any, power: Any) -> Any:
    """Return numbers as Arrow parses them: 1.2K is 1.2e3."""
    import pyarrow.compute as pc

    digits = pc.replace_substring(body, "_", "")
    has_power = pc.and_(pc.not_equal(power, "0"), pc.equal(split.exponent, ""))
    exponent = pc.if_else(
        has_power, pc.binary_join_element_wise("e", power, ""), split.exponent
    )
    return pc.binary_join_element_wise(digits, exponent, "")
