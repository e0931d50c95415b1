"""Excel workbooks: the sheets of a file that is not trusted, and a copy of one of them that is.

A workbook is a zip of XML. The copy has one sheet and what its cells refer to: the shared texts and
the formats of numbers. Its sizes are counted, not believed, so calamine, which reads a sheet whole,
takes memory within the limits.
"""

from __future__ import annotations

import contextlib
import io
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.parsers import expat

from rowcast.errors import InvalidTable
from rowcast.tables import file_types, sheet_xml
from rowcast.tables.files import Read
from rowcast.tables.limits import Limits, over
from rowcast.tables.rejections import WRITE_AGAIN, damaged, truncated
from rowcast.tables.sheet_xml import Extent, Texts, whole_tags

# A workbook has some dozens of parts; its directory has 46 bytes and a name for each.
_DIRECTORY_BYTES = 1 << 20
_SMALL_PART_BYTES = 4 << 20
# Formats that were copied from workbook to workbook take megabytes.
_STYLES_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
# What a look reads of a sheet and of the shared texts, and how much of the file by one request.
_SHOWN_SHEET_BYTES = (1 << 20, 1 << 16, 1 << 12)
_SHOWN_TEXT_BYTES = 16 << 20
_REQUEST_BYTES = 1 << 18
_MAX_LISTED_SHEETS = 20
_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    expat.ExpatError,
    EOFError,
    KeyError,
    NotImplementedError,
    ValueError,
)

_TYPES = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    f'<Relationship Id="a" Type="{_TYPES}/{{}}" Target="{{}}"/></Relationships>'
)
_WORKBOOK = (
    f'<workbook xmlns:r="{_TYPES}"><workbookPr date1904="{{}}"/>'
    '<sheets><sheet name="table" sheetId="1" r:id="a"/></sheets></workbook>'
)
_STYLES = "xl/styles.xml"
_TEXTS = "xl/sharedStrings.xml"
_SHEET = "xl/worksheets/sheet1.xml"


@dataclass(frozen=True)
class Sheet:
    """A sheet of a workbook, and where its XML is; the kind of a table is `worksheet`."""

    name: str
    kind: str
    part: str
    is_visible: bool


