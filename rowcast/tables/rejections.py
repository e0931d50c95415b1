"""The errors for damaged files and for tables with several problems.

Messages of Arrow and of other parsers quote cells, so none of them is passed on.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence

import pyarrow as pa

from rowcast.errors import InvalidTable

MAX_LISTED = 100
WRITE_AGAIN = "Write the file again, upload it and submit the new id."
# Arrow's own errors, and those that Python raises for broken names and numbers.
_ERRORS = (
    pa.ArrowException,
    OSError,
    ValueError,
    OverflowError,
    MemoryError,
    struct.error,
)


@contextlib.contextmanager
def rejecting_damage(name: str) -> Iterator[None]:
    """Replace Arrow's errors by one that names the format and quotes no cell."""
    try:
        yield
    except _ERRORS:
        raise damaged(name) from None


def damaged(name: str) -> InvalidTable:
    """Return the error for a damaged file of the format `name`."""
    detail = f"The {name} file is damaged and cannot be read."
    return InvalidTable(detail, hint=WRITE_AGAIN)


def truncated(name: str) -> InvalidTable:
    """Return the error for a file of the format `name` that lacks its end."""
    return InvalidTable(
        f"The {name} file is truncated: its end is missing.",
        hint="The upload may have been cut off. Upload the whole file again and submit the new id.",
    )


def reject(problems: Sequence[str], hint: str) -> None:
    """Reject a table with these problems; the first one is the error's detail.

    Raises:
        InvalidTable: there is a problem.
    """
    if problems:
        count = f" ({len(problems)} problems)" if len(problems) > 1 else ""
        listed = problems[:MAX_LISTED]
        raise InvalidTable(problems[0] + count, hint=hint, errors=listed)
