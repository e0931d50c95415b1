"""How a damaged Parquet or Arrow file is rejected.

Messages of Arrow quote cells, so none of them is passed on.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

import pyarrow as pa

from rowcast.errors import InvalidTable

# Arrow's errors, and what Python makes of broken names and numbers.
_DAMAGE = (
    pa.ArrowException,
    OSError,
    ValueError,
    OverflowError,
    MemoryError,
    struct.error,
)
WRITE_AGAIN = "Write the file again, upload it and submit the new id."


@contextlib.contextmanager
def refusing_damage(name: str) -> Iterator[None]:
    """Refuse the file where Arrow, whose messages quote cells, fails."""
    try:
        yield
    except _DAMAGE:
        raise damaged(name) from None


def damaged(name: str) -> InvalidTable:
    """Return the error for a file that is damaged."""
    return InvalidTable(
        f"The {name} file cannot be read: it is damaged.", hint=WRITE_AGAIN
    )


def truncated(name: str) -> InvalidTable:
    """Return the error for a file whose end is missing."""
    hint = "The upload may have been cut off: upload the whole file again and submit the new id."
    return InvalidTable(
        f"The {name} file is only a part of one: its end is missing.", hint=hint
    )
