"""What lies under a dataset's id: its bytes, `data`, and the tombstone of a deletion.

The URL of an upload outlives a deletion, so a late PUT may write `data` again. The tombstone hides
it, and maintenance removes it.
"""

from __future__ import annotations

from rowcast.store.answers import ObjectMissing
from rowcast.store.object_store import Listed, Storage
from rowcast.store.publications import TOMBSTONE

DATA = "data"


def uploaded(storage: Storage, owner: str, dataset_id: str) -> Listed:
    """Return the size and the time of an upload, by one request.

    Raises:
        ObjectMissing: nothing was uploaded, or the dataset was deleted.
        StoreUnavailable: the store does not answer.
    """
    listed = storage.listed("datasets", owner, dataset_id)
    if TOMBSTONE in listed or DATA not in listed:
        raise ObjectMissing(dataset_id)
    return listed[DATA]
