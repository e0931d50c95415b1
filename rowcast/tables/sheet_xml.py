"""What the XML of a sheet promises, counted before it is read: rows, columns and bytes of text.

calamine holds a cell of memory for every place between the first and the last one that has a value,
and a copy of a shared text for every cell that refers to it. A few bytes can promise terabytes. So
each tag of a cell is checked here, in parts of the XML that end with whole tags. What is written in
an unusual way counts as the most that it may stand for.
"""

from __future__ import annotations

import re
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any
from xml.parsers import expat

import numpy as np

from rowcast.errors import InvalidTable
from rowcast.tables.limits import Limits, over
from rowcast.tables.rejections import damaged

# A tag may have a prefix. Each part of a tag is matched once, without a way back.
_CELL = re.compile(
    rb"<(?:[^\s<>/:]*+:)?+c"
    rb"""(?:\s++(?!r[\s=])[^\s=<>"'/]++\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'))*+"""
    rb"""(?:\s++r\s*+=\s*+["']([A-Za-z]{1,3})([0-9]{1,7})["'])?+"""
    rb"""(?:\s++(?!r[\s=])[^\s=<>"'/]++\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'))*+"""
    rb"\s*+(/?+)>"
)
_OPENED = re.compile(rb"<(?:[^\s<>/:]*+:)?+c[\s/>]")
_ROW = re.compile(
    rb"<(?:[^\s<>/:]*+:)?+row"
    rb"""(?:\s++(?!r[\s=])[^\s=<>"'/]++\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'))*+"""
    rb"""(?:\s++r\s*+=\s*+["']([0-9]{1,7})["'])?+"""
    rb"""(?:\s++(?!r[\s=])[^\s=<>"'/]++\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'))*+"""
    rb"\s*+/?+>"
)
_OPENED_ROW = re.compile(rb"<(?:[^\s<>/:]*+:)?+row[\s/>]")
_ROW_END = re.compile(
    rb"</(?:[^\s<>/:]*+:)?+row\s*+>|<(?:[^\s<>/:]*+:)?+row(?:\s[^<>]*)?/>"
)
_SHARED_TYPE = re.compile(rb"""\st\s*+=\s*+["']s["']""")
_SHARED = re.compile(
    rb"""\st=["']s["'][^<>]{0,200}+><(?:[^\s<>/:]*+:)?+v>([0-9]{1,9})"""
    rb"</(?:[^\s<>/:]*+:)?+v></(?:[^\s<>/:]*+:)?+c>"
)
_TEXT_TAG = re.compile(rb"<(/?+)((?:[^\s<>/:]*+:)?+)si[\s/>]")
_EMPTY_TEXT = re.compile(rb"<(?:[^\s<>/:]*+:)?+si(?:\s[^<>]*)?/>")
_TEXT_END = re.compile(rb"</(?:[^\s<>/:]*+:)?+si\s*+>")
_CLOSED = (
    (_ROW_END, b"row", (b"sheetData", b"worksheet")),
    (_TEXT_END, b"si", (b"sst",)),
)
_ERROR_TYPE = re.compile(rb"""(<(?:[^\s<>/:]*+:)?+c\s[^<>]*?\st=["'])e(["'])""")
_ERROR = (b't="e"', b"t='e'")


