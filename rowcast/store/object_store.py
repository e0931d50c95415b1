"""The three buckets of the object store: presign, read, write, list, delete.

Bucket, owner, id and a name below the id's folder (see `ids.folder_of`) identify an object. The
store needs to support only PUT, GET, HEAD, DELETE, LIST and multipart uploads, so any S3 will do.
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.datatypes import Object, PostPolicy
from minio.error import MinioException

from rowcast.config import Settings
from rowcast.errors import DatasetChanged, StoreUnavailable
from rowcast.ids import folder_of
from rowcast.store import answers, time_index
from rowcast.store.answers import ObjectMissing, ObjectTooLarge, Version, our_errors
from rowcast.store.patience import SERVER, Patience

log = logging.getLogger("rowcast.storage")
Bucket = Literal["datasets", "models", "results"]
T = TypeVar("T")

# The largest object that is read into memory as a whole: manifests, records and logs. A manifest
# lists every column of a table.
MAX_WHOLE_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_PAUSE_S = 1.0
# Seconds for which a request is repeated that the store refuses, although it answers others.
ONE_OBJECT_WAIT_S = 60.0


class Listed(NamedTuple):
    """An object in a listing: its size in bytes, and the Unix seconds of its writing if known."""

    size: int
    written_at: float | None


class Storage:
    """The object store; connections are pooled, so make one per process, after forking.

    Every request raises StoreUnavailable where the store does not answer or refuses.
    """

    def __init__(
        self,
        settings: Settings,
        patience: Patience = SERVER,
        *,
        connections: int = 16,
    ) -> None:
        """Connect lazily: nothing is sent before the first call."""
        pool = patience.pool(connections)
        self._client = _client(settings, settings.s3_endpoint, pool)
        # These two only sign. With the region given, signing needs no network.
        self._inside = _client(settings, settings.s3_endpoint, pool)
        self._outside = _client(settings, settings.public_endpoint, pool)
        self._inside_endpoint = settings.s3_endpoint.rstrip("/")
        self._outside_endpoint = settings.public_endpoint.rstrip("/")
        self._buckets: dict[Bucket, str] = {
            "datasets": settings.datasets_bucket,
            "models": settings.models_bucket,
            "results": settings.results_bucket,
        }
        self._buckets_exist = False
        self._outage_s = patience.outage_s

    def ensure_buckets(self) -> None:
        """Create the missing buckets; any number of processes may do so in parallel."""
        # Without a lock: several threads may check in parallel, so that none waits for another
        # one's timeout.
        if not self._buckets_exist:
            self.check_buckets()
            self._buckets_exist = True

    def check_buckets(self) -> None:
        """Ask the store for each bucket now, and create the missing ones."""
        for name in self._buckets.values():
            with our_errors():
                if not self._client.bucket_exists(name):
                    self._make_bucket(name)

    def answers(self) -> bool:
        """Return whether the store answers at all, so that a failure concerns one object only."""
        try:
            self.check_buckets()
        except StoreUnavailable:
            return False
        return True

    def _make_bucket(self, name: str) -> None:
        try:
            self._client.make_bucket(name)
        except MinioException as error:
            if not answers.says_bucket_exists(error):
                raise

    def upload_url(
        self, owner: str, dataset_id: str, ttl_s: int, *, internal: bool = False
    ) -> str:
        """Sign a PUT of a dataset's bytes, valid for `ttl_s` seconds."""
        client = self._inside if internal else self._outside
        name = self._buckets["datasets"]
        key = _key(owner, dataset_id, "data")
        return client.presigned_put_object(name, key, timedelta(seconds=ttl_s))

    def upload_form(
        self,
        owner: str,
        dataset_id: str,
        expires_at: datetime,
        max_bytes: int,
        *,
        internal: bool = False,
    ) -> tuple[str, dict[str, str]]:
        """Sign a POST of a dataset's bytes, 1 to `max_bytes`; return its URL and its fields."""
        client = self._inside if internal else self._outside
        endpoint = self._inside_endpoint if internal else self._outside_endpoint
        bucket = self._buckets["datasets"]
        key = _key(owner, dataset_id, "data")
        policy = PostPolicy(bucket, expires_at)
        policy.add_equals_condition("key", key)
        policy.add_content_length_range_condition(1, max_bytes)
        fields = client.presigned_post_policy(policy)
        return f"{endpoint}/{bucket}", {"key": key, **fields}

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
        """Sign a GET of an object, valid for `ttl_s` seconds."""
        client = self._inside if internal else self._outside
        key = _key(owner, identifier, name)
        lifetime = timedelta(seconds=ttl_s)
        return client.presigned_get_object(self._buckets[bucket], key, lifetime)

    def version(
        self, bucket: Bucket, owner: str, identifier: str, name: str
    ) -> Version:
        """Return an object's size and tag. Raises ObjectMissing."""
        key = _key(owner, identifier, name)
        name = self._buckets[bucket]
        found = self._ask(lambda: self._client.stat_object(name, key), f"{name}/{key}")
        return answers.version_of(found.size, found.etag, found.last_modified)

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
        """Return `length` bytes of an object from `offset` on, 0: all.

        Raises:
            ObjectMissing: the object does not exist.
            ObjectTooLarge: more came than was asked for, or than MAX_WHOLE_BYTES.
        """
        key = _key(owner, identifier, name)
        most_bytes = length or MAX_WHOLE_BYTES
        with self._opened(bucket, key, offset, length) as response:
            content = bytes(response.read(most_bytes + 1))
        if len(content) > most_bytes:
            raise ObjectTooLarge(f"{name} has more than {most_bytes:,} bytes.")
        return content

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

        About once a MiB, `on_progress` is called with the bytes written and the size.

        Raises:
            DatasetChanged: the object is not the `expected` version.
            ObjectMissing: the object does not exist.
        """
        key = _key(owner, identifier, name)
        with path.open("wb") as file, self._opened(bucket, key) as response:
            found = answers.version_in(response.headers)
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
        """Write an object; readers see either nothing or all of it."""
        key = _key(owner, identifier, name)
        if isinstance(content, Path):
            self.copy_in(bucket, key, content)
        else:
            self._put(bucket, key, io.BytesIO(content), len(content))

    def read_key(self, bucket: Bucket, key: str) -> bytes:
        """Return the object of a key. Raises ObjectMissing."""
        with self._opened(bucket, key) as response:
            return bytes(response.read())

    def write_key(self, bucket: Bucket, key: str, content: bytes) -> None:
        """Write the object of a key."""
        self._put(bucket, key, io.BytesIO(content), len(content))

    def copy_in(self, bucket: Bucket, key: str, path: Path) -> None:
        """Write a file to the object of a key."""
        with path.open("rb") as file:
            self._put(bucket, key, file, path.stat().st_size)

    def copy_out(self, bucket: Bucket, key: str, path: Path) -> tuple[str, Version]:
        """Write the object of a key to `path`; return its SHA-256, in hexadecimal, and version.

        Raises:
            ObjectMissing: the object does not exist.
        """
        with path.open("wb") as file, self._opened(bucket, key) as response:
            digest = _save(response, file)
            return digest, answers.version_in(response.headers)

    def _put(self, bucket: Bucket, key: str, stream: BinaryIO, n_bytes: int) -> None:
        name = self._buckets[bucket]

        def put() -> None:
            stream.seek(0)
            self._client.put_object(name, key, stream, n_bytes)

        try:
            self._ask(put, f"{name}/{key}")
        except ObjectMissing as error:
            raise StoreUnavailable(f"The object store has no bucket {name}.") from error

    def names(self, bucket: Bucket, owner: str, identifier: str) -> list[str]:
        """Return the names of all objects of an id; none for an id that is not ours."""
        folder = folder_of(owner, identifier)
        if folder is None:
            return []
        keys = self._list(bucket, f"{folder}/", recursive=True)
        return [key.removeprefix(f"{folder}/") for key in keys]

    def listed(self, bucket: Bucket, owner: str, identifier: str) -> dict[str, Listed]:
        """Return the objects of an id by their names, with their sizes and times."""
        folder = folder_of(owner, identifier)
        if folder is None:
            return {}
        return {
            (item.object_name or "").removeprefix(f"{folder}/"): Listed(
                item.size or 0, _unix_seconds(item.last_modified)
            )
            for item in self._objects(bucket, f"{folder}/")
        }

    def newest(
        self, bucket: Bucket, owner: str, *, before: str | None = None
    ) -> Iterator[str]:
        """Yield the ids that have objects, newest first, from the next one after `before` on.

        Ids are listed as the caller consumes them, never the whole bucket.
        """
        return time_index.walk(partial(self._folders, bucket), owner, before)

    def owners(self, bucket: Bucket) -> list[str]:
        """Return the owners that have objects in a bucket."""
        return [name[:-1] for name in self._list(bucket, "") if name.endswith("/")]

    def days(self, bucket: Bucket, owner: str) -> list[str]:
        """Return the days, `yyyy-mm-dd`, of an owner's ids, the oldest first."""
        found = self._list(bucket, f"{owner}/")
        folders = [name.split("/")[1] for name in found if name.endswith("/")]
        return sorted(filter(time_index.DAY.fullmatch, folders))

    def on_day(
        self, bucket: Bucket, owner: str, day: str
    ) -> dict[str, dict[str, float]]:
        """Return the names of the objects of each id of a day, with their Unix seconds."""
        found: dict[str, dict[str, float]] = {}
        for item in self._objects(bucket, f"{owner}/{day}/"):
            folder, name = _split_key(item.object_name or "")
            identifier = time_index.id_of(owner, folder)
            if identifier:
                written_at = _unix_seconds(item.last_modified) or 0.0
                found.setdefault(identifier, {})[name] = written_at
        return found

    def sizes_on_day(
        self, bucket: Bucket, owner: str, day: str
    ) -> dict[str, dict[str, int]]:
        """Return the names of the objects of each id of a day, with their bytes."""
        found: dict[str, dict[str, int]] = {}
        for item in self._objects(bucket, f"{owner}/{day}/"):
            folder, name = _split_key(item.object_name or "")
            identifier = time_index.id_of(owner, folder)
            if identifier:
                found.setdefault(identifier, {})[name] = item.size or 0
        return found

    def sizes_of(self, bucket: Bucket, owner: str, identifier: str) -> dict[str, int]:
        """Return the names of all objects of an id, with their bytes."""
        folder = folder_of(owner, identifier)
        items = self._objects(bucket, f"{folder}/") if folder else []
        return {_split_key(item.object_name or "")[1]: item.size or 0 for item in items}

    def keys(self, bucket: Bucket) -> list[str]:
        """Return the keys of all objects of a bucket, including those that are not ours."""
        return self._list(bucket, "", recursive=True)

    def is_empty(self, bucket: Bucket) -> bool:
        """Return whether a bucket is empty or missing."""
        return not self._list(bucket, "")

    def _folders(
        self, bucket: Bucket, folder: str, after: str, before: str
    ) -> list[str]:
        """Return the sorted paths of a folder's folders that sort between two bounds."""

        def ask() -> list[str]:
            found = self._client.list_objects(
                self._buckets[bucket], f"{folder}/", start_after=after
            )
            paths = (item.object_name or "" for item in found)
            folders = (path for path in paths if path.endswith("/"))
            inside = takewhile(lambda path: path < before, folders)
            return [path[:-1] for path in inside]

        try:
            return self._ask(ask)
        except ObjectMissing:
            return []

    def _list(
        self, bucket: Bucket, prefix: str, *, recursive: bool = False
    ) -> list[str]:
        """Return the keys below a prefix; unless recursive, folders as paths with a slash."""
        found = self._objects(bucket, prefix, recursive=recursive)
        return [item.object_name or "" for item in found]

    def _objects(
        self, bucket: Bucket, prefix: str, *, recursive: bool = True
    ) -> list[Object]:
        """Return the objects below a prefix; none where the bucket is missing."""

        def ask() -> list[Object]:
            found = self._client.list_objects(
                self._buckets[bucket], prefix, recursive=recursive
            )
            return list(found)

        try:
            return self._ask(ask)
        except ObjectMissing:
            return []

    def delete(
        self, bucket: Bucket, owner: str, identifier: str, names: Sequence[str]
    ) -> None:
        """Delete objects of an id one by one, in order; missing ones are skipped."""
        for name in names:
            key = _key(owner, identifier, name)
            remove = partial(self._client.remove_object, self._buckets[bucket], key)
            with suppress(ObjectMissing):
                self._ask(remove)

    def _ask(self, ask: Callable[[], T], about: str = "") -> T:
        """Return what the store answers, and ask again through an outage of `_outage_s`.

        A store that answers, and only refuses this, is asked for ONE_OBJECT_WAIT_S. `about` is the
        object that errors name.
        """
        started_at = time.monotonic()
        while True:
            try:
                with our_errors(about):
                    return ask()
            except StoreUnavailable as error:
                waited_s = time.monotonic() - started_at
                if waited_s >= self._outage_s:
                    raise
                if waited_s >= ONE_OBJECT_WAIT_S and self.answers():
                    raise
                log.warning("%s Waiting for it.", error.detail)
            time.sleep(_PAUSE_S)

    @contextmanager
    def _opened(
        self, bucket: Bucket, key: str, offset: int = 0, length: int = 0
    ) -> Iterator[Any]:
        name = self._buckets[bucket]
        with our_errors(f"{name}/{key}"):
            response = self._client.get_object(name, key, offset, length)
            try:
                yield response
            finally:
                response.close()
                response.release_conn()


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


def _key(owner: str, identifier: str, name: str) -> str:
    folder = folder_of(owner, identifier)
    if folder is None:
        raise ObjectMissing(identifier)
    return f"{folder}/{name}"


def _split_key(key: str) -> tuple[str, str]:
    """Split an object's key into the folder of its id and its name there."""
    parts = key.split("/", 4)
    return "/".join(parts[:4]), "".join(parts[4:])


def _unix_seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


class _DiskError(Exception):
    """Writing to the local disk failed, which must not count as an error of the store."""


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


def _write_to_disk(file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise _DiskError(
            f"Writing to the scratch folder failed: {error.strerror}"
        ) from error
