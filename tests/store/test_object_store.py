"""The store as Rowcast uses it: a real one, a dead one, a silent one, and one that answers
nonsense."""

from __future__ import annotations

import hashlib
import io
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import requests

from rowcast.config import Settings
from rowcast.errors import DatasetChanged, StoreUnavailable
from rowcast.ids import new_id
from rowcast.store import datasets, object_store, patience
from rowcast.store.answers import ObjectMissing, ObjectTooLarge
from rowcast.store.object_store import Storage
from tests.support import ROOT
from tests.support.ids import id_at
from tests.support.stack import Stack
from tests.support.waiting import eventually

FOREIGN = "16fd2706-8baf-433b-82eb-8c7fada847da"

# Whatever is asked of a store that is out of order, it is the store's fault.
CALLS: dict[str, Callable[[Storage, Path], Any]] = {
    "check_buckets": lambda storage, path: storage.check_buckets(),
    "version": lambda storage, path: storage.version(
        "datasets", "acme", new_id(), "data"
    ),
    "read": lambda storage, path: storage.read("datasets", "acme", new_id(), "data"),
    "download": lambda storage, path: storage.download(
        "datasets", "acme", new_id(), "data", path
    ),
    "write": lambda storage, path: storage.write(
        "datasets", "acme", new_id(), "data", b"x"
    ),
    "names": lambda storage, path: storage.names("datasets", "acme", new_id()),
    "newest": lambda storage, path: list(storage.newest("datasets", "acme")),
    "owners": lambda storage, path: storage.owners("datasets"),
    "days": lambda storage, path: storage.days("datasets", "acme"),
    "on_day": lambda storage, path: storage.on_day("datasets", "acme", "2026-01-01"),
    "keys": lambda storage, path: storage.keys("datasets"),
    "is_empty": lambda storage, path: storage.is_empty("datasets"),
    "copy_out": lambda storage, path: storage.copy_out("datasets", "acme/x", path),
    "copy_in": lambda storage, path: storage.copy_in(
        "datasets", "acme/x", Path(__file__)
    ),
    "uploaded": lambda storage, path: datasets.uploaded(storage, "acme", new_id()),
    "delete": lambda storage, path: storage.delete(
        "datasets", "acme", new_id(), ["data", "more"]
    ),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture(scope="module")
def storage(stack: Stack) -> Storage:
    return stack.storage()


@pytest.fixture
def dataset_id(storage: Storage) -> str:
    """Return a dataset of acme's that holds 10 bytes."""
    identifier = new_id()
    storage.write("datasets", "acme", identifier, "data", b"0123456789")
    return identifier


def offline(**settings: Any) -> Storage:
    return Storage(
        Settings(s3_access_key="access-key", s3_secret_key="secret-key", **settings)
    )


# Objects


@pytest.mark.parametrize("content", [b"", b"x", b"0123456789"])
def test_object_comes_back_as_it_was_written(content: bytes, storage: Storage) -> None:
    identifier = new_id()
    storage.write("results", "acme", identifier, "1/manifest.json", content)
    assert storage.read("results", "acme", identifier, "1/manifest.json") == content
    assert storage.version(
        "results", "acme", identifier, "1/manifest.json"
    ).size == len(content)


def test_part_of_an_object_can_be_read(storage: Storage, dataset_id: str) -> None:
    assert (
        storage.read("datasets", "acme", dataset_id, "data", offset=3, length=4)
        == b"3456"
    )


def test_object_that_is_too_large_is_not_read_into_memory(
    storage: Storage, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = storage.version("datasets", "acme", dataset_id, "data").size
    monkeypatch.setattr(object_store, "MAX_WHOLE_BYTES", size)
    assert len(storage.read("datasets", "acme", dataset_id, "data")) == size
    monkeypatch.setattr(object_store, "MAX_WHOLE_BYTES", size - 1)
    with pytest.raises(ObjectTooLarge, match="more than"):
        storage.read("datasets", "acme", dataset_id, "data")


def test_large_file_comes_back_with_its_digest(
    storage: Storage, tmp_path: Path
) -> None:
    content, identifier = bytes(range(256)) * (12 << 12), new_id()
    (tmp_path / "large").write_bytes(content)
    storage.write("datasets", "acme", identifier, "data", tmp_path / "large")
    digest = storage.download("datasets", "acme", identifier, "data", tmp_path / "copy")
    assert digest == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "copy").read_bytes() == content


def test_names_are_those_below_the_id_in_all_its_folders(storage: Storage) -> None:
    identifier = new_id()
    for name in ("1/model.joblib", "1/manifest.json", "canceled", "record/1.json"):
        storage.write("models", "acme", identifier, name, b"x")
    found = storage.names("models", "acme", identifier)
    assert sorted(found) == [
        "1/manifest.json",
        "1/model.joblib",
        "canceled",
        "record/1.json",
    ]


def test_overwriting_changes_the_version_and_reading_does_not(
    storage: Storage, dataset_id: str
) -> None:
    before = storage.version("datasets", "acme", dataset_id, "data")
    assert storage.version("datasets", "acme", dataset_id, "data") == before
    storage.write("datasets", "acme", dataset_id, "data", b"9876543210")
    assert storage.version("datasets", "acme", dataset_id, "data") != before


def test_download_takes_the_expected_version_only(
    storage: Storage, dataset_id: str, tmp_path: Path
) -> None:
    noted = storage.version("datasets", "acme", dataset_id, "data")
    storage.download(
        "datasets", "acme", dataset_id, "data", tmp_path / "copy", expected=noted
    )
    storage.write("datasets", "acme", dataset_id, "data", b"9876543210")
    with pytest.raises(DatasetChanged, match=dataset_id):
        storage.download(
            "datasets", "acme", dataset_id, "data", tmp_path / "copy", expected=noted
        )


def test_version_of_a_large_object_is_the_same_by_asking_and_by_reading(
    storage: Storage, tmp_path: Path
) -> None:
    identifier = new_id()
    storage.write("datasets", "acme", identifier, "data", bytes(6_000_000))
    noted = storage.version("datasets", "acme", identifier, "data")
    storage.download(
        "datasets", "acme", identifier, "data", tmp_path / "copy", expected=noted
    )
    assert noted.size == 6_000_000


@pytest.mark.parametrize("identifier", [new_id(), FOREIGN], ids=["unknown", "foreign"])
@pytest.mark.parametrize("name", ["version", "read", "download"])
def test_object_that_is_not_there_is_missing(
    name: str, identifier: str, storage: Storage, tmp_path: Path
) -> None:
    path = [tmp_path / "copy"] if name == "download" else []
    with pytest.raises(ObjectMissing):
        getattr(storage, name)("datasets", "acme", identifier, "data", *path)


@pytest.mark.parametrize("identifier", [new_id(), FOREIGN], ids=["unknown", "foreign"])
def test_id_without_objects_has_no_names(identifier: str, storage: Storage) -> None:
    assert storage.names("models", "acme", identifier) == []


def test_object_of_another_owner_is_not_there(
    storage: Storage, dataset_id: str
) -> None:
    with pytest.raises(ObjectMissing):
        storage.version("datasets", "other", dataset_id, "data")
    with pytest.raises(ObjectMissing):
        storage.read("datasets", "acm", dataset_id, "data")
    assert storage.names("datasets", "other", dataset_id) == []


def test_fault_of_the_local_disk_is_not_blamed_on_the_store(
    storage: Storage, dataset_id: str, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        storage.download(
            "datasets", "acme", dataset_id, "data", tmp_path / "no folder" / "copy"
        )


# Listing and deleting


@pytest.fixture(scope="module")
def history(storage: Storage) -> list[str]:
    """Return ids of the owner `annals`, newest first, over years, days, hours, and within a
    millisecond."""
    moments = [
        "2026-03-02T09:59:59",
        "2026-03-02T00:00:00",
        "2026-03-01T23:59:59",
        "2025-12-31T10:00:00",
    ]
    ids = [
        id_at(datetime.fromisoformat(f"{at}+00:00"), number)
        for at in moments
        for number in (2, 1)
    ]
    for identifier in ids:
        storage.write("results", "annals", identifier, "1/manifest.json", b"{}")
    return ids


def test_ids_are_listed_newest_first(storage: Storage, history: list[str]) -> None:
    assert list(storage.newest("results", "annals")) == history


@pytest.mark.parametrize("position", range(8))
def test_listing_goes_on_after_any_id(
    position: int, storage: Storage, history: list[str]
) -> None:
    found = storage.newest("results", "annals", before=history[position])
    assert list(found) == history[position + 1 :]


def test_listing_goes_on_after_an_id_that_is_gone(
    storage: Storage, history: list[str]
) -> None:
    gone = id_at(datetime.fromisoformat("2026-03-02T05:00:00+00:00"))
    assert list(storage.newest("results", "annals", before=gone)) == history[2:]


def test_listing_asks_for_no_more_than_is_wanted(
    stack: Stack, history: list[str]
) -> None:
    asked: list[str] = []

    class Watched(Storage):
        """A store that notes what is listed."""

        def _folders(
            self, bucket: Any, folder: str, after: str, before: str
        ) -> list[str]:
            asked.append(folder)
            return super()._folders(bucket, folder, after, before)

    assert next(Watched(stack.settings()).newest("results", "annals")) == history[0]
    assert asked == ["annals", "annals/2026-03-02", "annals/2026-03-02/09"]


def test_objects_of_other_shapes_are_passed_over(storage: Storage) -> None:
    identifier = id_at(datetime.fromisoformat("2026-03-02T09:00:00+00:00"))
    misplaced = id_at(datetime.fromisoformat("2026-03-02T08:00:00+00:00"))
    keys = [
        "a note",
        "2026-03-02 (copy)/09/x",
        "2026-03-02/9/x",
        "2026-03-02/09/not an id/x",
        f"2026-03-02/09/{misplaced}/x",
        f"2026-03-02/09/{FOREIGN}/x",
        f"2026-03-02/09/{id_at(datetime.fromisoformat('2026-03-02T09:10:00+00:00'))}",
        f"9999-99-99/99/{identifier}/x",
    ]
    for key in keys:
        storage._client.put_object("results", f"odd/{key}", io.BytesIO(b""), 0)
    storage.write("results", "odd", identifier, "x", b"")
    assert list(storage.newest("results", "odd")) == [identifier]


def test_owner_without_anything_has_no_ids(
    storage: Storage, history: list[str]
) -> None:
    for owner in ("annal", "annals2", "nobody"):
        assert list(storage.newest("results", owner)) == []


def test_deleted_objects_are_gone_and_others_stay(storage: Storage) -> None:
    identifier = new_id()
    for name in ("1/model.joblib", "1/manifest.json", "record/1.json"):
        storage.write("models", "acme", identifier, name, b"x")
    storage.delete(
        "models",
        "acme",
        identifier,
        ["1/manifest.json", "never there", "record/1.json"],
    )
    assert storage.names("models", "acme", identifier) == ["1/model.joblib"]


def test_size_and_time_of_an_upload_are_told(storage: Storage, dataset_id: str) -> None:
    size, uploaded_at, _ = datasets.uploaded(storage, "acme", dataset_id)
    assert size == 10
    assert uploaded_at == pytest.approx(time.time(), abs=60)


# Presigned URLs


def test_upload_url_takes_bytes_and_download_url_gives_them(storage: Storage) -> None:
    identifier = new_id()
    put = requests.put(
        storage.upload_url("acme", identifier, 60), data=b"bytes", timeout=10
    )
    got = requests.get(
        storage.download_url("datasets", "acme", identifier, "data", 60), timeout=10
    )
    assert (put.status_code, got.status_code, got.content) == (200, 200, b"bytes")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/datasets/acme/", "/datasets/other/"),
        ("X-Amz-Expires=60", "X-Amz-Expires=6000"),
        ("Signature=", "Signature=0"),
    ],
    ids=["other owner", "longer life", "other signature"],
)
def test_url_that_was_tampered_with_is_refused(
    old: str, new: str, storage: Storage, dataset_id: str
) -> None:
    url = storage.download_url("datasets", "acme", dataset_id, "data", 60)
    storage.write("datasets", "other", dataset_id, "data", b"secret")
    assert old in url
    assert requests.get(url.replace(old, new), timeout=10).status_code in (400, 403)