class Workbook:
    """An Excel workbook in a file.

    Raises:
        InvalidTable: the file is another zip, damaged or encrypted.
    """

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        self._limits = limits
        self._zip = _archive(file)
        self._parts = {_key(part.filename): part for part in self._zip.infolist()}
        with _rejecting_damage():
            main = self._main_part()
            elements = _elements(self._small(main))
            related = self._related(main)
            self.sheets = [
                _sheet(members, related)
                for name, members in elements
                if name == "sheet"
            ]
        self._uses_1904 = any(
            name == "workbookPr" and members.get("date1904") in ("1", "true")
            for name, members in elements
        )
        others = dict(related.values())
        self._texts = others.get("sharedStrings")
        self._styles = others.get("styles")

    def sheet(self, asked: str | None) -> Sheet:
        """Return the sheet of this name or number, from 1 on, or the first visible table.

        Raises:
            InvalidTable: there is none; names those that there are.
        """
        if asked is None:
            return self._first()
        found = next((sheet for sheet in self.sheets if sheet.name == asked), None)
        number = int(asked) if re.fullmatch("[0-9]{1,9}", asked) else 0
        if found is None and 1 <= number <= len(self.sheets):
            found = self.sheets[number - 1]
        if found is None:
            raise self._without(f"has no sheet {asked!r}")
        if found.kind != "worksheet":
            raise self._without(f"has no table in {found.name!r}, which is a chart")
        return found

    def copy(self, sheet: Sheet, target: Path) -> None:
        """Write a workbook with this sheet alone.

        Raises:
            InvalidTable: the sheet is damaged or over a limit.
        """
        count = _Count(self._limits)
        texts = Texts(self._limits)
        with _rejecting_damage(), _copy(target, uses_1904=self._uses_1904) as copy:
            if self._styles:
                _write(copy, _STYLES, count.of(self._part(self._styles)))
            if self._texts:
                xml = count.of(self._tags(self._texts))
                _write(copy, _TEXTS, sheet_xml.without_count(_seen(texts, xml)))
            extent = Extent(self._limits, texts.lengths())
            xml = count.of(_seen(extent, self._tags(sheet.part)), extent)
            _write(copy, _SHEET, map(sheet_xml.errors_as_text, xml))

    def copy_start(self, sheet: Sheet, target: IO[bytes]) -> float:
        """Write a workbook with the first rows of a sheet, and return their share of its XML.

        Raises:
            InvalidTable: the sheet is damaged or over a limit, or its first row is too long.
        """
        texts = Texts(self._limits)
        with _rejecting_damage(), _copy(target, uses_1904=self._uses_1904) as copy:
            if self._styles:
                styles = self._small(self._styles, _STYLES_BYTES)
                _write(copy, _STYLES, [styles])
            if self._texts:
                shared = self._start(self._texts, _SHOWN_TEXT_BYTES)
                shared = sheet_xml.with_empty_text(shared)
                _write(copy, _TEXTS, sheet_xml.without_count(_seen(texts, [shared])))
            xml = self._rows_of_few_texts(sheet.part, texts)
            shown = sheet_xml.with_known_texts(xml, texts.n_texts)
            _write(copy, _SHEET, [sheet_xml.errors_as_text(shown)])
            return min(1.0, len(xml) / max(1, self._info(sheet.part).file_size))

    def _rows_of_few_texts(self, part: str, texts: Texts) -> bytes:
        """Return the first rows of a sheet whose texts take little memory in all their cells.

        Raises:
            InvalidTable: the sheet is damaged or over a limit, or its first texts are too long.
        """
        lengths = texts.lengths()
        for n_bytes in _SHOWN_SHEET_BYTES:
            extent = Extent(self._limits, lengths)
            xml = self._start(part, n_bytes)
            extent.add(xml)
            if extent.n_text_bytes <= _SHOWN_TEXT_BYTES:
                return xml
        raise over("A text is too long", self._limits.max_cell_bytes, "MAX_CELL_BYTES")

    def _main_part(self) -> str:
        """Return the part that names the sheets.

        Raises:
            InvalidTable: the zip is something else.
        """
        if "_rels/.rels" not in self._parts:
            raise self._another_zip()
        main = dict(self._related("").values()).get("officeDocument", "")
        if main.endswith("workbook.bin"):
            raise file_types.unsupported("a binary Excel workbook (.xlsb)")
        if not posixpath.basename(main).startswith("workbook"):
            raise file_types.unsupported("an Office document without sheets")
        return main

    def _another_zip(self) -> InvalidTable:
        if "mimetype" in self._parts and "content.xml" in self._parts:
            return file_types.unsupported("an OpenDocument file")
        return file_types.unsupported("a zip archive", file_types.UNPACK)

    def _related(self, part: str) -> dict[str, tuple[str, str]]:
        """Return what a part refers to, by the ids that it uses: kinds and parts."""
        folder, name = posixpath.split(part)
        content = self._small(posixpath.join(folder, "_rels", f"{name}.rels"))
        return {
            members["Id"]: (
                posixpath.basename(members["Type"]),
                posixpath.join(folder, members["Target"]),
            )
            for element, members in _elements(content)
            if element == "Relationship"
        }

    def _first(self) -> Sheet:
        tables = [sheet for sheet in self.sheets if sheet.kind == "worksheet"]
        if not tables:
            raise self._without("has no sheet with a table")
        return next((sheet for sheet in tables if sheet.is_visible), tables[0])

    def _without(self, what: str) -> InvalidTable:
        names = [repr(sheet.name) for sheet in self.sheets]
        listed = ", ".join(names[:_MAX_LISTED_SHEETS])
        n_more = len(names) - _MAX_LISTED_SHEETS
        more = f" and {n_more} more" if n_more > 0 else ""
        return InvalidTable(
            f"The workbook {what}; its sheets are {listed}{more}.",
            hint="Name a sheet with a table as 'sheet', or its number, counted from 1.",
        )

    def _info(self, name: str) -> zipfile.ZipInfo:
        return self._parts[_key(name)]

    def _part(self, name: str) -> Iterator[bytes]:
        """Yield the content of a part, unpacked."""
        info = self._info(name)
        if info.flag_bits & 1:
            raise file_types.unsupported("an encrypted zip archive", file_types.UNPACK)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise damaged("Excel")
        try:
            with self._zip.open(info) as part:
                while chunk := part.read(_CHUNK_BYTES):
                    yield chunk
        except OSError:
            # The directory names a place outside of the file.
            raise damaged("Excel") from None

    def _tags(self, name: str) -> Iterator[bytes]:
        return whole_tags(self._part(name), self._limits.max_row_bytes)

    def _small(self, name: str, n_bytes: int = _SMALL_PART_BYTES) -> bytes:
        content = b""
        for chunk in self._part(name):
            content += chunk
            if len(content) > n_bytes:
                raise damaged("Excel")
        return content

    def _start(self, name: str, n_bytes: int) -> bytes:
        """Return the beginning of a part, without what is cut off."""
        content = b""
        for chunk in self._part(name):
            content += chunk
            if len(content) > n_bytes:
                content = sheet_xml.closed(content[:n_bytes])
                break
        if b"\0" in content:
            raise damaged("Excel")
        return content


