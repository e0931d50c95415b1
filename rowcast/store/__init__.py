"""Everything durable: objects, publications, records, manifests and signatures."""

from rowcast.store.object_store import Bucket, ObjectMissing, Storage, Version
from rowcast.store.publications import BUCKETS, JobRef, Kind, Publication

__all__ = [
    "BUCKETS",
    "Bucket",
    "JobRef",
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
    "records",
    "signing",
    "versions",
]