def test_download_url_does_not_let_write(storage: Storage, dataset_id: str) -> None:
    url = storage.download_url("datasets", "acme", dataset_id, "data", 60)
    assert requests.put(url, data=b"changed", timeout=10).status_code in (400, 403)
    assert storage.read("datasets", "acme", dataset_id, "data") == b"0123456789"


def test_url_without_its_signature_is_refused(
    storage: Storage, dataset_id: str
) -> None:
    url = storage.download_url("datasets", "acme", dataset_id, "data", 60)
    assert requests.get(url.partition("?")[0], timeout=10).status_code in (400, 403)


def test_expired_url_is_refused(storage: Storage, dataset_id: str) -> None:
    download = storage.download_url("datasets", "acme", dataset_id, "data", 1)
    upload = storage.upload_url("acme", dataset_id, 1)
    eventually(lambda: requests.get(download, timeout=10).status_code in (400, 403))
    assert requests.put(upload, data=b"late", timeout=10).status_code in (400, 403)
    assert storage.read("datasets", "acme", dataset_id, "data") == b"0123456789"


@pytest.mark.parametrize(
    ("internal", "origin"),
    [(False, "https://files.example.org/"), (True, "http://minio:9000/")],
)
def test_url_names_the_public_endpoint_unless_asked_from_inside(
    internal: bool, origin: str
) -> None:
    storage = offline(
        s3_endpoint="http://minio:9000", s3_public_endpoint="https://files.example.org"
    )
    assert storage.upload_url("acme", new_id(), 60, internal=internal).startswith(
        origin
    )
    assert storage.download_url(
        "results", "acme", new_id(), "x", 60, internal=internal
    ).startswith(origin)