class _Count:
    """Counts the bytes that calamine reads or makes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._n_bytes = 0

    def of(
        self, chunks: Iterable[bytes], extent: Extent | None = None
    ) -> Iterator[bytes]:
        """Yield the chunks, as long as they and the texts of the cells are within the limit."""
        for chunk in chunks:
            self._n_bytes += len(chunk)
            n_text_bytes = extent.n_text_bytes if extent else 0
            self._limits.check_workbook(self._n_bytes + n_text_bytes)
            yield chunk


class _File(io.BufferedReader):
    """A file of which no long part is read by one call, whatever its directory says."""

    def read(self, n_bytes: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        if n_bytes is not None and n_bytes > _DIRECTORY_BYTES:
            raise zipfile.BadZipFile
        return super().read(n_bytes)


class _Parts(io.RawIOBase):
    """An object of `size` bytes of which `read(offset, length)` returns a part."""

    def __init__(self, size: int, read: Read) -> None:
        super().__init__()
        self._size = size
        self._read = read
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        origins = (0, self._place, self._size)
        self._place = max(0, origins[whence] + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        length = min(len(buffer), self._size - self._place)
        if length <= 0:
            return 0
        content = self._read(self._place, length)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


@contextlib.contextmanager
def opened(path: Path, limits: Limits) -> Iterator[Workbook]:
    """Open the workbook in a file; raises as `Workbook`."""
    with _File(io.FileIO(path)) as file:
        yield Workbook(file, limits)


def of_parts(size: int, read: Read, limits: Limits) -> Workbook:
    """Return the workbook in an object whose parts `read` returns; raises as `Workbook`."""
    return Workbook(_File(_Parts(size, read), _REQUEST_BYTES), limits)


@contextlib.contextmanager
def _rejecting_damage() -> Iterator[None]:
    try:
        yield
    except _ERRORS:
        raise damaged("Excel") from None


def _archive(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (*_ERRORS, OSError):
        raise truncated("zip or Excel") from None


def _key(name: str) -> str:
    """Return a part's name in the form in which names are compared."""
    return posixpath.normpath(name.replace("\\", "/")).lstrip("/").lower()


def _sheet(members: dict[str, str], related: dict[str, tuple[str, str]]) -> Sheet:
    ids = [value for name, value in members.items() if name.endswith(":id")]
    kind, part = related[ids[0]] if ids else ("", "")
    is_visible = members.get("state", "visible") == "visible"
    return Sheet(members["name"], kind, part, is_visible)


def _elements(content: bytes) -> list[tuple[str, dict[str, str]]]:
    """Return the names, without prefixes, and the members of all elements of a small part."""
    found: list[tuple[str, dict[str, str]]] = []

    def add(name: str, members: dict[str, str]) -> None:
        found.append((name.rpartition(":")[2], members))

    parser = expat.ParserCreate()
    parser.StartElementHandler = add
    parser.StartDoctypeDeclHandler = _reject_doctype
    parser.Parse(content, True)
    return found


def _reject_doctype(*_: object) -> None:
    raise InvalidTable(
        "The Excel file defines entities of XML, which no workbook needs.",
        hint=WRITE_AGAIN,
    )


@contextlib.contextmanager
def _copy(target: Path | IO[bytes], *, uses_1904: bool) -> Iterator[zipfile.ZipFile]:
    """Open a new workbook, which lacks only its sheet and what that refers to."""
    related = {
        "_rels/.rels": ("officeDocument", "xl/workbook.xml"),
        "xl/_rels/workbook.xml.rels": ("worksheet", "worksheets/sheet1.xml"),
    }
    with zipfile.ZipFile(target, "w") as copy:
        for name, (kind, part) in related.items():
            copy.writestr(name, _RELATIONS.format(kind, part))
        copy.writestr("xl/workbook.xml", _WORKBOOK.format(int(uses_1904)))
        yield copy


def _write(copy: zipfile.ZipFile, name: str, chunks: Iterable[bytes]) -> None:
    with copy.open(name, "w", force_zip64=True) as part:
        for chunk in chunks:
            part.write(chunk)


def _seen(counter: Texts | Extent, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks, each after it was counted."""
    for chunk in chunks:
        counter.add(chunk)
        yield chunk
