"""What a file is by its first bytes; the kinds that are not taken, each with what to do instead."""

from __future__ import annotations

import re
from typing import Literal

from rowcast.errors import InvalidTable

Kind = Literal["parquet", "arrow file", "arrow stream", "gzip", "zstd", "jsonl", "csv"]

HEAD_BYTES = 65_536
SAVE_AS = (
    "Save the table as Parquet (pandas: df.to_parquet) or as CSV, upload it and submit "
    "the new id."
)
_EXCEL = (
    "Save the sheet as CSV, or convert the workbook with pandas: "
    "pandas.read_excel('table.xlsx').to_parquet('table.parquet'); upload that file."
)
_UNPACK = (
    "Unpack it and upload the table that lies in it; CSV and JSON Lines may be packed as "
    ".gz or .zst."
)
_CONVERT = (
    "Read it with the library that wrote it and save the table as Parquet (pandas: "
    "df.to_parquet)."
)
_JSON_LINES = (
    "Write one object a line (JSON Lines), for example with pandas: "
    "df.to_json('table.jsonl', orient='records', lines=True)."
)
_DECRYPT = "Write the file without encryption, upload it again and submit the new id."

# What begins a file that is taken, before it is read as text.
_TAKEN: tuple[tuple[bytes, Kind], ...] = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow file"),
    (b"\xff\xff\xff\xff", "arrow stream"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)

# The first pattern that matches the beginning decides.
_REFUSED: tuple[tuple[bytes, str, str], ...] = (
    (rb"PARE", "an encrypted Parquet file, which cannot be read", _DECRYPT),
    (
        rb"FEA1",
        "a Feather file of version 1, which is not taken",
        "Write it with Feather version 2 or as Parquet.",
    ),
    (rb"ORC", "an ORC file, which is not taken", _CONVERT),
    (rb"Obj\x01", "an Avro file, which is not taken", _CONVERT),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file, which is not taken", _CONVERT),
    (rb"SQLite format 3\0", "an SQLite database, which is not taken", _CONVERT),
    (rb"\x93NUMPY", "a NumPy array, which is not taken", _CONVERT),
    (rb"\x80[\x02-\x05]", "a pickle, which is never opened", _CONVERT),
    (
        rb"(?s)PK\x03\x04.*xl/",
        "an Excel workbook (.xlsx), and Excel is not taken",
        _EXCEL,
    ),
    (
        rb"(?s)PK\x03\x04.{0,200}application/vnd\.oasis\.opendocument\.spreadsheet",
        "an OpenDocument spreadsheet, which is not taken",
        "Save the sheet as CSV and upload that file.",
    ),
    (
        rb"(?s)PK\x03\x04.*(\[Content_Types\]\.xml|docProps/)",
        "an Office document, perhaps Excel, which is not taken",
        _EXCEL,
    ),
    (rb"PK\x03\x04|PK\x05\x06", "a zip archive, which is not taken", _UNPACK),
    (
        rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Excel workbook of the old kind (.xls) or a protected one, and Excel is not taken",
        _EXCEL,
    ),
    (
        rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)",
        "packed with bzip2, which is not taken",
        _UNPACK,
    ),
    (rb"\xfd7zXZ\0", "packed with xz, which is not taken", _UNPACK),
    (rb"\x04\x22\x4d\x18", "packed with lz4, which is not taken", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive, which is not taken", _UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive, which is not taken", _UNPACK),
    (rb"(?s).{257}ustar", "a tar archive, which is not taken", _UNPACK),
    (rb"%PDF-", "a PDF document, which is not a table", SAVE_AS),
    (rb"\{\\rtf", "a text document (RTF), which is not a table", SAVE_AS),
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS, not the table itself",
        "Fetch the file with 'git lfs pull' and upload it again.",
    ),
    (
        rb"(?i)\s*<(!doctype|html|\?xml)",
        "a web page or an XML document, which is not a table",
        "Look at the file in a text editor: a download may have failed. Upload the table itself.",
    ),
    (
        rb"\s*\[\s*([\[{\"\]]|-?\d|(null|true|false)\b)",
        "a JSON array, which is not taken",
        _JSON_LINES,
    ),
)

# These begin with letters that may also begin the header of a CSV file.
_WORDS = (b"PAR1", b"PARE", b"FEA1", b"ORC", b"ARROW1")


def kind_of(head: bytes) -> Kind:
    """Return what a file is whose first 64 KiB, or all of it, are `head`.

    Raises:
        InvalidTable: the file is empty or of a kind that is not taken.
    """
    if not head:
        raise InvalidTable("The table is an empty file.")
    if not (head.startswith(_WORDS) and _reads_as_text(head)):
        for start, kind in _TAKEN:
            if head.startswith(start):
                return kind
        _refuse(head)
    return kind_of_text(head)


def kind_of_text(head: bytes) -> Literal["jsonl", "csv"]:
    """Return what the beginning of a text in UTF-8, without a byte order mark, is."""
    return "jsonl" if re.match(rb"\s*\{\s*([\"}]|$)", head) else "csv"


def refuse_text(head: bytes) -> None:
    """Refuse what lies in a packed file, or behind a byte order mark, and is no table in text.

    Raises:
        InvalidTable: it is of any kind but CSV and JSON Lines.
    """
    kind = kind_of(head)
    if kind in ("gzip", "zstd"):
        raise InvalidTable(
            "The file is packed twice.",
            hint="Unpack it once, upload it and submit the new id.",
        )
    if kind not in ("csv", "jsonl"):
        name = "Parquet" if kind == "parquet" else "Arrow"
        raise InvalidTable(
            f"The file is packed, and the table in it is {name}, which packs its columns itself.",
            hint=f"Unpack it and upload the {name} file itself.",
        )


def refuse_binary(text: bytes) -> None:
    """Refuse bytes that no table in text holds: NUL, or many control characters.

    Raises:
        InvalidTable: the bytes are no text.
    """
    n_control = len(text) - len(text.translate(None, _CONTROL))
    if b"\0" in text or n_control > 0.05 * len(text):
        raise InvalidTable(
            "The file is not a table: it is neither Parquet nor Arrow, and not text either.",
            hint=SAVE_AS,
        )


_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1a"))


def _reads_as_text(head: bytes) -> bool:
    # So few bytes are a file that was cut off; in a longer one, what follows the mark is binary.
    return len(head) > 12 and head[:64].translate(None, _CONTROL) == head[:64]


def _refuse(head: bytes) -> None:
    for pattern, what, hint in _REFUSED:
        if re.match(pattern, head):
            raise InvalidTable(f"The file is {what}.", hint=hint)