def test_url_names_the_bucket_that_the_settings_name() -> None:
    url = offline(datasets_bucket="tables-of-eu").upload_url("acme", new_id(), 60)
    assert urlsplit(url).path.startswith("/tables-of-eu/acme/")


def test_signing_needs_no_store(closed_port: int) -> None:
    storage = offline(s3_endpoint=f"http://127.0.0.1:{closed_port}")
    assert f":{closed_port}/" in storage.upload_url("acme", new_id(), 60)


# Buckets


@pytest.fixture
def new_buckets(stack: Stack) -> Iterator[dict[str, str]]:
    """Return settings that name three buckets that are not there; they are removed afterwards."""
    names = {
        f"{kind}_bucket": f"{kind}-{uuid4().hex[:8]}"
        for kind in ("datasets", "models", "results")
    }
    yield names
    client = stack.storage()._client
    for name in names.values():
        for item in client.list_objects(name, recursive=True):
            client.remove_object(name, item.object_name or "")
        client.remove_bucket(name)


def test_many_threads_create_the_buckets_at_once(
    stack: Stack, new_buckets: dict[str, str]
) -> None:
    storages = [Storage(stack.settings(**new_buckets)) for _ in range(8)]
    together = threading.Barrier(16)

    def ensure(storage: Storage) -> None:
        together.wait()
        storage.ensure_buckets()

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ensure, storages * 2)) == [None] * 16
    identifier = new_id()
    storages[0].write("results", "acme", identifier, "x", b"")
    assert storages[1].names("results", "acme", identifier) == ["x"]


