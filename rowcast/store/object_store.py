"""The three buckets: presign, read, write, list, delete.

An object is named by bucket, owner, id and the name below the id's folder (see `ids.folder_of`).
Nothing beyond PUT, GET, HEAD, DELETE, LIST and multipart is asked of the store, so any S3 will do,
and every error of the SDK and of the connection below it becomes one of ours.
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.datatypes import Object
from minio.error import InvalidResponseError, MinioException, S3Error
from urllib3.exceptions import HTTPError

from rowcast.config import Settings
from rowcast.errors import DatasetChanged, StoreUnavailable
from rowcast.ids import folder_of
from rowcast.store import time_index

log = logging.getLogger("rowcast.storage")
Bucket = Literal["datasets", "models", "results"]
T = TypeVar("T")

_ABSENT = frozenset({"NoSuchKey", "NoSuchBucket", "NotFound", "ResourceNotFound"})
_CHUNK_BYTES = 1 << 20


class ObjectMissing(Exception):
    """There is no such object. Callers turn it into the error that names the dataset, model or
    job."""


@dataclass(frozen=True)
class Version:
    """What tells one state of an object from another: its size in bytes, and its ETag with its
    time."""

    size: int
    tag: str


@dataclass(frozen=True)
class Patience:
    """How long a process waits for the store: seconds to connect and to be answered, and tries.

    Of who has something to lose also for how many seconds it asks again, from the beginning,
    however the store has failed: a store that was killed has forgotten the parts of an upload that
    it had.
    """

    connect_s: float
    read_s: float
    tries: int
    outage_s: float = 0


# A request must be answered with 503 within 3 s, so the server asks once. A job can wait.
SERVER = Patience(connect_s=0.8, read_s=1.8, tries=1)
WORKER = Patience(connect_s=3.0, read_s=30.0, tries=8)
# Who keeps the queue true has more to do than to wait for the store, and comes back soon.
MAINTENANCE = Patience(connect_s=0.8, read_s=5.0, tries=1)
_LONGEST_BACKOFF_S = 5.0
_PAUSE_S = 1.0


def patience_of(wait_s: float) -> Patience:
    """Return the patience of who has something to lose, and asks for `wait_s` seconds."""
    return Patience(connect_s=3.0, read_s=30.0, tries=8, outage_s=wait_s)


class Storage:
    """The object store. Connections are pooled; make one per process, after forking."""

    def __init__(
        self, settings: Settings, patience: Patience = SERVER, *, connections: int = 16
    ) -> None:
        """Connect lazily: nothing is sent before the first call."""
        pool = _pool(patience, connections)
        self._client = _client(settings, settings.s3_endpoint, pool)
        # These two only sign. With the region given, signing needs no network.
        self._inside = _client(settings, settings.s3_endpoint, pool)
        self._outside = _client(settings, settings.public_endpoint, pool)
        self._buckets: dict[Bucket, str] = {
            "datasets": settings.datasets_bucket,
            "models": settings.models_bucket,
            "results": settings.results_bucket,
        }
        self._buckets_exist = False
        self._outage_s = patience.outage_s

    def ensure_buckets(self) -> None:
        """Create the buckets that are missing; any number of processes may do so at once.

        Raises:
            StoreUnavailable: the store does not answer or refuses.
        """
        # Without a lock: several threads may look at once, so that none waits for another one's
        # time-out.
        if not self._buckets_exist:
            self.check_buckets()
            self._buckets_exist = True

    def check_buckets(self) -> None:
        """Ask the store for each bucket now, and create the missing ones. Raises as
        `ensure_buckets`."""
        for name in self._buckets.values():
            with _our_errors():
                if not self._client.bucket_exists(name):
                    self._make_bucket(name)

    def _make_bucket(self, name: str) -> None:
        try:
            self._client.make_bucket(name)
        except MinioException as error:
            # Another process was faster, which is all that was wanted.
            if not ({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"} & _codes(error)):
                raise

    def upload_url(
        self, owner: str, dataset_id: str, ttl_s: int, *, internal: bool = False
    ) -> str:
        """Sign a PUT of a dataset's bytes; it lives for `ttl_s` seconds."""
        client = self._inside if internal else self._outside
        key = _key(owner, dataset_id, "data")
        return client.presigned_put_object(
            self._buckets["datasets"], key, timedelta(seconds=ttl_s)
        )

    def download_url(
        self,
        bucket: Bucket,
        owner: str,
        identifier: str,
        name: str,
        ttl_s: int,
        *,
        internal: bool = False,
    ) -> str:
        """Sign a GET of an object; it lives for `ttl_s` seconds."""
        client = self._inside if internal else self._outside
        key = _key(owner, identifier, name)
        return client.presigned_get_object(
            self._buckets[bucket], key, timedelta(seconds=ttl_s)
        )

    def version(
        self, bucket: Bucket, owner: str, identifier: str, name: str
    ) -> Version:
        """Return an object's size and tag.

        Raises:
            ObjectMissing: there is no such object.
            StoreUnavailable: the store does not answer or refuses.
        """
        key = _key(owner, identifier, name)
        found = self._ask(lambda: self._client.stat_object(self._buckets[bucket], key))
        return _version(found.size, found.etag, found.last_modified)

    def uploaded(self, owner: str, dataset_id: str) -> tuple[int, float | None]:
        """Return a dataset's bytes and when they were uploaded, in Unix seconds. Raises as
        `version`."""
        with _our_errors():
            found = self._client.stat_object(
                self._buckets["datasets"], _key(owner, dataset_id, "data")
            )
        return (
            found.size or 0,
            found.last_modified.timestamp() if found.last_modified else None,
        )

    def read(
        self,
        bucket: Bucket,
        owner: str,
        identifier: str,
        name: str,
        *,
        offset: int = 0,
        length: int = 0,
    ) -> bytes:
        """Return an object's bytes, all or `length` bytes from `offset` on. Raises as `version`."""
        with self._opened(
            bucket, _key(owner, identifier, name), offset, length
        ) as response:
            return bytes(response.read())

    def download(
        self,
        bucket: Bucket,
        owner: str,
        identifier: str,
        name: str,
        path: Path,
        *,
        expected: Version | None = None,
        on_progress: Callable[[int, int], None] = lambda *_: None,
    ) -> str:
        """Write an object to `path` and return the SHA-256 of its bytes, in hexadecimal.

        `told` is called with the bytes that are there and those of all, about once a MiB.

        Raises:
            DatasetChanged: the object is not the `expected` version.
            ObjectMissing, StoreUnavailable: as `version`.
        """
        with (
            path.open("wb") as file,
            self._opened(bucket, _key(owner, identifier, name)) as response,
        ):
            found = _version_in(response.headers)
            if expected and found != expected:
                raise DatasetChanged(
                    f"Dataset {identifier} was uploaded again after the job was submitted."
                )
            return _save(response, file, lambda done: on_progress(done, found.size))

    def write(
        self,
        bucket: Bucket,
        owner: str,
        identifier: str,
        name: str,
        content: bytes | Path,
    ) -> None:
        """Write an object; readers see nothing or all of it. Raises StoreUnavailable."""
        if isinstance(content, Path):
            with content.open("rb") as file:
                self._put(
                    bucket, _key(owner, identifier, name), file, content.stat().st_size
                )
        else:
            self._put(
                bucket, _key(owner, identifier, name), io.BytesIO(content), len(content)
            )

    def _put(self, bucket: Bucket, key: str, stream: BinaryIO, n_bytes: int) -> None:
        def put() -> None:
            stream.seek(0)
            self._client.put_object(self._buckets[bucket], key, stream, n_bytes)

        try:
            self._ask(put)
        except ObjectMissing as error:
            raise StoreUnavailable(
                f"The object store has no bucket {self._buckets[bucket]}."
            ) from error

    def names(self, bucket: Bucket, owner: str, identifier: str) -> list[str]:
        """Return the names of all objects of an id; none for an id that was never ours.

        Raises:
            StoreUnavailable: the store does not answer or refuses.
        """
        folder = folder_of(owner, identifier)
        if folder is None:
            return []
        return [
            name.removeprefix(f"{folder}/")
            for name in self._list(bucket, f"{folder}/", recursive=True)
        ]

    def newest(
        self, bucket: Bucket, owner: str, *, before: str | None = None
    ) -> Iterator[str]:
        """Yield the ids under which something lies, newest first, beginning with the next after
        `before`.

        They are listed as they are asked for, never the whole bucket.

        Raises:
            StoreUnavailable: the store does not answer or refuses.
        """
        return time_index.walk(partial(self._folders, bucket), owner, before)

    def owners(self, bucket: Bucket) -> list[str]:
        """Return the owners of whom something lies in a bucket. Raises StoreUnavailable."""
        return [name[:-1] for name in self._list(bucket, "") if name.endswith("/")]

    def days(self, bucket: Bucket, owner: str) -> list[str]:
        """Return the days, `yyyy-mm-dd`, of an owner's ids, the oldest first. Raises
        StoreUnavailable."""
        folders = [
            name.split("/")[1]
            for name in self._list(bucket, f"{owner}/")
            if name.endswith("/")
        ]
        return sorted(filter(time_index.DAY.fullmatch, folders))

    def on_day(
        self, bucket: Bucket, owner: str, day: str
    ) -> dict[str, dict[str, float]]:
        """Return what lies under the ids of a day: for each id the names, with their Unix seconds
        of writing.

        Raises:
            StoreUnavailable: the store does not answer or refuses.
        """
        found: dict[str, dict[str, float]] = {}
        for item in self._objects(bucket, f"{owner}/{day}/"):
            folder, name = _split_key(item.object_name or "")
            identifier = folder.rpartition("/")[2]
            if time_index.ID.fullmatch(identifier) and folder == folder_of(
                owner, identifier
            ):
                written_at = (
                    item.last_modified.timestamp() if item.last_modified else 0.0
                )
                found.setdefault(identifier, {})[name] = written_at
        return found

    def keys(self, bucket: Bucket) -> list[str]:
        """Return the keys of all objects of a bucket, whoever wrote them. Raises
        StoreUnavailable."""
        return [item.object_name or "" for item in self._objects(bucket, "")]

    def is_empty(self, bucket: Bucket) -> bool:
        """Tell whether nothing lies in a bucket, or there is none. Raises StoreUnavailable."""
        return not self._list(bucket, "")

    def copy_out(self, bucket: Bucket, key: str, path: Path) -> tuple[str, Version]:
        """Write the object of a key to `path`; return its SHA-256, in hexadecimal, and version.

        Raises:
            ObjectMissing, StoreUnavailable: as `version`.
        """
        with path.open("wb") as file, self._opened(bucket, key) as response:
            return _save(response, file), _version_in(response.headers)

    def copy_in(self, bucket: Bucket, key: str, path: Path) -> None:
        """Write a file to the object of a key. Raises StoreUnavailable."""
        with path.open("rb") as file:
            self._put(bucket, key, file, path.stat().st_size)

    def _folders(
        self, bucket: Bucket, folder: str, after: str, before: str
    ) -> list[str]:
        """Return the paths of the folders in one that sort after the one and before the other, in
        order."""

        def ask() -> list[str]:
            found = self._client.list_objects(
                self._buckets[bucket], f"{folder}/", start_after=after
            )
            folders = (
                path for item in found if (path := item.object_name or "").endswith("/")
            )
            return [
                path[:-1] for path in takewhile(lambda path: path < before, folders)
            ]

        try:
            return self._ask(ask)
        except ObjectMissing:
            return []

    def _list(
        self, bucket: Bucket, prefix: str, *, recursive: bool = False
    ) -> list[str]:
        """Return the keys below a prefix, or only those of the next level, where folders end in a
        slash."""
        return [
            item.object_name or ""
            for item in self._objects(bucket, prefix, recursive=recursive)
        ]

    def _objects(
        self, bucket: Bucket, prefix: str, *, recursive: bool = True
    ) -> list[Object]:
        """Return what lies below a prefix; nothing where there is no such bucket."""

        def ask() -> list[Object]:
            return list(
                self._client.list_objects(
                    self._buckets[bucket], prefix, recursive=recursive
                )
            )

        try:
            return self._ask(ask)
        except ObjectMissing:
            return []

    def delete(
        self, bucket: Bucket, owner: str, identifier: str, names: Sequence[str]
    ) -> None:
        """Delete objects of an id, one after the other; one that is not there is passed over.

        Raises:
            StoreUnavailable: the store does not answer or refuses; those before are deleted.
        """
        for name in names:
            key = _key(owner, identifier, name)
            with suppress(ObjectMissing):
                self._ask(
                    partial(self._client.remove_object, self._buckets[bucket], key)
                )

    def _ask(self, ask: Callable[[], T]) -> T:
        """Return what the store answers, asked for again through an outage by who is that
        patient."""
        deadline = time.monotonic() + self._outage_s
        while True:
            try:
                with _our_errors():
                    return ask()
            except StoreUnavailable as error:
                if time.monotonic() >= deadline:
                    raise
                log.warning("%s Waiting for it.", error.detail)
            time.sleep(_PAUSE_S)

    @contextmanager
    def _opened(
        self, bucket: Bucket, key: str, offset: int = 0, length: int = 0
    ) -> Iterator[Any]:
        with _our_errors():
            response = self._client.get_object(
                self._buckets[bucket], key, offset, length
            )
            try:
                yield response
            finally:
                response.close()
                response.release_conn()


