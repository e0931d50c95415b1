"""Everything durable: objects, publications, records, manifests and signatures."""

from rowcast.store.answers import ObjectMissing, Version
from rowcast.store.object_store import ONE_OBJECT_WAIT_S, Bucket, Storage
from rowcast.store.publications import BUCKETS, JobRef, Kind, Publication

__all__ = [
    "BUCKETS",
    "ONE_OBJECT_WAIT_S",
    "Bucket",
    "JobRef",
    "Kind",
    "ObjectMissing",
    "Publication",
    "Storage",
    "Version",
    "datasets",
    "deduplication",
    "documents",
    "invalidation",
    "key_copy",
    "loading",
    "manifests",
    "patience",
    "publications",
    "records",
    "signing",
    "versions",
]
