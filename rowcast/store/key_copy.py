"""A copy of all API keys in the object store, because Redis may be lost for good.

It is one object beside the models, which only the service writes, outside of any owner's folder. It
holds digests, never a key.
"""

from __future__ import annotations

import json

from rowcast.access import KeyStore
from rowcast.errors import StoreUnavailable
from rowcast.store.answers import ObjectMissing
from rowcast.store.object_store import Bucket, Storage

BUCKET: Bucket = "models"
NAME = "api-keys.json"


def save(storage: Storage, keys: KeyStore, known: bytes | None) -> bytes | None:
    """Write the copy if a key has changed since the version `known`; return the present one.

    Raises:
        StoreUnavailable, redis.RedisError: the store or Redis does not answer.
    """
    if not keys.state().is_restored:
        # A Redis that was lost must not replace the copy.
        restore(storage, keys)
    if keys.state().version == known:
        return known

    state, records = keys.records()
    if records:
        storage.write_key(BUCKET, NAME, json.dumps({"keys": records}).encode())
    return state.version


def restore(storage: Storage, keys: KeyStore) -> None:
    """Give Redis the keys of the copy, if there is one.

    Raises:
        StoreUnavailable, redis.RedisError: the copy is damaged, or the store or Redis does not
            answer.
    """
    try:
        records = json.loads(storage.read_key(BUCKET, NAME))["keys"]
    except ObjectMissing:
        records = {}
    except (ValueError, TypeError, KeyError) as error:
        raise StoreUnavailable(
            f"The copy of the API keys, {NAME} in the bucket of models, is damaged.",
            hint="Restore the object from a backup, or remove it to begin without keys.",
        ) from error
    keys.put_back(records)
