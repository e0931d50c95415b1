"""Everything durable: objects, publications, records, manifests and signatures."""

from rowcast.store.object_store import Bucket, ObjectMissing, Storage, Version
from rowcast.store.publications import Kind, Publication

__all__ = [
    "Bucket",
    "Kind",
    "ObjectMissing",
    "Publication",
    "Storage",
    "Version",
    "deduplication",
    "invalidation",
    "loading",
    "manifests",
    "object_store",
    "publications",
    "signing",
    "versions",
]
