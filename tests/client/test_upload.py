"""Uploads of files, bytes, pipes and DataFrames."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from client import APIError, Client, RowcastError, ServiceUnreachableError
from tests.support.fake_service import D1, DROP, Handler, Reply, Request, Server
from tests.support.terminal import run_python

MIXED = pd.Series([1, "two"], dtype=object)


def test_upload_puts_the_file_unchunked_and_returns_the_id(
    client: Client, store: Server, table: Path
) -> None:
    assert client.upload(table) == D1
    (put,) = store.requests
    assert (put.method, put.path) == ("PUT", "/datasets/d1")
    assert put.body == table.read_bytes()
    assert put.headers["content-length"] == "17"
    assert "transfer-encoding" not in put.headers


def test_empty_file_is_uploaded_with_content_length_0(
    client: Client, store: Server, table: Path
) -> None:
    table.write_bytes(b"")
    client.upload(table)
    assert store.requests[0].headers["content-length"] == "0"
    assert "transfer-encoding" not in store.requests[0].headers


@pytest.mark.parametrize(
    "convert", [str, Path, Path.read_bytes, lambda p: bytearray(p.read_bytes())]
)
def test_upload_accepts_paths_and_bytes(
    client: Client, objects: dict[str, bytes], table: Path, convert: Any
) -> None:
    client.upload(convert(table))
    client.upload(memoryview(table.read_bytes()))
    assert objects["/datasets/d1"] == table.read_bytes()


def test_upload_of_an_open_file_begins_at_its_position(
    client: Client, objects: dict[str, bytes], table: Path
) -> None:
    with table.open("rb") as file:
        file.seek(5)
        client.upload(file)
        assert not file.closed
    assert objects["/datasets/d1"] == b"and the rest"


def test_upload_of_a_pipe_sends_all_of_it(client: Client, store: Server) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        client.upload(pipe)
    assert store.requests[0].body == b"from a pipe"
    assert store.requests[0].headers["content-length"] == "11"


def test_upload_of_a_dataframe_sends_parquet_without_its_index(
    client: Client, objects: dict[str, bytes]
) -> None:
    frame = pd.DataFrame({"a": [1, 2], "y": ["no", "yes"]}, index=[7, 5])
    client.upload(frame)
    sent = pd.read_parquet(io.BytesIO(objects["/datasets/d1"]))
    pd.testing.assert_frame_equal(sent, frame.reset_index(drop=True))


@pytest.mark.parametrize("source", [3, None, io.StringIO("a,b")])
def test_upload_of_anything_else_is_a_type_error_before_any_request(
    client: Client, service: Server, source: Any
) -> None:
    with pytest.raises(TypeError, match="A table must be a path"):
        client.upload(source)
    assert service.requests == []


def test_missing_path_is_a_file_not_found_error_before_any_request(
    client: Client, service: Server, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "none.parquet")
    assert service.requests == []


@pytest.mark.parametrize("fault", [DROP, Reply(500), Reply(503), Reply(429)])
def test_upload_is_repeated_from_its_start(
    client: Client,
    store: Server,
    objects: dict[str, bytes],
    table: Path,
    pauses: list[float],
    fault: Any,
) -> None:
    store.queued["/datasets/d1"] = [fault, fault]
    client.upload(table)
    assert [put.body for put in store.requests] == [table.read_bytes()] * 3
    assert objects["/datasets/d1"] == table.read_bytes()


def test_upload_follows_no_redirect(
    client: Client, store: Server, objects: dict[str, bytes], table: Path
) -> None:
    headers = {"Location": f"{store.url}/elsewhere"}
    store.queued["/datasets/d1"] = [Reply(307, headers=headers)]
    with pytest.raises(APIError, match="follows no redirect"):
        client.upload(table)
    assert "/elsewhere" not in objects


def test_rejected_upload_is_not_repeated_and_hides_the_signature(
    client: Client, store: Server, table: Path, pauses: list[float]
) -> None:
    denied = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    store.queued["/datasets/d1"] = [Reply(403, denied)]
    message = "answered 403: AccessDenied Request has expired"
    with pytest.raises(APIError, match=message) as raised:
        client.upload(table)
    assert "secret" not in str(raised.value)
    assert pauses == []


@pytest.mark.usefixtures("pauses")
def test_unreachable_store_is_named_and_hides_the_signature(
    client: Client, service: Server, table: Path, free_port: int
) -> None:
    url = f"http://127.0.0.1:{free_port}/datasets/d1?X-Amz-Signature=secret"
    service.queued["/upload"] = [Reply(200, {"id": "d1", "url": url})]
    message = f"{free_port}: Connection refused"
    with pytest.raises(ServiceUnreachableError, match=message) as raised:
        client.upload(table)
    assert "secret" not in str(raised.value)


def test_store_may_be_silent_for_longer_than_the_service(
    service: Server, store: Server, table: Path
) -> None:
    def slow(_request: Request) -> Reply:
        time.sleep(0.6)
        return Reply()

    store.queued["/datasets/d1"] = [slow]
    with Client(service.url, timeout_s=0.3) as client:
        assert client.upload(table) == D1
    assert len(store.requests) == 1


@pytest.mark.parametrize("n_bytes", [1 << 20, 3 << 20])
def test_file_that_changes_its_length_is_rejected_and_nothing_is_stored(
    client: Client,
    service: Server,
    objects: dict[str, bytes],
    table: Path,
    n_bytes: Any,
) -> None:
    def change(request: Request) -> Reply:
        os.truncate(table, n_bytes)
        return service.answer(request)

    os.truncate(table, 2 << 20)
    service.queued["/upload"] = [change]
    with pytest.raises(RowcastError, match="changed its length from 2097152 bytes"):
        client.upload(table)
    assert "/datasets/d1" not in objects


PEAK = """
import sys, client
client.Client(sys.argv[1]).upload(sys.argv[2])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_upload_needs_little_memory(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    n_bytes = 300_000_000
    received = []

    class Sink(Handler):
        def do_PUT(self) -> None:  # noqa: N802 - http.server looks for this name
            left = int(self.headers["Content-Length"])
            received.append(left)
            buffer = bytearray(1 << 20)
            while left:
                wanted = memoryview(buffer)[: min(left, len(buffer))]
                left -= self.rfile.readinto(wanted)
            self.write(Reply())

    server: Server = serve(
        lambda _request: Reply(200, {"id": "d1", "url": f"{server.url}/d1"})
    )
    server.RequestHandlerClass = Sink
    path = tmp_path / "large.parquet"
    path.touch()
    os.truncate(path, n_bytes)
    peak_kb = int(run_python("-c", PEAK, server.url, str(path)).stdout)
    assert received == [n_bytes]
    assert peak_kb < 100_000


def test_names_of_columns_become_text(
    client: Client, objects: dict[str, bytes]
) -> None:
    client.upload(pd.DataFrame([[1, 2]], columns=[0, ("a", 1)]))
    sent = pd.read_parquet(io.BytesIO(objects["/datasets/d1"]))
    assert list(sent.columns) == ["0", "('a', 1)"]


@pytest.mark.parametrize(
    ("frame", "culprit"),
    [
        (pd.DataFrame({"a": [1, 2], "b": MIXED}), "column 'b'"),
        (pd.DataFrame({"a": [1, 2], "b": [1j, 2j]}), "column 'b'"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "Duplicate column names"),
    ],
)
def test_column_that_cannot_be_written_is_named(
    client: Client, service: Server, frame: Any, culprit: Any
) -> None:
    with pytest.raises(RowcastError, match="cannot be written as Parquet") as raised:
        client.upload(frame)
    assert culprit in str(raised.value)
    assert service.requests == []
