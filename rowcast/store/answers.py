"""What the object store answers: versions of objects, and errors, which become ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error
from urllib3.exceptions import HTTPError

from rowcast.errors import StoreUnavailable

_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "NotFound", "ResourceNotFound"})
_BUCKET_EXISTS = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


class ObjectMissing(Exception):
    """The object does not exist; callers raise the error that names the dataset, model or job."""


class ObjectTooLarge(ValueError):
    """The object is larger than what may be read into memory; to callers it is damaged."""


@dataclass(frozen=True)
class Version:
    """One state of an object: its size in bytes, and its ETag with the time of writing."""

    size: int
    tag: str


def version_of(
    size: int | None, etag: str | None, written_at: datetime | None
) -> Version:
    """Return the version that a HEAD request describes."""
    tag = (etag or "").strip('"')
    # Some stores give no ETag. The time distinguishes versions there, in the whole seconds of HTTP.
    seconds = int(written_at.timestamp()) if written_at else 0
    return Version(size or 0, f"{tag}@{seconds}")


def version_in(headers: Mapping[str, str]) -> Version:
    """Return the version that the headers of a GET request describe."""
    size = int(headers.get("content-length", 0))
    written_at = headers.get("last-modified")
    moment = parsedate_to_datetime(written_at) if written_at else None
    return version_of(size, headers.get("etag"), moment)


@contextmanager
def our_errors(about: str = "") -> Iterator[None]:
    """Raise our errors in place of those of the SDK and of the connection below it.

    `about`: the object that a refusal names.

    Raises:
        ObjectMissing: the object or its bucket does not exist.
        StoreUnavailable: the store does not answer, refuses, or its answer cannot be parsed.
    """
    try:
        yield
    except MinioException as error:
        if _codes_in(error) & _MISSING:
            raise ObjectMissing from error
        code = error.code if isinstance(error, S3Error) else type(error).__name__
        what = f"the request for {about}" if about else "the request"
        raise StoreUnavailable(f"The object store refused {what} ({code}).") from error
    except (ParseError, ValueError) as error:
        raise StoreUnavailable(
            f"The object store's answer cannot be parsed ({type(error).__name__})."
        ) from error
    except (HTTPError, OSError) as error:
        raise StoreUnavailable(
            f"The object store does not answer ({type(error).__name__})."
        ) from error


def says_bucket_exists(error: MinioException) -> bool:
    """Return whether creating a bucket failed because another process has created it."""
    return bool(_codes_in(error) & _BUCKET_EXISTS)


def _codes_in(error: MinioException) -> set[str]:
    """Return the S3 codes that an error may stand for.

    Some stores send their errors as `text/xml`, which the SDK does not parse. Their code is
    searched for in the body.
    """
    if isinstance(error, S3Error):
        return {error.code or ""}
    if not isinstance(error, InvalidResponseError):
        return set()
    body = str(error)
    return {code for code in _MISSING | _BUCKET_EXISTS if f"<Code>{code}<" in body}