def whole_tags(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Yield XML in parts that end with a tag.

    Raises:
        InvalidTable: a tag or a text is longer than `max_bytes`, or the XML is not UTF-8.
    """
    rest = b""
    for chunk in chunks:
        if b"\0" in chunk:
            raise damaged("Excel")
        content = rest + chunk
        end = content.rfind(b">") + 1
        rest = content[end:]
        if len(rest) > max_bytes:
            raise over("A cell is too long", max_bytes, "MAX_CELL_BYTES")
        if end:
            yield content[:end]
    if rest:
        yield rest


def closed(xml: bytes) -> bytes:
    """Return the beginning of a sheet or of the shared texts, up to its last row or text.

    Raises:
        InvalidTable: there is no end of a row or of a text in it.
    """
    for pattern, name, others in _CLOSED:
        for last in deque(pattern.finditer(xml), maxlen=1):
            prefix = last[0].lstrip(b"</").partition(name)[0]
            end = b"".join(b"</%b%b>" % (prefix, other) for other in others)
            return xml[: last.end()] + end
    raise InvalidTable(
        "The first row of the sheet is longer than 1 MiB.",
        hint="Save the sheet as CSV or Parquet, and upload that file.",
    )


def without_count(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the XML of shared texts without the number of texts that it promises.

    Raises:
        InvalidTable: there is a comment or an entity before the first text.
    """
    is_head = True
    for xml in chunks:
        if not is_head:
            yield xml
            continue
        first = _TEXT_TAG.search(xml)
        end = first.start() if first else len(xml)
        if b"<!" in xml[:end]:
            raise damaged("Excel")
        yield xml[:end].replace(b"uniqueCount", b"n") + xml[end:]
        is_head = first is None


def errors_as_text(xml: bytes) -> bytes:
    """Return cells with error values, such as #SPILL!, as cells of text; calamine knows few."""
    if any(mark in xml for mark in _ERROR):
        return _ERROR_TYPE.sub(rb"\1str\2", xml)
    return xml


def with_empty_text(xml: bytes) -> bytes:
    """Return the XML of shared texts with an empty text after the last one."""
    for last in deque(_TEXT_END.finditer(xml), maxlen=1):
        prefix = last[0].removeprefix(b"</").partition(b"si")[0]
        text = b"<%bsi><%bt></%bt></%bsi>" % ((prefix,) * 4)
        return xml[: last.end()] + text + xml[last.end() :]
    return xml


def with_known_texts(xml: bytes, n_texts: int) -> bytes:
    """Return cells of a sheet that refer to texts after the first ones with the last of these."""

    def known(match: re.Match[bytes]) -> bytes:
        if int(match[1]) < n_texts:
            return match[0]
        start, end = (place - match.start() for place in match.span(1))
        return b"%b%d%b" % (match[0][:start], n_texts - 1, match[0][end:])

    return _SHARED.sub(known, xml) if n_texts else xml


class Texts:
    """The lengths of a workbook's shared texts, in bytes, as its parts pass by."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = expat.ParserCreate()
        self._lengths = array("q")
        self._prefixes: set[bytes] = set()
        self._is_open = False
        self._is_regular = True
        # The bytes since the last text, and all.
        self._n_bytes = self._n_all = self._n_texts = 0

    def add(self, xml: bytes) -> None:
        """Count the texts of a part of the XML.

        Raises:
            InvalidTable: there are too many texts.
            ExpatError: the XML is not well-formed.
        """
        self._parser.Parse(xml, False)
        self._is_regular &= b"<!" not in xml and not _EMPTY_TEXT.search(xml)
        start = 0
        for tag in _TEXT_TAG.finditer(xml):
            is_end = bool(tag[1])
            self._prefixes.add(tag[2])
            self._is_regular &= is_end == self._is_open
            self._is_open = not is_end
            self._n_texts += not is_end
            if is_end:
                self._lengths.append(self._n_bytes + tag.start() - start)
                self._n_bytes = 0
                start = tag.start()
        self._n_bytes += len(xml) - start
        self._n_all += len(xml)
        self._limits.check_texts(self._n_texts)

    @property
    def n_texts(self) -> int:
        """How many texts there are."""
        return self._n_texts

    def lengths(self) -> np.ndarray:
        """Return an upper bound of the length of each text.

        It is one number for all where they are written in an unusual way, so that it is not clear
        which text is which.
        """
        if self._is_regular and len(self._prefixes) == 1:
            return np.array(self._lengths, np.int64)
        return np.full(1, self._n_all, np.int64)


class Extent:
    """How many rows, columns and bytes of shared text a sheet has, as its parts pass by.

    A cell without a place of its own follows the one before.
    """

    def __init__(self, limits: Limits, text_lengths: np.ndarray) -> None:
        self._limits = limits
        self._lengths = text_lengths
        self._longest = int(text_lengths.max())
        self._has_unplaced = False
        self._last_row = self._last_column = 0
        self._last_number = self._n_row_ends = 0
        self._n_in_row = self._most_in_row = self._n_cells = 0
        self.n_text_bytes = 0

    def add(self, xml: bytes) -> None:
        """Count a part of the XML.

        Raises:
            InvalidTable: a cell or row is written in a way that is not supported or twice, or the
                sheet is over a limit.
        """
        cells = _CELL.findall(xml)
        if len(cells) != len(_OPENED.findall(xml)):
            raise damaged("Excel")
        self._has_unplaced |= any(not letters for letters, _, _ in cells)
        places = [(letters, digits) for letters, digits, empty in cells if not empty]
        self._n_cells += len(places)
        self._add_places(places)
        self._add_rows(xml)
        self._add_texts(xml)
        n_rows, n_columns = self.shape()
        self._limits.check_sheet(n_rows, n_columns)
        if self._n_cells > n_rows * n_columns:
            raise damaged("Excel")

    def shape(self) -> tuple[int, int]:
        """Return the most rows and columns that the sheet may have."""
        n_rows, n_columns = self._last_row, self._last_column
        if self._has_unplaced:
            n_rows = max(n_rows, self._last_number) + self._n_row_ends + 1
            n_columns += self._most_in_row
        return n_rows, n_columns

    def _add_places(self, places: list[tuple[bytes, bytes]]) -> None:
        columns = {letters for letters, _ in places if letters}
        rows = {digits for _, digits in places if digits}
        last_row = max(map(int, rows), default=0)
        self._last_row = max(self._last_row, last_row)
        last_column = max(map(column_number, columns), default=0)
        self._last_column = max(self._last_column, last_column)

    def _add_rows(self, xml: bytes) -> None:
        numbers = _ROW.findall(xml)
        if len(numbers) != len(_OPENED_ROW.findall(xml)):
            raise damaged("Excel")
        last = max((int(number) for number in numbers if number), default=0)
        self._last_number = max(self._last_number, last)
        rows = _ROW_END.split(xml)
        self._n_row_ends += len(rows) - 1
        if self._has_unplaced:
            first, *others = (len(_OPENED.findall(row)) for row in rows)
            first += self._n_in_row
            self._n_in_row = others[-1] if others else first
            self._most_in_row = max(self._most_in_row, first, *others)

    def _add_texts(self, xml: bytes) -> None:
        found: Any = [int(index) for index in _SHARED.findall(xml)]
        n_unclear = len(_SHARED_TYPE.findall(xml)) - len(found)
        indices = np.minimum(np.array(found, np.int64), len(self._lengths) - 1)
        self.n_text_bytes += int(self._lengths[indices].sum())
        self.n_text_bytes += max(0, n_unclear) * self._longest


def column_number(letters: bytes) -> int:
    """Return the number of a column, from 1 on: 1 of A, 28 of AB."""
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - ord("A") + 1
    return number


def column_letters(number: int) -> str:
    """Return the letters of a column by its number from 1 on."""
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
