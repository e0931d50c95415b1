"""What is changed in the text of a CSV file before it is parsed: blanks, and stray line ends.

Fields may be separated by runs of blanks, or by a delimiter that blanks follow; a carriage return
may stand within a line. The text is changed in parts of whole lines, so memory stays bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_RUNS = re.compile(rb'("[^"\r\n]*+"?)|[ \t]++')
_EDGES = re.compile(rb"(?:(?<=[\r\n])|\A)[ \t]++|(?<![ \t])[ \t]++(?=[\r\n]|\Z)")
_STRAY = re.compile(rb"\r(?!\n)")
# A line's start or a delimiter, the blanks after it, and a field in quotes, as far as it is closed.
_AFTER = {
    ",": re.compile(rb'((?:(?<=[\r\n])|\A)|,) *+("(?:[^"]|"")*+")?'),
    ";": re.compile(rb'((?:(?<=[\r\n])|\A)|;) *+("(?:[^"]|"")*+")?'),
    "|": re.compile(rb'((?:(?<=[\r\n])|\A)|\|) *+("(?:[^"]|"")*+")?'),
}
# A part is not held for longer because of an open quote.
_MAX_HELD_BYTES = 4 << 20
Blanks = Literal["kept", "between", "after"]


@dataclass(frozen=True)
class Cleaning:
    """How a text is changed.

    `blanks`: runs of them `between` fields become tabs; those `after` a delimiter, and at the start
    of lines, are removed.
    `joins_lines`: carriage returns that end no line become blanks.
    """

    blanks: Blanks = "kept"
    delimiter: str = ","
    joins_lines: bool = False

    def chunks(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the changed text of chunks in UTF-8."""
        if self == Cleaning(delimiter=self.delimiter):
            yield from chunks
            return
        rest = b""
        for chunk in chunks:
            rest += chunk
            end = _end_of_lines(rest)
            if end:
                yield self.cleaned(rest[:end])
                rest = rest[end:]
        yield self.cleaned(rest)

    def text(self, text: str) -> str:
        """Return a changed text."""
        return self.cleaned(text.encode()).decode()

    def cleaned(self, part: bytes) -> bytes:
        """Return the changed text of whole lines."""
        if self.joins_lines:
            part = _STRAY.sub(b" ", part)
        if self.blanks == "between":
            part = _EDGES.sub(b"", part)
            part = _RUNS.sub(lambda match: match[1] or b"\t", part)
        elif self.blanks == "after":
            part = _AFTER[self.delimiter].sub(_without_blanks, part)
        return part


def _without_blanks(match: re.Match[bytes]) -> bytes:
    before, quoted = match.groups()
    return before + (quoted or b"")


def _end_of_lines(part: bytes) -> int:
    """Return where the last line ends that ends outside of quotes, 0 if there is none."""
    end = part.rfind(b"\n") + 1
    if part.count(b'"', 0, end) % 2:
        end = part.rfind(b"\n", 0, part.rfind(b'"', 0, end)) + 1
        if part.count(b'"', 0, end) % 2:
            end = 0
    if end or len(part) <= _MAX_HELD_BYTES:
        return end
    # A quote is not closed, or a carriage return ends each line; the last byte may begin \r\n.
    end = part.rfind(b"\n") + 1 or part.rfind(b"\r", 0, len(part) - 1) + 1
    return end or len(part)
