"""What lies under a dataset's id: its bytes, `data`, their digest, and the tombstone of a deletion.

The URL of an upload outlives a deletion, so a late PUT may write `data` again. The tombstone hides
it, and maintenance removes it.

The first job that reads all bytes writes the empty object `sha256-<digest>`. From then on the bytes
are fixed: later jobs refuse others. The digest is in the name, so one listing tells everything.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rowcast.errors import DatasetDamaged
from rowcast.store.answers import ObjectMissing
from rowcast.store.object_store import Storage
from rowcast.store.publications import TOMBSTONE

DATA = "data"
_DIGEST_NAME = re.compile(r"sha256-([0-9a-f]{64})")


class Upload(NamedTuple):
    """An upload: its size in bytes, its Unix seconds if known, and the digest if a job noted it."""

    size: int
    uploaded_at: float | None
    sha256: str | None


def uploaded(storage: Storage, owner: str, dataset_id: str) -> Upload:
    """Return what is known of an upload, by one request.

    Raises:
        ObjectMissing: nothing was uploaded, or the dataset was deleted.
        StoreUnavailable: the store does not answer.
    """
    listed = storage.listed("datasets", owner, dataset_id)
    if TOMBSTONE in listed or DATA not in listed:
        raise ObjectMissing(dataset_id)
    digests = [match[1] for match in map(_DIGEST_NAME.fullmatch, listed) if match]
    # There are several only if different bytes were read at the same time; then none is certain.
    sha256 = digests[0] if len(digests) == 1 else None
    return Upload(*listed[DATA], sha256)


def note(storage: Storage, owner: str, dataset_id: str, sha256: str) -> None:
    """Fix the bytes of a dataset. Raises StoreUnavailable."""
    storage.write("datasets", owner, dataset_id, f"sha256-{sha256}", b"")


def check(dataset_id: str, sha256: str, expected: str | None) -> None:
    """Compare the digest of a dataset's bytes with the noted one, None: not noted.

    Raises:
        DatasetDamaged: they differ.
    """
    if expected not in (None, sha256):
        raise DatasetDamaged(
            f"The bytes of dataset {dataset_id} are not those that its first job read."
        )
