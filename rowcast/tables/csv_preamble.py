"""What stands above the table in a CSV file: the delimiter that Excel names, and comments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_END = r"(?:\r\n|\n|\r)"
# Quotes, letters and digits are part of the fields.
_NAMED_DELIMITER = re.compile(
    rf'"?sep=([\t !#-/:-@\[-`{{-~])"?[ \t]*+{_END}(?=[^\r\n]*?\1)', re.IGNORECASE
)
# A tab before # is a delimiter after an empty name.
_COMMENTS = re.compile(rf"(?:(?: *+#[^\r\n]*+|[ \t]*+){_END})*+")
_COMMENT = re.compile(r"#[^\r\n]*+")


@dataclass(frozen=True)
class Comment:
    """A comment, and the character of the text that it begins at."""

    text: str
    start: int


@dataclass(frozen=True)
class Preamble:
    """The characters above the table, the comments among them, and the named delimiter."""

    n_characters: int
    comments: Sequence[Comment] = ()
    delimiter: str | None = None


def preamble_of(text: str) -> Preamble:
    """Return what stands above the table."""
    named = _NAMED_DELIMITER.match(text)
    start = named.end() if named else 0
    delimiter = named[1] if named else None
    above = _COMMENTS.match(text, start)
    end = above.end() if above else start
    comments = [
        Comment(found[0], found.start())
        for found in _COMMENT.finditer(text, start, end)
    ]
    if not comments or not text[end:].strip():
        return Preamble(start, delimiter=delimiter)
    return Preamble(end, comments, delimiter)
