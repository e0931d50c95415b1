"""Which columns a fit learns from, and as which kinds, where its caller says so."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from rowcast.tables import columns
from rowcast.tables.columns import Kind

# As which kinds a column can be read; what its values are shows when they are read.
_READABLE: dict[Kind, frozenset[Kind]] = {
    "numeric": frozenset({"numeric", "boolean", "text"}),
    "boolean": frozenset({"numeric", "boolean", "text"}),
    "category": frozenset({"numeric", "boolean", "text", "datetime", "duration"}),
    "text": frozenset({"numeric", "boolean", "text"}),
    "datetime": frozenset({"datetime", "text", "numeric"}),
    "duration": frozenset({"duration", "text", "numeric"}),
}
# So many missing columns of an option get a name of similar spelling.
_MAX_MEANT = 5


@dataclass(frozen=True)
class Selection:
    """The only columns to learn from, None for all; those to leave out; kinds by column."""

    features: Sequence[str] | None = None
    drop: Sequence[str] = ()
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Selection:
        """Return what the options of a fit say; those of earlier versions say nothing."""
        return cls(
            options.get("features"), options.get("drop", ()), options.get("kinds", {})
        )

    def given(self) -> dict[str, Any]:
        """Return the options that are given, as a manifest contains them."""
        members = {
            "features": None if self.features is None else list(self.features),
            "drop": list(self.drop),
            "kinds": dict(self.kinds),
        }
        return {name: value for name, value in members.items() if value}

    def has(self, name: str) -> bool:
        """Return whether a column is learned from, unless it tells nothing."""
        return name not in self.drop and (
            self.features is None or name in self.features
        )

    def asks_for(self, name: str) -> bool:
        """Return whether a column is named as one to learn from."""
        return self.features is not None and name in self.features

    def problems(
        self,
        types: Mapping[str, Sequence[pa.DataType]],
        target: str,
        weights: str | None,
    ) -> Iterator[str]:
        """Yield what is wrong with the names and kinds, for a table with columns of these types."""
        named = {
            "features": self.features or (),
            "drop": self.drop,
            "kinds": self.kinds,
        }
        for option, names in named.items():
            yield from _missing(names, types, option)
            if target in names:
                yield f"The target {target!r} is not a feature, but {option} names it."
        if weights is not None and weights in named["features"]:
            yield f"The column {weights!r} is the sample_weight and cannot be a feature."
        yield from self._contradictions()
        yield from self._unreadable(types)

    def _contradictions(self) -> Iterator[str]:
        for name in self.features or ():
            if name in self.drop:
                yield f"The column {name!r} is named by features and by drop."
        for name in self.kinds:
            if not self.has(name) and not self.asks_for(name):
                yield f"The column {name!r} has a kind in kinds, but is left out."

    def _unreadable(self, types: Mapping[str, Sequence[pa.DataType]]) -> Iterator[str]:
        for name, kind in self.kinds.items():
            for found in types.get(name, ()):
                value_type = (
                    found.value_type if pa.types.is_dictionary(found) else found
                )
                actual = columns.kind_of_type(value_type)
                if actual and actual not in _READABLE[kind]:
                    yield f"The column {name!r} holds {actual} values and cannot be {kind}."


ALL = Selection()


def _missing(
    names: Collection[str], known: Collection[str], option: str
) -> Iterator[str]:
    missing = [name for name in names if name not in known]
    for i, name in enumerate(missing):
        # To compare each with all columns of a wide table would take minutes.
        near = difflib.get_close_matches(name, known, n=1) if i < _MAX_MEANT else []
        meant = f" Did you mean {near[0]!r}?" if near else ""
        yield f"The column {name!r}, which {option} names, is missing.{meant}"
