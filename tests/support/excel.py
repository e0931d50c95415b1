"""Excel workbooks: as people write them, and as attackers do."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from openpyxl import Workbook

_TYPES = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_RELATION = '<Relationship Id="{0}" Type="' + _TYPES + '/{1}" Target="{2}"/>'


def workbook(
    rows: Iterable[Sequence[Any]], change: Callable[[Workbook], object] | None = None
) -> bytes:
    """Return a workbook with these rows in its first sheet, which `change` may change."""
    book = Workbook()
    for row in rows:
        book.active.append(list(row))
    if change:
        change(book)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def excel(table: pa.Table) -> bytes:
    """Return a workbook with a table."""
    return workbook(
        [table.column_names, *zip(*table.to_pydict().values(), strict=True)]
    )


def crafted(
    rows: bytes,
    texts: bytes = b"<sst></sst>",
    compression: int = zipfile.ZIP_DEFLATED,
    main: str = "workbook.xml",
    others: Mapping[str, bytes] = MappingProxyType({}),
) -> bytes:
    """Return a workbook with this XML as the rows of its only sheet."""
    parts = {
        "_rels/.rels": relations_of(("a", "officeDocument", f"xl/{main}")),
        f"xl/_rels/{main}.rels": relations_of(
            ("a", "worksheet", "worksheets/sheet1.xml"),
            ("b", "sharedStrings", "sharedStrings.xml"),
        ),
        f"xl/{main}": b'<workbook><sheets><sheet name="one" r:id="a"/></sheets></workbook>',
        "xl/sharedStrings.xml": texts,
        "xl/worksheets/sheet1.xml": b"<worksheet><sheetData>%b</sheetData></worksheet>"
        % rows,
        **others,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression, compresslevel=1) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def relations_of(*found: tuple[str, str, str]) -> bytes:
    """Return the XML of relations: ids, kinds and parts."""
    listed = "".join(_RELATION.format(*each) for each in found)
    return f"<Relationships>{listed}</Relationships>".encode()