class _DiskError(Exception):
    """Writing to the local disk failed; kept apart from the errors of the connection to the
    store."""


def _save(
    response: Any, file: BinaryIO, on_progress: Callable[[int], None] = lambda _: None
) -> str:
    """Write an answer to a file and return the SHA-256 of its bytes."""
    digest = hashlib.sha256()
    for chunk in response.stream(_CHUNK_BYTES):
        digest.update(chunk)
        _write_to_disk(file, chunk)
        on_progress(file.tell())
    return digest.hexdigest()


def _split_key(key: str) -> tuple[str, str]:
    """Split the key of an object into the folder of its id and its name there."""
    parts = key.split("/", 4)
    return "/".join(parts[:4]), "".join(parts[4:])


def _write_to_disk(file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise _DiskError(
            f"the scratch folder cannot be written: {error.strerror}"
        ) from error


def _version(
    size: int | None, etag: str | None, changed_at: datetime | None
) -> Version:
    # The time is there for stores that give no tag; HTTP gives it in whole seconds.
    stamp = int(changed_at.timestamp()) if changed_at else 0
    return Version(size or 0, f"{(etag or '').strip(chr(34))}@{stamp}")


def _version_in(headers: Mapping[str, str]) -> Version:
    changed_at = headers.get("last-modified")
    return _version(
        int(headers.get("content-length", 0)),
        headers.get("etag"),
        parsedate_to_datetime(changed_at) if changed_at else None,
    )


def _key(owner: str, identifier: str, name: str) -> str:
    folder = folder_of(owner, identifier)
    if folder is None:
        raise ObjectMissing(identifier)
    return f"{folder}/{name}"


def _pool(patience: Patience, connections: int) -> urllib3.PoolManager:
    retries = urllib3.Retry(
        total=patience.tries - 1,
        backoff_factor=0.3,
        backoff_max=_LONGEST_BACKOFF_S,
        status_forcelist=[500, 502, 503, 504],
        raise_on_status=False,
    )
    timeout = urllib3.Timeout(connect=patience.connect_s, read=patience.read_s)
    return urllib3.PoolManager(
        maxsize=connections,
        timeout=timeout,
        retries=retries,
        cert_reqs="CERT_REQUIRED",
    )


def _client(settings: Settings, endpoint: str, pool: urllib3.PoolManager) -> Minio:
    parts = urlsplit(endpoint)
    return Minio(
        parts.netloc,
        access_key=settings.s3_access_key.get_secret_value(),
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=parts.scheme == "https",
        region=settings.s3_region,
        http_client=pool,
    )


def _codes(error: MinioException) -> set[str]:
    """Return the S3 codes that an error may stand for.

    Some stores send their errors as `text/xml`, which the SDK does not parse; the code is then
    searched in the body.
    """
    if isinstance(error, S3Error):
        return {error.code or ""}
    known = (*_ABSENT, "BucketAlreadyOwnedByYou", "BucketAlreadyExists")
    return {
        code
        for code in known
        if isinstance(error, InvalidResponseError) and f"<Code>{code}<" in str(error)
    }


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except MinioException as error:
        if _codes(error) & _ABSENT:
            raise ObjectMissing from error
        code = error.code if isinstance(error, S3Error) else type(error).__name__
        raise StoreUnavailable(
            f"The object store refused the request ({code})."
        ) from error
    except (ParseError, ValueError) as error:
        raise StoreUnavailable(
            f"The object store's answer makes no sense ({type(error).__name__})."
        ) from error
    except (HTTPError, OSError) as error:
        raise StoreUnavailable(
            f"The object store does not answer ({type(error).__name__})."
        ) from error
