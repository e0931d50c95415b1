"""Tables and jobs that the service already has."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from client import Client
from tests.support.fake_service import D1, D2, Reply, Server
from tests.support.tables import table as numbers

LARGE = bytes(range(250)) * 5_000


def digest_of(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def offered(service: Server) -> list[dict[str, Any]]:
    """Return what the client has said of each upload."""
    return [json.loads(request.body) for request in service.received("/upload")]


def test_large_table_that_the_service_has_is_not_sent_again(
    client: Client, service: Server, store: Server, table: Path
) -> None:
    table.write_bytes(LARGE)
    answer = {"id": D2, "url": None, "expires_at": None, "exists": True}
    service.queued["/upload"] = [Reply(200, answer)] * 2
    assert client.upload(table) == D2
    assert client.fit(LARGE) == "j1"
    assert offered(service) == [digest_of(LARGE)] * 2
    assert json.loads(service.requests[-1].body) == {"id": D2}
    assert store.requests == []


def test_large_table_that_the_service_lacks_is_uploaded(
    client: Client, service: Server, objects: dict[str, bytes]
) -> None:
    client.upload(LARGE)
    assert objects["/datasets/d1"] == LARGE


def test_large_dataframe_is_known_by_the_bytes_of_its_parquet(
    client: Client, service: Server, objects: dict[str, bytes]
) -> None:
    frame = pd.DataFrame({"a": range(200_000), "b": [i * 0.1 for i in range(200_000)]})
    client.upload(frame)
    client.upload(frame)
    assert offered(service) == [digest_of(objects["/datasets/d1"])] * 2


def test_large_pipe_is_read_once_and_open_file_from_its_position(
    client: Client, service: Server, objects: dict[str, bytes], table: Path
) -> None:
    script = "import sys; sys.stdout.write('a' * 2_000_000)"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        pipe: Any = writer.stdout
        client.upload(pipe)
    assert objects["/datasets/d1"] == b"a" * 2_000_000
    table.write_bytes(b"before" + LARGE)
    with table.open("rb") as file:
        file.seek(6)
        client.upload(file)
    assert objects["/datasets/d1"] == LARGE
    assert offered(service) == [digest_of(b"a" * 2_000_000), digest_of(LARGE)]


def test_small_tables_and_new_datasets_are_uploaded_without_a_digest(
    client: Client, service: Server, objects: dict[str, bytes]
) -> None:
    client.upload(LARGE[:1_000_000])
    client.upload(LARGE, reuse=False)
    assert offered(service) == [{}, {}]
    assert objects["/datasets/d1"] == LARGE


def test_reused_job_is_listed_once(client: Client, service: Server) -> None:
    service.queued["/fit"] = [Reply(200, {"id": "j0", "reused": True})] * 2
    assert client.fit(D1, None, reuse=True) == "j0"
    assert client.fit(D1, reuse=True) == "j0"
    assert client.jobs == [{"id": "j0", "kind": "fit"}]
    assert json.loads(service.requests[0].body) == {"id": D1, "reuse": True}


def test_bytes_that_a_job_has_read_are_not_sent_again(
    live: Client, tmp_path: Path
) -> None:
    frame = numbers(15_000, 10, seed=7)
    dataset_id = live.upload(frame)
    live.fit(dataset_id, None, validation="none")
    assert live.upload(frame) == dataset_id
    assert live.upload(frame, reuse=False) != dataset_id


def test_reuse_returns_the_earlier_job(live: Client) -> None:
    dataset_id = live.upload(numbers(60, 2, seed=8))
    model_id = live.fit(dataset_id, None, validation="none")
    assert live.fit(dataset_id, None, validation="none", reuse=True) == model_id
    assert live.fit(dataset_id, None, validation="none") != model_id
    assert len(live.jobs) == 2