def test_many_processes_create_the_buckets_at_once(
    stack: Stack, new_buckets: dict[str, str]
) -> None:
    settings = stack.settings(**new_buckets)
    code = """
import sys
from rowcast.config import Settings
from rowcast.store import Storage
storage = Storage(Settings())
sys.stdin.readline()
storage.ensure_buckets()
storage.check_buckets()
"""
    variables = {
        "S3_ENDPOINT": settings.s3_endpoint,
        "S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
        "S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        **{name.upper(): value for name, value in new_buckets.items()},
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 4


# Outages


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@each_call
def test_store_that_is_down_is_unavailable_at_once(
    call: Callable[[Storage, Path], Any], closed_port: int, tmp_path: Path
) -> None:
    started_s = time.monotonic()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        call(offline(s3_endpoint=f"http://127.0.0.1:{closed_port}"), tmp_path / "copy")
    assert time.monotonic() - started_s < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["check_buckets", "read"])
def test_store_that_never_answers_is_unavailable_within_3_s(
    name: str, silent_port: int, tmp_path: Path
) -> None:
    started_s = time.monotonic()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        CALLS[name](
            offline(s3_endpoint=f"http://127.0.0.1:{silent_port}"), tmp_path / "copy"
        )
    assert time.monotonic() - started_s < 4


@each_call
def test_wrong_secret_is_a_refusal_of_the_store(
    call: Callable[[Storage, Path], Any], stack: Stack, tmp_path: Path
) -> None:
    storage = Storage(stack.settings(s3_secret_key="not-the-secret-key"))
    with pytest.raises(StoreUnavailable, match="refused"):
        call(storage, tmp_path / "copy")


def test_bucket_that_was_deleted_makes_writing_unavailable(stack: Stack) -> None:
    storage = Storage(stack.settings(results_bucket=f"deleted-{uuid4().hex[:8]}"))
    with pytest.raises(StoreUnavailable):
        storage.write("results", "acme", new_id(), "1/manifest.json", b"{}")


