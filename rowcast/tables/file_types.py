"""What a file is by its first bytes, and the error for each kind that is not supported."""

from __future__ import annotations

import re
from typing import Literal

from rowcast.errors import InvalidTable

Kind = Literal[
    "parquet", "arrow file", "arrow stream", "zip", "gzip", "zstd", "jsonl", "csv"
]

HEAD_BYTES = 65_536
SAVE_AS = (
    "Save the table as Parquet (pandas: df.to_parquet) or as CSV, upload it and submit "
    "the new id."
)
WRITE_WITHOUT_ENCRYPTION = (
    "Write the file without encryption, upload it again and submit the new id."
)
SAVE_AS_XLSX = (
    "Save the sheet as an Excel workbook (.xlsx), CSV or Parquet, and upload that file."
)
UNPACK = (
    "Unpack it and upload the table that it contains. CSV and JSON Lines may be compressed "
    "as .gz or .zst."
)
_CONVERT = (
    "Read it with the library that wrote it and save the table as Parquet (pandas: "
    "df.to_parquet)."
)
_JSON_LINES = (
    "Write one object per line (JSON Lines), for example with pandas: "
    "df.to_json('table.jsonl', orient='records', lines=True)."
)

# A file that begins with none of these is read as text.
_SIGNATURES: tuple[tuple[bytes, Kind], ...] = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow file"),
    (b"\xff\xff\xff\xff", "arrow stream"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)

# The first pattern that matches the beginning decides.
_UNSUPPORTED: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (
        re.compile(rb"PARE"),
        "an encrypted Parquet file, which cannot be read",
        WRITE_WITHOUT_ENCRYPTION,
    ),
    (
        re.compile(rb"FEA1"),
        "a Feather file of version 1, which is not supported",
        "Write it with Feather version 2 or as Parquet.",
    ),
    (re.compile(rb"ORC"), "an ORC file, which is not supported", _CONVERT),
    (re.compile(rb"Obj\x01"), "an Avro file, which is not supported", _CONVERT),
    (
        re.compile(rb"\x89HDF\r\n\x1a\n"),
        "an HDF5 file, which is not supported",
        _CONVERT,
    ),
    (
        re.compile(rb"SQLite format 3\0"),
        "an SQLite database, which is not supported",
        _CONVERT,
    ),
    (re.compile(rb"\x93NUMPY"), "a NumPy array, which is not supported", _CONVERT),
    (re.compile(rb"\x80[\x02-\x05]"), "a pickle, which is never opened", _CONVERT),
    (
        re.compile(rb"PK\x05\x06"),
        "a zip archive without files, which is not supported",
        UNPACK,
    ),
    (
        re.compile(
            rb"(?s)\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1.*"
            rb"E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e\0"
        ),
        "an Excel workbook with a password, which cannot be read",
        "Save the workbook without a password, upload it and submit the new id.",
    ),
    (
        re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        "an old (.xls) or protected Excel workbook, which is not supported",
        SAVE_AS_XLSX,
    ),
    (
        re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"),
        "compressed with bzip2, which is not supported",
        UNPACK,
    ),
    (re.compile(rb"\xfd7zXZ\0"), "compressed with xz, which is not supported", UNPACK),
    (
        re.compile(rb"\x04\x22\x4d\x18"),
        "compressed with lz4, which is not supported",
        UNPACK,
    ),
    (
        re.compile(rb"7z\xbc\xaf\x27\x1c"),
        "a 7z archive, which is not supported",
        UNPACK,
    ),
    (re.compile(rb"Rar!\x1a\x07"), "a RAR archive, which is not supported", UNPACK),
    (re.compile(rb"(?s).{257}ustar"), "a tar archive, which is not supported", UNPACK),
    (re.compile(rb"%PDF-"), "a PDF document, which is not a table", SAVE_AS),
    (re.compile(rb"\{\\rtf"), "a text document (RTF), which is not a table", SAVE_AS),
    (
        re.compile(rb"version https://git-lfs"),
        "a Git LFS pointer, not the table itself",
        "Fetch the file with 'git lfs pull' and upload it again.",
    ),
    (
        re.compile(rb"(?i)\s*<(!doctype|html|\?xml)"),
        "a web page or an XML document, which is not a table",
        "Open the file in a text editor: a download may have failed. Upload the table itself.",
    ),
    (
        re.compile(rb"\s*\[\s*([\[{\"\]]|-?\d|(null|true|false)\b)"),
        "a JSON array, which is not supported",
        _JSON_LINES,
    ),
)

_OBJECT = re.compile(rb"\s*\{\s*([\"}]|$)")

# The header of a CSV file may begin with the same letters.
_WORDS = (b"PAR1", b"PARE", b"FEA1", b"ORC", b"ARROW1")
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1a"))
_MAX_CONTROL_SHARE = 0.05


def kind_of(head: bytes) -> Kind:
    """Return what a file is whose first 64 KiB, or whose whole content, is `head`.

    Raises:
        InvalidTable: the file is empty or of a kind that is not supported.
    """
    if not head:
        raise InvalidTable("The table is an empty file.")
    if not (head.startswith(_WORDS) and _is_words(head)):
        for signature, kind in _SIGNATURES:
            if head.startswith(signature):
                return kind
        _reject_unsupported(head)
    return kind_of_text(head)


def kind_of_text(head: bytes) -> Literal["jsonl", "csv"]:
    """Return what a text in UTF-8 is that begins with `head`, without its byte order mark."""
    return "jsonl" if _OBJECT.match(head) else "csv"


def check_text(head: bytes) -> None:
    """Check what a compressed file, or a byte order mark, is followed by: a table in text.

    Raises:
        InvalidTable: it is of any kind but CSV and JSON Lines.
    """
    kind = kind_of(head)
    if kind in ("gzip", "zstd"):
        raise InvalidTable(
            "The file is compressed twice.",
            hint="Decompress it once, upload it and submit the new id.",
        )
    if kind == "zip":
        raise unsupported("a compressed zip archive or Excel workbook", UNPACK)
    if kind not in ("csv", "jsonl"):
        name = "Parquet" if kind == "parquet" else "Arrow"
        raise InvalidTable(
            f"The file is a compressed {name} file, and {name} compresses its columns itself.",
            hint=f"Decompress it and upload the {name} file itself.",
        )


def reject_binary(text: bytes) -> None:
    """Reject bytes that no text contains: NUL, or over 5 % control characters.

    Raises:
        InvalidTable: the bytes are not text.
    """
    n_control = len(text) - len(text.translate(None, _CONTROL))
    if b"\0" in text or n_control > _MAX_CONTROL_SHARE * len(text):
        raise not_a_table()


def unsupported(what: str, hint: str = SAVE_AS_XLSX) -> InvalidTable:
    """Return the error for a file of a known kind that is not supported."""
    return InvalidTable(f"The file is {what}, which is not supported.", hint=hint)


def not_a_table() -> InvalidTable:
    """Return the error for a file of an unknown kind."""
    return InvalidTable(
        "The file is not a table: it is neither Parquet, Arrow nor Excel, and not text either.",
        hint=SAVE_AS,
    )


def _is_words(head: bytes) -> bool:
    # A file of so few bytes was cut off; in a longer one, a signature is followed by binary data.
    return len(head) > 12 and head[:64].translate(None, _CONTROL) == head[:64]


def _reject_unsupported(head: bytes) -> None:
    for pattern, what, hint in _UNSUPPORTED:
        if pattern.match(head):
            raise InvalidTable(f"The file is {what}.", hint=hint)
