"""What a caller says of how the file of a table is written, in place of the guesses."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Any

from rowcast.errors import InvalidRequest

# The names that Python's codecs have for them; other spellings of these names are accepted.
ENCODINGS = (
    "utf-8",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    *(f"cp{page}" for page in (437, 850, 852, 866, 874, 932, 949, 950)),
    *(f"cp{page}" for page in range(1250, 1259)),
    *(f"iso8859-{part}" for part in (*range(1, 12), *range(13, 17))),
    "koi8-r",
    "koi8-u",
    "mac-roman",
    "gb18030",
    "big5",
    "shift_jis",
    "euc_jp",
    "euc_kr",
)
_WIDER = {"utf-8-sig": "utf-8", "ascii": "utf-8", "gb2312": "gb18030", "gbk": "gb18030"}
_KNOWN = frozenset(
    {*map(normalize_encoding, (*ENCODINGS, *_WIDER)), *aliases, *aliases.values()}
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.:-]{0,39}")
# Which options apply to a format; to the others none does.
_APPLY = {
    "csv": frozenset({"encoding", "delimiter", "header", "decimal", "missing"}),
    "jsonl": frozenset({"encoding"}),
    "excel": frozenset({"header", "missing", "sheet"}),
}
_TITLES = {
    "csv": "CSV",
    "jsonl": "JSON Lines",
    "json": "an array of JSON objects",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "excel": "Excel",
}


@dataclass(frozen=True)
class ReadingOptions:
    """How a file is to be read; None leaves it to the file's content.

    `header` says whether the first row names the columns. `missing` are the texts that stand for a
    missing value beside the empty one, in place of the usual ones. `sheet` is that of a workbook,
    by its name or its number from 1 on.
    A prediction also has what is known of its model: `fitted_missing` is the `missing` of the fit,
    which holds where the prediction names none; `fitted_column` is the only feature; with
    `fitted_blanks` names or categories begin with a blank.
    """

    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    decimal: str | None = None
    missing: Sequence[str] | None = None
    sheet: str | None = None
    fitted_missing: Sequence[str] | None = None
    fitted_column: str | None = None
    fitted_blanks: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ReadingOptions:
        """Return what the options of a job, or a manifest's `reading`, say of reading."""
        said: dict[str, Any] = {name: options.get(name) for name in NAMES}
        return cls(**said)

    def given(self) -> dict[str, Any]:
        """Return the options that are given, as a manifest contains them."""
        members = {name: getattr(self, name) for name in NAMES}
        return {name: value for name, value in members.items() if value is not None}

    def of_model(self, manifest: Mapping[str, Any]) -> ReadingOptions:
        """Return these options of a prediction, with what holds for all tables of its model.

        What stands for a missing value does; how a file is written does not.
        """
        fitted = manifest.get("reading") or {}
        features = manifest.get("features") or []
        names = [str(feature.get("name")) for feature in features]
        return replace(
            self,
            fitted_missing=fitted.get("missing"),
            fitted_column=names[0] if len(names) == 1 else None,
            fitted_blanks=any(map(_begins_with_blank, features)),
        )

    def missing_texts(self) -> Sequence[str] | None:
        """Return the texts that stand for a missing value, None for the usual ones."""
        return self.fitted_missing if self.missing is None else self.missing

    def check(self, format_name: str) -> None:
        """Check that every option applies to a format.

        Raises:
            InvalidRequest: some do not; names each.
        """
        apply = _APPLY.get(format_name, frozenset())
        wrong = [name for name in self.given() if name not in apply]
        if not wrong:
            return
        title = _TITLES[format_name]
        found = [_inapplicable(name, title) for name in wrong]
        raise InvalidRequest(
            " ".join(found),
            hint="Leave these options out; docs/tables.md says which apply to which files.",
            errors=found,
        )


# Leaves everything to the file's content.
GUESS = ReadingOptions()
NAMES = ("encoding", "delimiter", "header", "decimal", "missing", "sheet")


def _begins_with_blank(feature: Mapping[str, Any]) -> bool:
    words = (feature.get("name"), *(feature.get("categories") or ()))
    return any(str(word).startswith(" ") for word in words)


def canonical_encoding(name: str) -> str:
    """Return the name that Python's codecs have for an encoding.

    Raises:
        ValueError: it is not one of ENCODINGS.
    """
    normal = normalize_encoding(name).lower() if _NAME.fullmatch(name) else ""
    try:
        # Python keeps every name that was ever looked up.
        found = codecs.lookup(normal).name if normal in _KNOWN else ""
    except LookupError:
        found = ""
    found = _WIDER.get(found, found)
    if found not in ENCODINGS:
        raise ValueError(f"it must be one of {', '.join(ENCODINGS)}")
    return found


def _inapplicable(name: str, title: str) -> str:
    if name == "sheet":
        return "The parameter 'sheet' does not apply: this file has no sheets."
    return f"The parameter {name!r} does not apply to {title}."