Answer = tuple[int, dict[str, str], bytes]


class OddStore(ThreadingHTTPServer):
    """A server that gives every request the same answer."""

    daemon_threads = True
    answer: Answer = (500, {}, b"")


class _OddAnswers(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        assert isinstance(self.server, OddStore)
        status, headers, body = self.server.answer
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - the names are http.server's

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name is http.server's
        """Send nothing."""


@pytest.fixture(scope="module")
def odd_store() -> Iterator[OddStore]:
    with OddStore(("127.0.0.1", 0), _OddAnswers) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()
        yield server
        server.shutdown()
        thread.join()


PAGE = (b"<html><body>Hello.</body></html>", {"Content-Type": "text/html"})
XML = {"Content-Type": "application/xml"}


@each_call
@pytest.mark.parametrize(
    "answer",
    [
        (500, {}, b"oops"),
        (502, PAGE[1], PAGE[0]),
        (
            503,
            XML,
            b"<Error><Code>SlowDown</Code><Message>m</Message><Resource>r</Resource></Error>",
        ),
        (403, PAGE[1], PAGE[0]),
        (302, {"Location": "http://127.0.0.1:9/elsewhere"}, b""),
    ],
    ids=["500", "502", "503", "403", "redirect"],
)
def test_odd_answer_means_that_the_store_is_unavailable(
    answer: Answer,
    call: Callable[[Storage, Path], Any],
    odd_store: OddStore,
    tmp_path: Path,
) -> None:
    odd_store.answer = answer
    with pytest.raises(StoreUnavailable):
        call(
            offline(s3_endpoint=f"http://127.0.0.1:{odd_store.server_port}"),
            tmp_path / "copy",
        )


@pytest.mark.parametrize(
    "body",
    [b"", PAGE[0], b"<html>", b"\x00\x01"],
    ids=["nothing", "page", "cut", "bytes"],
)
def test_listing_that_is_no_listing_means_that_the_store_is_unavailable(
    body: bytes, odd_store: OddStore
) -> None:
    odd_store.answer = (200, PAGE[1], body)
    with pytest.raises(StoreUnavailable):
        offline(s3_endpoint=f"http://127.0.0.1:{odd_store.server_port}").names(
            "models", "acme", new_id()
        )


@pytest.mark.parametrize("name", ["read", "download"])
def test_answer_that_breaks_off_is_not_taken_for_the_object(
    name: str, odd_store: OddStore, tmp_path: Path
) -> None:
    odd_store.answer = (200, {"Content-Length": "100"}, b"only this")
    with pytest.raises(StoreUnavailable):
        CALLS[name](
            offline(s3_endpoint=f"http://127.0.0.1:{odd_store.server_port}"),
            tmp_path / "copy",
        )


def test_store_without_tags_tells_versions_apart_by_size_and_time(
    odd_store: OddStore,
) -> None:
    odd_store.answer = (
        200,
        {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
        b"0123456789",
    )
    storage = offline(s3_endpoint=f"http://127.0.0.1:{odd_store.server_port}")
    before = storage.version("datasets", "acme", new_id(), "data")
    odd_store.answer = (
        200,
        {"Last-Modified": "Mon, 01 Jan 2024 00:00:01 GMT"},
        b"0123456789",
    )
    after = storage.version("datasets", "acme", new_id(), "data")
    assert (before.size, after.size) == (10, 10)
    assert before != after


def test_date_that_cannot_be_read_means_that_the_store_is_unavailable(
    odd_store: OddStore,
) -> None:
    odd_store.answer = (200, {"Last-Modified": "yesterday"}, b"0123456789")
    with pytest.raises(StoreUnavailable):
        CALLS["version"](
            offline(s3_endpoint=f"http://127.0.0.1:{odd_store.server_port}"), Path()
        )


def test_store_that_only_refuses_one_object_is_not_waited_for_like_an_outage(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(stack.settings(), patience.through_outage(3600))
    monkeypatch.setattr(object_store, "ONE_OBJECT_WAIT_S", 0.5)
    identifier = new_id()
    storage.write("models", "default", identifier, "1", b"a file, not a folder")
    with pytest.raises(StoreUnavailable, match=f"{identifier}/1/manifest.json"):
        storage.write("models", "default", identifier, "1/manifest.json", b"{}")
    storage.write("models", "default", identifier, "2/manifest.json", b"{}")
